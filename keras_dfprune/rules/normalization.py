"""Define the rule of BatchNormalization at inference, and read the scale of LayerNormalization.

`y = gamma (x - mean) / sqrt(variance + epsilon) + beta` with the moving mean and variance.
"""

import keras
import numpy as np

from keras_dfprune.graph.calls import Call
from keras_dfprune.rules.base import Barrier, ElementwiseRule
from keras_dfprune.rules.effects import Affine
from keras_dfprune.rules.features import Stream
from keras_dfprune.rules.layer_state import LayerState, as_array


class BatchNormalizationRule(ElementwiseRule):
    """`BatchNormalization`: folded into the weight-sets in front of the seam, a scale behind it."""

    types = (keras.layers.BatchNormalization,)
    axes = {
        "gamma": ("in",),
        "beta": ("in",),
        "moving_mean": ("in",),
        "moving_variance": ("in",),
    }

    def check(self, call: Call, stream: Stream) -> None:
        if call.training:
            raise Barrier("is called with training=True and so mixes the examples of a batch")
        axis = call.operation.axis % len(call.inputs[0].shape)
        if axis != stream.axis:
            raise Barrier("normalizes another axis than the units'")
        reason = self.why_not_finite(call.operation)
        if reason:
            raise Barrier(reason)

    def effect(self, call: Call, state: LayerState) -> Affine:
        arrays = state.variables
        variance = arrays["moving_variance"].astype(np.float64)
        scale = arrays.get("gamma", 1.0) / np.sqrt(variance + state.config["epsilon"])
        return Affine(scale, arrays.get("beta", 0.0) - scale * arrays["moving_mean"])

    def statistics(self, state: LayerState) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation of the outputs over the training data.

        These are beta and |gamma|, two float arrays of shape `(features,)`.
        """
        features = len(state.variables["moving_mean"])
        gamma = state.variables.get("gamma", np.ones(features))
        return state.variables.get("beta", np.zeros(features)), np.abs(gamma)

    def with_offset(self, state: LayerState, offset: np.ndarray) -> LayerState:
        """Make the layer compute from `x` what it computes from `x + offset` so far.

        Args:
            state: The layer's state.
            offset: Float array, shape `(features,)`.
        """
        return state.with_variable("moving_mean", state.variables["moving_mean"] - offset)


def layer_statistics(call: Call) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the scale and shift that a LayerNormalization over the last axis applies.

    Returns:
        Float arrays of shape `(features,)`, or None for another layer.
    """
    layer = call.operation
    if type(layer) is not keras.layers.LayerNormalization:
        return None
    rank, features = len(call.inputs[0].shape), call.inputs[0].shape[-1]
    if features is None or keras.tree.flatten(layer.axis) not in ([-1], [rank - 1]):
        return None
    scale = np.ones(features) if layer.gamma is None else as_array(layer.gamma)
    shift = np.zeros(features) if layer.beta is None else as_array(layer.beta)
    return scale, shift
