"""Layers that treat each channel by itself but mix positions: pooling, padding, depthwise filters.

Linear ones that keep constants (average pooling, upsampling, cropping) carry units. Max pooling
and depthwise filters stand before the seam: equal units stay equal through them, and for max
pooling also positive multiples.
"""

from collections.abc import Callable

import keras
import numpy as np

from keras_dfprune.graph.calls import Call
from keras_dfprune.rules.activations import Activation, describe
from keras_dfprune.rules.base import Barrier, ElementwiseRule, Rule, single
from keras_dfprune.rules.convolution import channel_axis, pads_with_zeros
from keras_dfprune.rules.effects import Nonlinear
from keras_dfprune.rules.features import Stream
from keras_dfprune.rules.layer_state import LayerState


class PositionRule(Rule):
    """Pooling by average, upsampling and cropping: linear, alike for all units, constants stay."""

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
    )

    def carry(self, call: Call, streams: list[Stream | None]) -> Stream | None:
        stream = single(call, streams)
        return None if stream is None else _moved(call, stream)


class ZeroPaddingRule(PositionRule):
    """`ZeroPadding1D` to `3D`: behind it a constant is no longer one at the edges."""

    types = (
        keras.layers.ZeroPadding1D,
        keras.layers.ZeroPadding2D,
        keras.layers.ZeroPadding3D,
    )

    def carry(self, call: Call, streams: list[Stream | None]) -> Stream | None:
        stream = super().carry(call, streams)
        return None if stream is None else stream.beside_zeros()


class MaxPoolingRule(ElementwiseRule):
    """Max pooling, over windows or all positions.

    Merges of copies and positive multiples pass it exactly, those of near-copies with the same
    bound, for the largest of several differences. Moments are taken as if it weren't there.
    """

    types = (
        keras.layers.MaxPooling1D,
        keras.layers.MaxPooling2D,
        keras.layers.MaxPooling3D,
        keras.layers.GlobalMaxPooling1D,
        keras.layers.GlobalMaxPooling2D,
        keras.layers.GlobalMaxPooling3D,
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
    """`DepthwiseConv1D` and `2D`: each unit's own filter belongs to its weight-set."""

    types = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
    axes = {"kernel": (..., "in", None), "bias": ("out",)}
    spatial = True

    def carry(self, call: Call, streams: list[Stream | None]) -> Stream | None:
        stream = single(call, streams)
        if stream is None:
            return None
        if stream.axis != channel_axis(call.operation, len(call.inputs[0].shape)):
            raise Barrier("works along another axis than the units'")
        values = self.read(call.operation).variables.values()
        if not all(np.isfinite(value).all() for value in values):
            raise Barrier("has weights that are not finite (NaN or infinite)")
        features = np.repeat(np.arange(stream.width), call.operation.depth_multiplier)
        stream = stream.take(features, stream.axis).through(self, call)
        return stream.beside_zeros() if pads_with_zeros(call.operation) else stream

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
        return Nonlinear(function, own, lambda coordinates: _response(coordinates, activation))


def _response(coordinates: np.ndarray, activation: Activation) -> Callable:
    """What the layer makes of a constant input, far from the edges."""
    taps = coordinates[:, :-1].sum(axis=1).astype(np.float32)
    bias = coordinates[:, -1].astype(np.float32)
    return lambda x: activation.function(
        x * keras.ops.cast(taps, x.dtype) + keras.ops.cast(bias, x.dtype)
    )


def _moved(call: Call, stream: Stream) -> Stream:
    """The stream behind a layer that changes or drops the positions."""
    rank = len(call.inputs[0].shape)
    # layers on one spatial axis other than pooling know channels last only
    data_format = getattr(call.operation, "data_format", None) or "channels_last"
    if stream.axis != (1 if data_format == "channels_first" else rank - 1):
        raise Barrier("works over the units' axis")
    axis = stream.axis if len(call.outputs[0].shape) == rank else 1
    return Stream(axis, stream.width, stream.pieces)
