"""Dense: its units are produced by the columns of the kernel and consumed by the rows.

Unit j: `h_j = activation(kernel[:, j] . x + bias_j)`; also `TimeDistributed(Dense)`.
"""

from collections.abc import Callable

import keras
import numpy as np

from keras_dfprune.graph.calls import Call
from keras_dfprune.rules.base import UnitRule
from keras_dfprune.rules.layer_state import Cut, LayerState, as_array


class DenseRule(UnitRule):
    """`keras.layers.Dense` on inputs of any rank; the last axis holds the features."""

    types = (keras.layers.Dense,)
    linear = True
    axes = {"kernel": ("in", "out"), "bias": ("out",)}

    def barrier(self, operation: keras.Operation) -> str | None:
        dense = self.dense(operation)
        if dense is None:
            return "wraps a layer other than Dense"
        if dense.quantization_mode is not None:
            return "is quantized; prune first, then quantize"
        if not all(np.isfinite(value).all() for value in self.read(operation).variables.values()):
            return "has weights that are not finite (NaN or infinite)"
        if isinstance(dense.activation, keras.Layer) and dense.activation.variables:
            return "has an activation with variables of its own; make it a layer behind it"
        return None

    def dense(self, operation: keras.Operation) -> keras.layers.Dense | None:
        """The Dense layer itself."""
        return operation

    def read(self, operation: keras.Operation) -> LayerState:
        dense = self.dense(operation)
        values = {"kernel": dense.kernel, "bias": dense.bias}  # a LoRA kernel comes folded
        arrays = {name: as_array(value) for name, value in values.items() if value is not None}
        config = self.edit_config(operation.get_config())
        config.pop("lora_rank", None)
        config.pop("lora_alpha", None)
        return LayerState(config, arrays)

    def targets(self, operation: keras.Operation) -> dict[str, keras.Variable]:
        dense = self.dense(operation)
        return {"kernel": dense.kernel} | ({"bias": dense.bias} if dense.use_bias else {})

    def unit_count(self, operation: keras.Operation) -> int:
        return int(self.dense(operation).units)

    def output_axis(self, call: Call) -> int:
        return len(call.outputs[0].shape) - 1

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
        units = state.variables["kernel"].shape[1]
        bias = state.variables.get("bias", np.zeros(units)) + offset
        config = self.edit_config(dict(state.config), use_bias=True)
        return LayerState(config, {**state.variables, "bias": bias})

    def narrow_config(self, config: dict, cut: Cut) -> dict:
        if cut.outputs is None:
            return config
        return self.edit_config(config, units=int(cut.outputs.sum()))

    def edit_config(self, config: dict, **changes) -> dict:
        """The layer's config with entries of the Dense replaced."""
        return {**config, **changes}


class TimeDistributedRule(DenseRule):
    """`keras.layers.TimeDistributed` around a Dense layer."""

    types = (keras.layers.TimeDistributed,)

    def dense(self, operation: keras.Operation) -> keras.layers.Dense | None:
        return operation.layer if type(operation.layer) is keras.layers.Dense else None

    def edit_config(self, config: dict, **changes) -> dict:
        inner = dict(config["layer"])
        inner["config"] = {**inner["config"], **changes}
        inner.pop("build_config", None)  # it would build the layer at its old width
        return {**config, "layer": inner}


class EinsumDenseRule(DenseRule):
    """`keras.layers.EinsumDense` where it is a Dense layer: `ab,bc->ac`, `...x,xy->...y`."""

    types = (keras.layers.EinsumDense,)

    def barrier(self, operation: keras.Operation) -> str | None:
        if not _contracts_last_axis(operation.equation, operation.bias_axes):
            heads = len(operation.kernel.shape) > 2
            several = "of several axes, as of attention heads, which are not pruned"
            way = several if heads else "in another way than Dense"
            return f"multiplies by a kernel {way} ({operation.equation})"
        return super().barrier(operation)

    def targets(self, operation: keras.Operation) -> dict[str, keras.Variable]:
        return {"kernel": operation.kernel} | (
            {"bias": operation.bias} if operation.bias_axes else {}
        )

    def unit_count(self, operation: keras.Operation) -> int:
        return int(operation.kernel.shape[-1])

    def has_bias(self, operation: keras.Operation) -> bool:
        return bool(operation.bias_axes)

    def edit_config(self, config: dict, **changes) -> dict:
        config = dict(config)
        if "units" in changes:
            shape = config["output_shape"]
            shape = [shape] if isinstance(shape, int) else list(shape)
            config["output_shape"] = (*shape[:-1], changes["units"])
        if changes.get("use_bias"):
            config["bias_axes"] = config["equation"].replace(" ", "")[-1]
        return config


def _contracts_last_axis(equation: str, bias_axes: str | None) -> bool:
    """Whether an equation is that of a Dense layer on inputs of some rank."""
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
