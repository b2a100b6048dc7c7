"""Define the rules of Dense: columns of the kernel produce units, its rows consume them.

Unit j: `h_j = activation(kernel[:, j] . x + bias_j)`; also `TimeDistributed(Dense)`.
"""

import re
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_dfprune.graph.calls import Call
from keras_dfprune.graph.recreate import read_config
from keras_dfprune.rules.base import positions
from keras_dfprune.rules.kernels import ConsumerRule, ProducerRule
from keras_dfprune.rules.layer_state import Cut, LayerState, without_lora


class DenseRule(ProducerRule, ConsumerRule):
    """`keras.layers.Dense` on inputs of any rank; the last axis holds the features."""

    types = (keras.layers.Dense,)
    linear = True
    is_dense = True
    axes = {"kernel": ("in", "out"), "bias": ("out",)}

    def dense(self, operation: keras.Operation) -> keras.layers.Dense:
        """Return the Dense layer itself."""
        return operation

    def barrier(self, operation: keras.Operation) -> str | None:
        dense = self.dense(operation)
        if dense.quantization_mode is not None:
            return "is quantized; prune first, then quantize"
        reason = self.why_not_finite(operation)
        if reason:
            return reason
        if isinstance(dense.activation, keras.Layer) and dense.activation.variables:
            return "has an activation with variables of its own; make it a layer behind it"
        return None

    def variables(self, operation: keras.Operation) -> dict[str, keras.Variable]:
        return super().variables(self.dense(operation))

    def config(self, operation: keras.Operation) -> dict[str, Any]:
        return without_lora(read_config(operation))

    def unit_count(self, operation: keras.Operation) -> int:
        return int(self.dense(operation).units)

    def bias_size(self, operation: keras.Operation) -> int:
        return self.unit_count(operation)

    def activation(self, operation: keras.Operation) -> Callable | None:
        return self.dense(operation).activation

    def has_bias(self, operation: keras.Operation) -> bool:
        return bool(self.dense(operation).use_bias)

    def incoming(self, state: LayerState) -> np.ndarray:
        return state.variables["kernel"].T[:, :, None]

    def outgoing(self, state: LayerState) -> np.ndarray:
        return state.variables["kernel"][:, None, :]

    def with_outgoing(self, state: LayerState, outgoing: np.ndarray) -> LayerState:
        return state.with_variable("kernel", outgoing[:, 0, :])

    def with_offset(self, state: LayerState, offset: np.ndarray) -> LayerState:
        return LayerState(
            self.edit_config(state.config, use_bias=True),
            {**state.variables, "bias": self.bias(state) + offset},
        )

    def narrow_config(self, config: dict[str, Any], cut: Cut) -> dict[str, Any]:
        if cut.outputs is None:
            return config
        return self.edit_config(config, units=int(cut.outputs.sum()))

    def edit_config(self, config: dict[str, Any], **changes: Any) -> dict[str, Any]:
        """Replace entries of the Dense layer's config."""
        return {**config, **changes}


class TimeDistributedRule(DenseRule):
    """`keras.layers.TimeDistributed` around a Dense layer."""

    types = (keras.layers.TimeDistributed,)

    def dense(self, operation: keras.Operation) -> keras.layers.Dense:
        return operation.layer

    def barrier(self, operation: keras.Operation) -> str | None:
        if type(operation.layer) is not keras.layers.Dense:
            return "wraps a layer other than Dense"
        return super().barrier(operation)

    def config(self, operation: keras.Operation) -> dict[str, Any]:
        config = read_config(operation)
        # With "build_config" the inner layer would be built at its old width.
        inner = {key: value for key, value in config["layer"].items() if key != "build_config"}
        return {**config, "layer": {**inner, "config": without_lora(inner["config"])}}

    def edit_config(self, config: dict[str, Any], **changes: Any) -> dict[str, Any]:
        inner = config["layer"]
        return {**config, "layer": {**inner, "config": {**inner["config"], **changes}}}


class EinsumDenseRule(DenseRule):
    """`keras.layers.EinsumDense` where it is a Dense layer: `ab,bc->ac`, `...x,xy->...y`."""

    types = (keras.layers.EinsumDense,)

    def barrier(self, operation: keras.Operation) -> str | None:
        if not _contracts_last_axis(operation.equation, operation.bias_axes):
            heads = len(operation.kernel.shape) > 2
            several = "of several axes, as of attention heads written by hand"
            difference = several if heads else "in another way than Dense"
            return f"multiplies by a kernel {difference} ({operation.equation})"
        return super().barrier(operation)

    def applications(self, call: Call) -> dict[str, int]:
        letters, kernel, _ = re.split(",|->", call.operation.equation.replace(" ", ""))
        front, _, back = letters.partition("...")  # letters behind "..." count from the last axis
        rank = len(call.inputs[0].shape)
        axes = {letter: axis for axis, letter in enumerate(front)}
        axes |= {letter: rank - len(back) + i for i, letter in enumerate(back)}
        contracted = [axes[letter] for letter in kernel if letter in axes]
        return {"kernel": positions(call.inputs[0], *contracted)}

    def unit_count(self, operation: keras.Operation) -> int:
        return int(operation.kernel.shape[-1])

    def has_bias(self, operation: keras.Operation) -> bool:
        return bool(operation.bias_axes)

    def edit_config(self, config: dict[str, Any], **changes: Any) -> dict[str, Any]:
        config = dict(config)
        if "units" in changes:
            shape = config["output_shape"]
            shape = [shape] if isinstance(shape, int) else list(shape)
            config["output_shape"] = (*shape[:-1], changes["units"])
        if changes.get("use_bias"):
            config["bias_axes"] = config["equation"].replace(" ", "")[-1]
        return config


def _contracts_last_axis(equation: str, bias_axes: str | None) -> bool:
    """Return whether an equation is that of a Dense layer on inputs of some rank."""
    inputs, _, rest = equation.replace(" ", "").partition(",")
    kernel, _, outputs = rest.partition("->")
    letters = inputs.replace("...", "") + kernel[1:]
    return (
        len(kernel) == 2
        and "." not in kernel
        and len(inputs) > 1
        and inputs[-1] == kernel[0]
        and outputs == inputs[:-1] + kernel[1]
        and len(set(letters)) == len(letters)
        and bias_axes in (None, "", kernel[1])
    )
