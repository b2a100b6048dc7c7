"""Define the rules of layers that treat each channel by itself but mix positions.

Linear layers that keep constants (average pooling, upsampling, cropping) may stand behind the seam
and carry a merge. Max pooling and depthwise filters always stand in front of it: equal units stay
equal behind them, and positive multiples stay multiples behind max pooling.
"""

from collections.abc import Callable

import keras
import numpy as np

from keras_dfprune.graph.calls import Call
from keras_dfprune.rules.activations import Activation, describe
from keras_dfprune.rules.base import Barrier, ElementwiseRule, Rule, positions, single
from keras_dfprune.rules.convolution import channel_axis, pads_with_zeros
from keras_dfprune.rules.effects import Nonlinear
from keras_dfprune.rules.features import Stream
from keras_dfprune.rules.layer_state import LayerState


def _layers_of_keras(name: str) -> tuple[type[keras.Layer], ...]:
    """Return the layer types `name` + "1D" to "3D", none where this Keras is older."""
    types = (getattr(keras.layers, f"{name}{rank}D", None) for rank in (1, 2, 3))
    return tuple(kind for kind in types if kind is not None)


class PositionRule(Rule):
    """Average pooling, upsampling and cropping: linear, equal for all units, keeps constants."""

    types = (
        keras.layers.AveragePooling1D,
        keras.layers.AveragePooling2D,
        keras.layers.AveragePooling3D,
        keras.layers.GlobalAveragePooling1D,
        keras.layers.GlobalAveragePooling2D,
        keras.layers.GlobalAveragePooling3D,
        keras.layers.UpSampling1D,
        keras.layers.UpSampling2D,
        keras.layers.UpSampling3D,
        keras.layers.Cropping1D,
        keras.layers.Cropping2D,
        keras.layers.Cropping3D,
        *_layers_of_keras("AdaptiveAveragePooling"),
    )

    def carry(self, call: Call, streams: list[Stream | None]) -> Stream | None:
        stream = single(call, streams)
        return None if stream is None else _moved(call, stream)


class ZeroPaddingRule(Rule):
    """`ZeroPadding1D` to `3D`: a constant unit is no longer constant at the edges."""

    types = (
        keras.layers.ZeroPadding1D,
        keras.layers.ZeroPadding2D,
        keras.layers.ZeroPadding3D,
    )

    def carry(self, call: Call, streams: list[Stream | None]) -> Stream | None:
        stream = single(call, streams)
        return None if stream is None else _moved(call, stream).beside_zeros()


class MaxPoolingRule(ElementwiseRule):
    """Max pooling, over windows or all positions.

    A merge of copies or positive multiples passes it exactly. A merge of near-copies keeps its
    error bound, because the maxima differ by no more than the largest difference of their inputs.
    `Moments` computes as if the layer weren't there.
    """

    types = (
        keras.layers.MaxPooling1D,
        keras.layers.MaxPooling2D,
        keras.layers.MaxPooling3D,
        keras.layers.GlobalMaxPooling1D,
        keras.layers.GlobalMaxPooling2D,
        keras.layers.GlobalMaxPooling3D,
        *_layers_of_keras("AdaptiveMaxPooling"),
    )

    def carry(self, call: Call, streams: list[Stream | None]) -> Stream | None:
        stream = super().carry(call, streams)
        return None if stream is None else _moved(call, stream)

    def effect(self, call: Call, state: LayerState) -> Nonlinear:
        pooling = Activation(
            name="max pooling",
            function=lambda x: x,
            slope=1.0,
            monotone=True,
            homogeneous=True,
            at_zero=0.0,
            linear_pieces=((1.0, 0.0),),
        )
        return Nonlinear(pooling)


class DepthwiseConvolutionRule(ElementwiseRule):
    """`DepthwiseConv1D` and `2D`: the filter of each unit belongs to the unit's weight-set."""

    types = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
    axes = {"kernel": (..., "in", None), "bias": ("out",)}

    def carry(self, call: Call, streams: list[Stream | None]) -> Stream | None:
        stream = single(call, streams)
        if stream is None:
            return None
        if stream.axis != channel_axis(call.operation, len(call.inputs[0].shape)):
            raise Barrier("works along another axis than the units'")
        reason = self.why_not_finite(call.operation)
        if reason:
            raise Barrier(reason)
        features = np.repeat(np.arange(stream.width), call.operation.depth_multiplier)
        return stream.take(features, stream.axis).through(self, call)

    def applications(self, call: Call) -> dict[str, int]:
        output = call.outputs[0]
        return {"kernel": positions(output, channel_axis(call.operation, len(output.shape)))}

    def effect(self, call: Call, state: LayerState) -> Nonlinear:
        kernel = state.variables["kernel"]
        filters = kernel.reshape(-1, kernel.shape[-2] * kernel.shape[-1]).T
        bias = state.variables.get("bias", np.zeros(len(filters), kernel.dtype))
        own = np.concatenate([filters, bias[:, None]], axis=1)
        activation = describe(call.operation.activation, len(filters))
        function = Activation(
            name=f"depthwise filter then {activation.name}",
            function=_response(own[:1], activation),
            slope=float(np.abs(filters).sum(axis=1).max()) * activation.slope,
            monotone=False,
            homogeneous=activation.homogeneous and not np.any(bias),
            at_zero=float(activation.values(bias[:1])[0]),
        )

        def of_constants(values: np.ndarray) -> np.ndarray:
            taps = filters.astype(np.float64).sum(axis=1)
            if pads_with_zeros(call.operation):  # Beside an edge fewer taps count.
                taps[:] = np.nan
            silent = (values == 0) | ~np.any(filters, axis=1)
            return activation.values(np.where(silent, 0, values * taps) + bias)

        return Nonlinear(
            function, own, lambda coordinates: _response(coordinates, activation), of_constants
        )


def _response(coordinates: np.ndarray, activation: Activation) -> Callable:
    """Return the layer's function of an input that is constant over positions.

    Edges are left out.

    Args:
        coordinates: The flat filter and the bias of each unit, shape `(units, taps + 1)`.
        activation: The layer's own activation.
    """
    taps = coordinates[:, :-1].sum(axis=1).astype(np.float32)
    bias = coordinates[:, -1].astype(np.float32)
    return lambda x: activation.function(
        x * keras.ops.cast(taps, x.dtype) + keras.ops.cast(bias, x.dtype)
    )


def _moved(call: Call, stream: Stream) -> Stream:
    """Return the stream behind a layer that changes the number of positions or drops their axes."""
    rank = len(call.inputs[0].shape)
    # Layers with one spatial axis, except pooling, have no `data_format`: channels come last.
    data_format = getattr(call.operation, "data_format", None) or "channels_last"
    if stream.axis != (1 if data_format == "channels_first" else rank - 1):
        raise Barrier("works over the units' axis")
    axis = stream.axis if len(call.outputs[0].shape) == rank else 1
    return Stream(axis, stream.width, stream.pieces)
