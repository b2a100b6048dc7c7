"""Define the rule of attention, whose query, key and value kernels consume units.

With `W_Q`, `W_K`, `W_V` and `W_O` the kernels of one head, each position of the query gets

    softmax((x_q W_Q + b_Q) (x_k W_K + b_K)^T / sqrt(key_dim)) (x_v W_V + b_V) W_O,

summed over the heads, and the bias of the outputs. What is constant over the keys, `b_K` and the
mean of `x_k`, adds the same to all scores of a position and vanishes in the softmax.
"""

from typing import Any

import keras
import numpy as np

from keras_dfprune.graph.calls import Call, Tensor
from keras_dfprune.graph.recreate import read_config
from keras_dfprune.rules.base import Barrier
from keras_dfprune.rules.features import Stream
from keras_dfprune.rules.heads import HeadKernels, HeadsRule
from keras_dfprune.rules.layer_state import Cut, LayerState
from keras_dfprune.rules.several_kernels import SeveralKernelsRule

_PROJECTIONS = ("query", "key", "value", "output")
QUERY_KEY, VALUE = "query_key", "value"


class AttentionRule(SeveralKernelsRule, HeadsRule):
    """`MultiHeadAttention`: heads get fewer dimensions; of one tensor with itself it consumes."""

    types = (keras.layers.MultiHeadAttention,)
    output_kind = VALUE
    why_not_pruned = "has heads of a single dimension"
    kernels = ("query_kernel", "key_kernel", "value_kernel")
    axes = {
        "query_kernel": ("in", None, QUERY_KEY),
        "key_kernel": ("in", None, QUERY_KEY),
        "value_kernel": ("in", None, VALUE),
        "output_kernel": (None, VALUE, ...),
        "query_bias": (None, QUERY_KEY),
        "key_bias": (None, QUERY_KEY),
        "value_bias": (None, VALUE),
        "output_bias": (...,),
    }

    def check(self, call: Call, streams: list[Stream | None]) -> None:
        if any(tensor is not call.inputs[0] for tensor in _tensors(call).values()):
            raise Barrier("attends from one tensor to another")
        for tensor, stream in zip(call.inputs, streams, strict=True):
            is_attended, holds_units = tensor is call.inputs[0], stream is not None
            if is_attended != holds_units:
                raise Barrier("takes them as a mask")

    def barrier(self, operation: keras.Operation) -> str | None:
        if read_config(operation).get("use_gate"):
            return "gates its heads"
        parts = [getattr(operation, f"{name}_dense") for name in _PROJECTIONS]
        if any(getattr(part, "quantization_mode", None) for part in parts):
            return "is quantized; prune first, then quantize"
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

    def narrow_config(self, config: dict[str, Any], cut: Cut) -> dict[str, Any]:
        for kind, name in ((QUERY_KEY, "key_dim"), (VALUE, "value_dim")):
            if kind in cut.dimensions:
                config = {**config, name: int(cut.dimensions[kind].sum())}
        return config

    def biased(self, state: LayerState) -> list[str]:
        return [*self.kernels, "output_kernel"]

    def bias_shape(self, state: LayerState, kernel: str) -> tuple[int, ...]:
        shape = state.variables[kernel].shape
        return shape[2:] if kernel == "output_kernel" else shape[1:]

    def with_biases(self, config: dict[str, Any]) -> dict[str, Any]:
        return {**config, "use_bias": True}

    def dimensions(self, operation: keras.Operation) -> dict[str, int]:
        return {QUERY_KEY: operation.key_dim, VALUE: operation.value_dim}

    def bias_entries(self, operation: keras.Operation) -> dict[str, int]:
        heads = operation.num_heads
        return {QUERY_KEY: 2 * heads, VALUE: heads}

    def why_heads_stay(self, operation: keras.Operation) -> str | None:
        variables = self.variables(operation).values()
        if any(variable.constraint is not None for variable in variables):
            return "has a constraint, which heads with other kernels might break"
        return None

    def sources(self, call: Call, kind: str) -> tuple[Tensor, Tensor | None]:
        tensors = _tensors(call)
        if kind == VALUE:
            return tensors["value"], None
        return tensors["query"], tensors["key"]

    def keeps_mean(self, call: Call, kind: str) -> bool:
        """Return whether the weights of the values always add up to 1, as for a constant they must.

        They don't with dropout, nor where the scores are computed one by one: there Keras gives a
        position whose keys are all masked weights of 0.
        """
        layer = call.operation
        one_by_one = layer.dropout > 0 or len(call.outputs) > 1 or len(call.inputs[0].shape) != 3
        return kind == VALUE and bool(layer.use_bias) and not one_by_one

    def head_kernels(self, state: LayerState, kind: str) -> HeadKernels:
        arrays = state.variables
        left_name = "value" if kind == VALUE else "query"
        left = arrays[f"{left_name}_kernel"].transpose(1, 0, 2)
        bias = arrays.get(f"{left_name}_bias", np.zeros((len(left), left.shape[2])))
        if kind == VALUE:
            output = arrays["output_kernel"]
            right = output.reshape(*output.shape[:2], -1).transpose(0, 2, 1)
        else:
            right = arrays["key_kernel"].transpose(1, 0, 2)
        return HeadKernels(left, bias, right)

    def with_maps(
        self, state: LayerState, kind: str, into: np.ndarray, back: np.ndarray, lost: np.ndarray
    ) -> LayerState:
        arrays, behind = dict(state.variables), into.shape[1] - into.shape[2]
        into, back = (np.pad(part, ((0, 0), (0, 0), (0, behind))) for part in (into, back))
        if kind == VALUE:
            output = arrays["output_kernel"]
            if np.any(lost):
                constant = np.tensordot(lost, output, 2)
                arrays["output_bias"] = arrays["output_bias"] + constant
            arrays["output_kernel"] = np.einsum("hkr,hk...->hr...", back, output)
            return LayerState(state.config, _mapped(arrays, "value", into))
        # Keras divides the scores by the root of `key_dim`, which gets smaller.
        scale = np.sqrt((into.shape[1] - behind) / into.shape[1])
        arrays = _mapped(arrays, "query", into * scale)
        return LayerState(state.config, _mapped(arrays, "key", back))


def _tensors(call: Call) -> dict[str, Tensor]:
    """Return the query, value and key of a call; the key is the value where none is given."""
    names = ("query", "value", "key")
    given = dict(zip(names, call.args, strict=False))
    given |= {name: call.kwargs[name] for name in names if name in call.kwargs}
    if given.get("key") is None:
        given["key"] = given["value"]
    return given


def _mapped(arrays: dict[str, np.ndarray], name: str, maps: np.ndarray) -> dict[str, np.ndarray]:
    """Map the dimensions of each head in the kernel and the bias of a projection."""
    kernel, bias = f"{name}_kernel", f"{name}_bias"
    arrays = {**arrays, kernel: np.einsum("dhk,hkr->dhr", arrays[kernel], maps)}
    if bias in arrays:
        arrays[bias] = np.einsum("hk,hkr->hr", arrays[bias], maps)
    return arrays
