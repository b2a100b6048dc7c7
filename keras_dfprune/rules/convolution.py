"""Define the rules of convolutions: a filter is a unit; its kernel and bias are its weight-set.

`h_o[p] = activation(sum over taps and channels of kernel[tap, i, o] x_i[s p + tap] + bias_o)` at
position `p`, with strides `s`. A transposed convolution has the positions the other way round:
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
    """`keras.layers.Conv1D`, `Conv2D` and `Conv3D` without groups.

    A SeparableConv is read as a depthwise convolution and a convolution (`graph/parts.py`).
    """

    types = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
    axes = {"kernel": (..., "in", "out"), "bias": ("out",)}
    linear = True

    def barrier(self, operation: keras.Operation) -> str | None:
        if operation.groups != 1:
            return "works in groups of channels"
        return self.why_not_finite(operation)

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
        kernel = state.variables["kernel"]
        return kernel.reshape(-1, *kernel.shape[-2:]).transpose(1, 0, 2)

    def with_outgoing(self, state: LayerState, outgoing: np.ndarray) -> LayerState:
        taps = state.variables["kernel"].shape[:-2]
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


def channel_axis(operation: keras.Operation, rank: int) -> int:
    """Return the axis of the channels in the input and output of a spatial layer."""
    return 1 if operation.data_format == "channels_first" else rank - 1


def pads_with_zeros(operation: keras.Operation) -> bool:
    """Return whether a convolution reads zeros beyond the edges of its input."""
    return operation.padding != "valid" and prod(operation.kernel_size) > 1
