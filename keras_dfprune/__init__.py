"""Data-free structured pruning for Keras 3: a trained model in, narrower layers out.

>>> import keras_dfprune as dfprune
>>> dfprune.__version__
'0.1.0'
"""

import keras

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        "keras_dfprune works with the TensorFlow backend of Keras. Set the environment variable "
        f"KERAS_BACKEND=tensorflow. Received: backend '{keras.backend.backend()}'"
    )

from keras_dfprune.api import apply, plan
from keras_dfprune.callbacks import PostTrainPrune
from keras_dfprune.export import ExportError, ExportResult, export
from keras_dfprune.functionalize import functionalize
from keras_dfprune.group_plan import GroupPlan
from keras_dfprune.merge import CentroidMerge, LinearMerge, SurvivorMerge, UnitMerge
from keras_dfprune.methods import Moments, Saliency
from keras_dfprune.methods.base import Context, Curve, GroupView, Method
from keras_dfprune.plan import PruningPlan
from keras_dfprune.rules import register_rule, unregister_rule
from keras_dfprune.verify import VerificationError

__version__ = "0.1.0"

__all__ = [
    "CentroidMerge",
    "Context",
    "Curve",
    "ExportError",
    "ExportResult",
    "GroupPlan",
    "GroupView",
    "LinearMerge",
    "Method",
    "Moments",
    "PostTrainPrune",
    "PruningPlan",
    "Saliency",
    "SurvivorMerge",
    "UnitMerge",
    "VerificationError",
    "apply",
    "export",
    "functionalize",
    "plan",
    "register_rule",
    "unregister_rule",
]
