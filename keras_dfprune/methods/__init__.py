"""The pruning methods, by the name that `method=` takes."""

from keras_dfprune.methods.base import Method
from keras_dfprune.methods.moments import Moments
from keras_dfprune.methods.saliency import Saliency

METHODS: dict[str, type[Method]] = {"saliency": Saliency, "moments": Moments}
