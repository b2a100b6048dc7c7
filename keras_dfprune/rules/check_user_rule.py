"""Check a user's rule against the layer that it describes.

The comparison with the wide twin shows whether the right features were cut. But the wide twin
relies on the rule for what the layer does to each feature, so that is measured here.
"""

import keras
import numpy as np

from keras_dfprune.graph.calls import Call
from keras_dfprune.rules.base import Barrier, ElementwiseRule, PassRule, Rule
from keras_dfprune.rules.effects import Affine, Effect, Join
from keras_dfprune.rules.features import Stream

_LENGTH = 4  # stands for axes of unknown length
_TOLERANCE = 1e-3  # of the largest value; leaves room for layers that compute in half precision


def check_claims(rule: Rule, call: Call, stream: Stream) -> None:
    """Compare a layer with what its rule says of it.

    Args:
        rule: A rule that a user registered.
        call: A call of the layer.
        stream: The units that arrive.

    Raises:
        Barrier: If the layer can't be made anew from its config, has weights that the rule doesn't
            name, or computes something else than the rule says.
    """
    layer = call.operation
    reason = why_unfit(rule, layer)
    if reason:
        raise Barrier(reason)
    if not isinstance(rule, (ElementwiseRule, PassRule)) or len(call.inputs) != 1:
        return
    shape = [_LENGTH if size is None else size for size in call.inputs[0].shape[1:]]
    x = np.random.default_rng(0).standard_normal((2, *shape)).astype("float32")
    received = np.asarray(keras.ops.cast(layer(x), "float32"))
    expected = x
    if isinstance(rule, ElementwiseRule):
        effect = rule.effect(call, rule.read(layer))
        expected = np.moveaxis(_apply(effect, np.moveaxis(x, stream.axis, -1)), -1, stream.axis)
    if received.shape != expected.shape:  # a layer that pools positions, say: not compared
        return
    scale = np.abs(expected).max(initial=1e-30)
    agrees = np.abs(received - expected).max() <= _TOLERANCE * scale  # False for NaN
    if not agrees:
        raise Barrier(f"computes something else than {type(rule).__name__} says")


def why_unfit(rule: Rule, layer: keras.Layer) -> str | None:
    """Return why a registered rule can't be used for a layer at all, or None."""
    try:
        type(layer).from_config(layer.get_config())
    except Exception as error:  # whatever a user's get_config or constructor raises
        return f"can't be made anew from its config: {type(error).__name__}"
    named = {id(variable) for variable in rule.variables(layer).values()}
    unnamed = [weight.name for weight in layer.weights if id(weight) not in named]
    if unnamed:
        return f"has weights that `axes` of {type(rule).__name__} leaves out: {', '.join(unnamed)}"
    return None


def _apply(effect: Effect, features: np.ndarray) -> np.ndarray:
    """Apply an effect to an array with the features on the last axis."""
    if isinstance(effect, Affine):
        return effect.scale * features + effect.shift
    if isinstance(effect, Join):
        raise Barrier("is called with one tensor but described as a join of several")
    if effect.coordinates is None or effect.function_of is None:
        return effect.activation.values(features)
    coordinates = effect.coordinates.reshape(len(effect.coordinates), -1)
    return np.asarray(effect.function_of(coordinates)(keras.ops.convert_to_tensor(features)))
