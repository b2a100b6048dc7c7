"""Convolutions: a filter is a unit; its kernel and bias form the weight-set.

`h_o = activation(sum over taps and channels of kernel[tap, i, o] x_i + bias_o)` at each position.
"""

from collections.abc import Callable
from math import prod

import keras
import numpy as np

from keras_dfprune.graph.calls import Call
from keras_dfprune.rules.base import Barrier, UnitRule, single
from keras_dfprune.rules.features import Stream
from keras_dfprune.rules.layer_state import Cut, LayerState


class ConvolutionRule(UnitRule):
    """`keras.layers.Conv1D`, `Conv2D` and `Conv3D` without groups."""

    types = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
    linear = True
    axes = {"kernel": (..., "in", "out"), "bias": ("out",)}

    def barrier(self, operation: keras.Operation) -> str | None:
        if self.groups(operation) != 1:
            return "works in groups of channels"
        if not all(np.isfinite(value).all() for value in self.read(operation).variables.values()):
            return "has weights that are not finite (NaN or infinite)"
        return None

    def groups(self, operation: keras.Operation) -> int:
        """Number of groups of channels that are kept apart."""
        return operation.groups

    def read(self, operation: keras.Operation) -> LayerState:
        state = super().read(operation)  # a LoRA kernel comes folded
        config = {**state.config}
        config.pop("lora_rank", None)
        config.pop("lora_alpha", None)
        return LayerState(config, state.variables)

    def unit_count(self, operation: keras.Operation) -> int:
        return int(operation.filters)

    def input_axis(self, call: Call) -> int:
        return channel_axis(call.operation, len(call.inputs[0].shape))

    def output_axis(self, call: Call) -> int:
        return channel_axis(call.operation, len(call.outputs[0].shape))

    def activation(self, operation: keras.Operation) -> Callable | None:
        return operation.activation

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

    def with_offset(self, state: LayerState, offset: np.ndarray) -> LayerState:
        return LayerState(
            {**state.config, "use_bias": True},
            {**state.variables, "bias": self.bias(state) + offset},
        )

    def narrow_config(self, config: dict, cut: Cut) -> dict:
        return config if cut.outputs is None else {**config, "filters": int(cut.outputs.sum())}


class SeparableConvolutionRule(ConvolutionRule):
    """`SeparableConv1D` and `SeparableConv2D`: the pointwise kernel's columns are the units.

    What flows in is filtered channel by channel before it is mixed, which no merge passes.
    """

    types = (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)
    consumes = False
    axes = {"depthwise_kernel": (...,), "pointwise_kernel": (..., "out"), "bias": ("out",)}

    def carry(self, call: Call, streams: list[Stream | None]) -> None:
        if single(call, streams) is not None:
            raise Barrier("filters each unit in its own way before it mixes them")

    def groups(self, operation: keras.Operation) -> int:
        return 1

    def taps(self, operation: keras.Operation) -> tuple[int, ...]:
        return ()

    def incoming(self, state: LayerState) -> np.ndarray:
        kernel = state.variables["pointwise_kernel"]
        return kernel.reshape(-1, kernel.shape[-1]).T[:, :, None]


def channel_axis(operation: keras.Operation, rank: int) -> int:
    """The axis of the channels in the input and output of a spatial layer."""
    return 1 if operation.data_format == "channels_first" else rank - 1


def pads_with_zeros(operation: keras.Operation) -> bool:
    """Whether a convolution reads zeros beyond the edges of its input."""
    return operation.padding != "valid" and prod(operation.kernel_size) > 1
