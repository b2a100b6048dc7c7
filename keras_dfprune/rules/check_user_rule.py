"""What a user's rule says of a layer, tried on the layer itself: default deny for strangers' rules.

Whether the right features were cut is what the wide twin shows; it takes the rule's word for what
the layer does to each of them, so that is measured here.
"""

import keras
import numpy as np

from keras_dfprune.graph.calls import Call
from keras_dfprune.rules.base import Barrier, ElementwiseRule, PassRule, Rule
from keras_dfprune.rules.effects import Affine
from keras_dfprune.rules.features import Stream

_LENGTH = 4  # tried for axes of unknown length
_TOLERANCE = 1e-3  # of the largest value: single precision, and half precision computed in single


def check_claims(rule: Rule, call: Call, stream: Stream) -> None:
    """Compares a layer with what its rule says of it.

    Args:
        rule: A rule that a user registered.
        call: A call of the layer.
        stream: The units that arrive.

    Raises:
        Barrier: If the layer can't be made anew from its config, has weights that the rule
            doesn't name, or answers differently than the rule says.
    """
    layer = call.operation
    reason = unfit(rule, layer)
    if reason:
        raise Barrier(reason)
    if isinstance(rule, (ElementwiseRule, PassRule)) and len(call.inputs) == 1:
        shape = [_LENGTH if size is None else size for size in call.inputs[0].shape[1:]]
        x = np.random.default_rng(0).standard_normal((2, *shape)).astype("float32")
        received = np.asarray(keras.ops.cast(layer(x), "float32"))
        expected = _expected(rule, call, stream, x)
        scale = np.abs(expected).max(initial=1e-30)
        same = received.shape == expected.shape
        if same and not np.abs(received - expected).max() <= _TOLERANCE * scale:
            raise Barrier(f"answers differently than {type(rule).__name__} says")


def unfit(rule: Rule, layer: keras.Layer) -> str | None:
    """Why a layer can't be treated by a registered rule at all, or None."""
    try:
        type(layer).from_config(layer.get_config())
    except Exception as error:  # whatever a user's get_config or constructor raises
        return f"can't be made anew from its config: {type(error).__name__}"
    named = {id(variable) for variable in rule.targets(layer).values()}
    others = [weight.name for weight in layer.weights if id(weight) not in named]
    if others:
        return f"has weights that `axes` of {type(rule).__name__} leaves out: {', '.join(others)}"
    return None


def _expected(rule: Rule, call: Call, stream: Stream, x: np.ndarray) -> np.ndarray:
    if isinstance(rule, PassRule):
        return x
    effect = rule.effect(call, rule.read(call.operation))
    features = np.moveaxis(x, stream.axis, -1)
    if isinstance(effect, Affine):
        found = effect.scale * features + effect.shift
    elif effect.coordinates is None:
        found = effect.activation.values(features)
    else:
        flat = effect.coordinates.reshape(len(effect.coordinates), -1)
        found = np.asarray(effect.function_of(flat)(keras.ops.convert_to_tensor(features)))
    return np.moveaxis(found, -1, stream.axis)
