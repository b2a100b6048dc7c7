"""Define the rules of activation layers."""

from collections.abc import Callable

import keras
import numpy as np

from keras_dfprune.graph.calls import Call
from keras_dfprune.rules.activations import Activation, NotElementwise, describe
from keras_dfprune.rules.base import Barrier, ElementwiseRule
from keras_dfprune.rules.effects import Nonlinear
from keras_dfprune.rules.features import Stream
from keras_dfprune.rules.layer_state import LayerState


class ActivationRule(ElementwiseRule):
    """Activation layers without weights, each described by the function that it computes."""

    types = (
        keras.layers.Activation,
        keras.layers.ReLU,
        keras.layers.LeakyReLU,
        keras.layers.ELU,
        keras.layers.Softmax,
    )

    def effect(self, call: Call, state: LayerState) -> Nonlinear:
        check_axis(call)
        units = call.inputs[0].shape[-1] or 8
        return Nonlinear(describe(self.function(call.operation), units))

    def function(self, layer: keras.Layer) -> Callable:
        """Return the function that the layer computes at inference, a Keras function if it can."""
        if isinstance(layer, keras.layers.Activation):
            return layer.activation
        if isinstance(layer, keras.layers.Softmax):
            return keras.activations.softmax
        if isinstance(layer, keras.layers.ELU):
            return lambda x: keras.activations.elu(x, alpha=layer.alpha)
        if isinstance(layer, keras.layers.LeakyReLU):
            return lambda x: keras.activations.leaky_relu(x, negative_slope=layer.negative_slope)
        if layer.max_value is None and not layer.negative_slope and not layer.threshold:
            return keras.activations.relu
        return lambda x: keras.activations.relu(
            x,
            negative_slope=layer.negative_slope,
            max_value=layer.max_value,
            threshold=layer.threshold,
        )


def check_axis(call: Call) -> None:
    """Check that no softmax runs along another axis than the last, at which it is measured.

    Raises:
        NotElementwise: If it does.
    """
    axis = getattr(call.operation, "axis", -1)
    if keras.tree.flatten(axis) not in ([-1], [len(call.inputs[0].shape) - 1]):
        raise NotElementwise(f"each value depends on the others along axis {axis} (softmax)")


class PReLURule(ElementwiseRule):
    """`keras.layers.PReLU`: the slopes belong to the weight-set of the unit in front of them."""

    types = (keras.layers.PReLU,)
    axes = {"alpha": (..., "in")}

    def check(self, call: Call, stream: Stream) -> None:
        if stream.axis != len(call.inputs[0].shape) - 1:
            raise Barrier("works along another axis than the units'")

    def effect(self, call: Call, state: LayerState) -> Nonlinear:
        alpha = state.variables["alpha"]
        slopes = np.concatenate([np.ones(1), np.abs(alpha).reshape(-1)])
        own = np.moveaxis(alpha, -1, 0).reshape(alpha.shape[-1], -1)
        function = Activation(
            name="prelu",
            function=_prelu(own[:1]),
            slope=float(slopes.max()),
            monotone=bool(alpha.min() >= 0),
            homogeneous=True,
            at_zero=0.0,
            kinks=(0.0,),
        )
        if np.all(alpha == alpha.flat[0]):
            return Nonlinear(function)
        # One slope may be shared by all units.
        own = np.broadcast_to(own, (call.inputs[0].shape[-1] or len(own), own.shape[1]))
        return Nonlinear(function, own, _prelu, lambda values: _bent(values, own))


def _bent(values: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """Return a PReLU's values of constant features; NaN where positions bend them differently."""
    slope = np.where(np.ptp(slopes, axis=1) == 0, slopes[:, 0], np.nan)
    return np.where(values < 0, values * slope, values)


def _prelu(slopes: np.ndarray) -> Callable:
    """Return a PReLU with these slopes, shape `(units, positions)`, averaged over positions."""
    mean = slopes.mean(axis=1).astype(np.float32)
    return lambda x: (
        keras.ops.maximum(x, 0) + keras.ops.cast(mean, x.dtype) * keras.ops.minimum(x, 0)
    )
