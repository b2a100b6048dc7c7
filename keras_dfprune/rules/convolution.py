"""Define the rules of convolutions: a filter is a unit; its kernel and bias are its weight-set.

`h_o[p] = activation(sum over taps and channels of kernel[tap, i, o] x_i[s p + tap] + bias_o)` at
position `p`, with strides `s`. With G groups the sum is over the i-th channel of the group of
filter o. Channels and filters are split into G blocks of the same size, in their order. A
transposed convolution has the positions the other way round:
`h_o[q] = activation(sum over s p + tap = q and channels of kernel[tap, o, i] x_i[p] + bias_o)`.
"""

from collections.abc import Callable
from math import prod
from typing import Any

import keras
import numpy as np

from keras_dfprune.graph.calls import Call
from keras_dfprune.graph.recreate import read_config
from keras_dfprune.rules.base import positions
from keras_dfprune.rules.kernels import ConsumerRule, ProducerRule
from keras_dfprune.rules.layer_state import Cut, LayerState, without_lora


class ConvolutionRule(ProducerRule, ConsumerRule):
    """`keras.layers.Conv1D`, `Conv2D` and `Conv3D`, also in groups of channels.

    A SeparableConv is read as a depthwise convolution and a convolution (`graph/parts.py`).
    """

    types = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
    axes = {"kernel": (..., "in", "out"), "bias": ("out",)}
    linear = True

    def barrier(self, operation: keras.Operation) -> str | None:
        return self.why_not_finite(operation)

    def channel_groups(self, operation: keras.Operation) -> int:
        return int(operation.groups)

    def unit_count(self, operation: keras.Operation) -> int:
        return int(operation.filters)

    def output_axis(self, call: Call) -> int:
        return channel_axis(call.operation, len(call.outputs[0].shape))

    def activation(self, operation: keras.Operation) -> Callable | None:
        return operation.activation

    def with_offset(self, state: LayerState, offset: np.ndarray) -> LayerState:
        return LayerState(
            {**state.config, "use_bias": True},
            {**state.variables, "bias": self.bias(state) + offset},
        )

    def narrow(self, state: LayerState, cut: Cut) -> LayerState:
        kernel, groups = state.variables.get("kernel"), _groups(state)
        # The kernel of a consumer may hold the remaining channels only.
        if kernel is not None and cut.inputs is not None and groups > 1:
            if kernel.shape[-2] * groups == len(cut.inputs):
                masks = cut.inputs.reshape(groups, -1)
                parts = zip(np.split(kernel, groups, axis=-1), masks, strict=True)
                narrow = [np.compress(mask, part, axis=-2) for part, mask in parts]
                state = state.with_variable("kernel", np.concatenate(narrow, axis=-1))
        return super().narrow(state, cut)

    def narrow_config(self, config: dict[str, Any], cut: Cut) -> dict[str, Any]:
        return config if cut.outputs is None else {**config, "filters": int(cut.outputs.sum())}

    def config(self, operation: keras.Operation) -> dict[str, Any]:
        return without_lora(read_config(operation))

    def input_axis(self, call: Call) -> int:
        return channel_axis(call.operation, len(call.inputs[0].shape))

    def bias_size(self, operation: keras.Operation) -> int:
        return self.unit_count(operation)

    def taps(self, operation: keras.Operation) -> tuple[int, ...]:
        return tuple(operation.kernel_size)

    def pads(self, operation: keras.Operation) -> bool:
        return pads_with_zeros(operation)

    def incoming(self, state: LayerState) -> np.ndarray:
        kernel = state.variables["kernel"]
        channels, filters = kernel.shape[-2:]
        return kernel.reshape(-1, channels, filters).transpose(2, 1, 0)

    def outgoing(self, state: LayerState) -> np.ndarray:
        kernel, groups = state.variables["kernel"], _groups(state)
        rows = kernel.reshape(-1, *kernel.shape[-2:]).transpose(1, 0, 2)
        if groups == 1:
            return rows
        channels, taps, filters = rows.shape
        outgoing = np.zeros((groups, channels, taps, groups, filters // groups), kernel.dtype)
        own = np.arange(groups)
        outgoing[own, :, :, own] = np.moveaxis(rows.reshape(outgoing.shape[1:]), 2, 0)
        return outgoing.reshape(groups * channels, taps, filters)

    def with_outgoing(self, state: LayerState, outgoing: np.ndarray) -> LayerState:
        taps, groups = state.variables["kernel"].shape[:-2], _groups(state)
        if groups > 1:
            features, positions, outputs = outgoing.shape
            shape = (groups, features // groups, positions, groups, outputs // groups)
            own = np.arange(groups)
            rows = np.moveaxis(outgoing.reshape(shape)[own, :, :, own], 0, 2)
            outgoing = rows.reshape(features // groups, positions, outputs)
        kernel = outgoing.transpose(1, 0, 2)
        return state.with_variable("kernel", kernel.reshape(*taps, *kernel.shape[1:]))


class TransposedConvolutionRule(ConvolutionRule):
    """`Conv1DTranspose`, `Conv2DTranspose` and `Conv3DTranspose`.

    The kernel has its outputs in front of its inputs. It reads zeros beside its inputs, and with
    strides also between them: each position of the output then sees a part of the taps only.
    """

    types = (
        keras.layers.Conv1DTranspose,
        keras.layers.Conv2DTranspose,
        keras.layers.Conv3DTranspose,
    )
    axes = {"kernel": (..., "out", "in"), "bias": ("out",)}

    def barrier(self, operation: keras.Operation) -> str | None:
        return self.why_not_finite(operation)

    def channel_groups(self, operation: keras.Operation) -> int:
        return 1

    def applications(self, call: Call) -> dict[str, int]:
        return {"kernel": positions(call.inputs[0], self.input_axis(call))}

    def pads(self, operation: keras.Operation) -> bool:
        return prod(operation.kernel_size) > 1

    def spreads(self, operation: keras.Operation) -> bool:
        return prod(operation.strides) > 1

    def incoming(self, state: LayerState) -> np.ndarray:
        kernel = state.variables["kernel"]
        return kernel.reshape(-1, *kernel.shape[-2:]).transpose(1, 2, 0)

    def outgoing(self, state: LayerState) -> np.ndarray:
        kernel = state.variables["kernel"]
        return kernel.reshape(-1, *kernel.shape[-2:]).transpose(2, 0, 1)

    def with_outgoing(self, state: LayerState, outgoing: np.ndarray) -> LayerState:
        taps = state.variables["kernel"].shape[:-2]
        kernel = outgoing.transpose(1, 2, 0)
        return state.with_variable("kernel", kernel.reshape(*taps, *kernel.shape[1:]))


def _groups(state: LayerState) -> int:
    return int(state.config.get("groups", 1))  # A part of a SeparableConv names none.


def channel_axis(operation: keras.Operation, rank: int) -> int:
    """Return the axis of the channels in the input and output of a spatial layer."""
    return 1 if operation.data_format == "channels_first" else rank - 1


def pads_with_zeros(operation: keras.Operation) -> bool:
    """Return whether a convolution reads zeros beyond the edges of its input."""
    return operation.padding != "valid" and prod(operation.kernel_size) > 1
