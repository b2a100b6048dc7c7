"""Self-attention: query, key and value kernels take units in."""

import keras

from keras_dfprune.graph.calls import Call
from keras_dfprune.rules.base import Barrier
from keras_dfprune.rules.consumer import ConsumerRule
from keras_dfprune.rules.features import Stream
from keras_dfprune.rules.layer_state import LayerState

_PROJECTIONS = ("query", "key", "value", "output")


class SelfAttentionRule(ConsumerRule):
    """`MultiHeadAttention` of a tensor with itself: query, key and value kernels consume."""

    types = (keras.layers.MultiHeadAttention,)
    whole = "mixes its units in attention heads, which are not pruned"
    kernels = ("query_kernel", "key_kernel", "value_kernel")
    axes = {f"{name}_kernel": ("in", None, None) for name in _PROJECTIONS[:3]} | {
        "output_kernel": (...,),
        **{f"{name}_bias": (...,) for name in _PROJECTIONS},
    }

    def check(self, call: Call, streams: list[Stream | None]) -> None:
        given = dict(zip(("query", "value", "key"), call.args, strict=False))
        given |= {name: call.kwargs.get(name) for name in ("query", "value", "key") if
                  call.kwargs.get(name) is not None}  # fmt: skip
        tensors = [tensor for tensor in given.values() if tensor is not None]
        if any(tensor is not call.inputs[0] for tensor in tensors):
            raise Barrier("attends from one tensor to another")
        for tensor, stream in zip(call.inputs, streams, strict=True):
            if (stream is None) == (tensor is call.inputs[0]):
                raise Barrier("takes them as a mask")

    def barrier(self, operation: keras.Operation) -> str | None:
        if operation.get_config().get("use_gate"):
            return "gates its heads"
        return super().barrier(operation)

    def has_bias(self, operation: keras.Operation) -> bool:
        return bool(operation.use_bias)

    def targets(self, operation: keras.Operation) -> dict[str, keras.Variable]:
        parts = (operation.query_dense, operation.key_dense, operation.value_dense,
                 operation.output_dense)  # fmt: skip
        found = {}
        for name, part in zip(_PROJECTIONS, parts, strict=True):
            found[f"{name}_kernel"] = part.kernel
            found |= {f"{name}_bias": part.bias} if part.bias is not None else {}
        return found

    def read(self, operation: keras.Operation) -> LayerState:
        state = super().read(operation)
        # by default the outputs are as many as the inputs, of which there will be fewer
        width = state.variables["output_kernel"].shape[-1]
        shape = state.config["output_shape"] or (width,)
        return LayerState({**state.config, "output_shape": shape}, state.variables)

    def biased(self, state: LayerState) -> list[str]:
        return [*self.kernels, "output_kernel"]

    def bias_shape(self, state: LayerState, kernel: str) -> tuple[int, ...]:
        shape = state.variables[kernel].shape
        return shape[2:] if kernel == "output_kernel" else shape[1:]

    def with_biases(self, config: dict) -> dict:
        return {**config, "use_bias": True}
