"""Define the rule of self-attention, whose query, key and value kernels consume units."""

from typing import Any

import keras

from keras_dfprune.graph.calls import Call
from keras_dfprune.graph.recreate import read_config
from keras_dfprune.rules.base import Barrier
from keras_dfprune.rules.features import Stream
from keras_dfprune.rules.layer_state import LayerState
from keras_dfprune.rules.several_kernels import SeveralKernelsRule

_PROJECTIONS = ("query", "key", "value", "output")


class SelfAttentionRule(SeveralKernelsRule):
    """`MultiHeadAttention` of a tensor with itself: query, key and value kernels consume."""

    types = (keras.layers.MultiHeadAttention,)
    why_not_pruned = "mixes its units in attention heads, which are not pruned"
    kernels = ("query_kernel", "key_kernel", "value_kernel")
    axes = {f"{name}_kernel": ("in", None, None) for name in _PROJECTIONS[:3]} | {
        "output_kernel": (...,),
        **{f"{name}_bias": (...,) for name in _PROJECTIONS},
    }

    def check(self, call: Call, streams: list[Stream | None]) -> None:
        given = (*call.args[:3], *(call.kwargs.get(name) for name in ("query", "value", "key")))
        if any(tensor is not None and tensor is not call.inputs[0] for tensor in given):
            raise Barrier("attends from one tensor to another")
        for tensor, stream in zip(call.inputs, streams, strict=True):
            is_attended, holds_units = tensor is call.inputs[0], stream is not None
            if is_attended != holds_units:
                raise Barrier("takes them as a mask")

    def barrier(self, operation: keras.Operation) -> str | None:
        if read_config(operation).get("use_gate"):
            return "gates its heads"
        return super().barrier(operation)

    def has_bias(self, operation: keras.Operation) -> bool:
        return bool(operation.use_bias)

    def variables(self, operation: keras.Operation) -> dict[str, keras.Variable]:
        variables = {}
        for name in _PROJECTIONS:
            dense = getattr(operation, f"{name}_dense")
            variables[f"{name}_kernel"] = dense.kernel
            if dense.bias is not None:
                variables[f"{name}_bias"] = dense.bias
        return variables

    def config(self, operation: keras.Operation) -> dict[str, Any]:
        config = read_config(operation)
        # By default there are as many outputs as inputs, of which there will be fewer.
        shape = config["output_shape"] or (operation.output_dense.kernel.shape[-1],)
        return {**config, "output_shape": shape}

    def biased(self, state: LayerState) -> list[str]:
        return [*self.kernels, "output_kernel"]

    def bias_shape(self, state: LayerState, kernel: str) -> tuple[int, ...]:
        shape = state.variables[kernel].shape
        return shape[2:] if kernel == "output_kernel" else shape[1:]

    def with_biases(self, config: dict[str, Any]) -> dict[str, Any]:
        return {**config, "use_bias": True}
