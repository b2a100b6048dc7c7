"""Count the multiply-adds of a model: how much arithmetic one row costs at inference."""

import math
from collections.abc import Iterable

import keras

from keras_dfprune.graph.calls import Call
from keras_dfprune.graph.keras_private import is_stock
from keras_dfprune.rules.base import positions
from keras_dfprune.rules.convolution import channel_axis
from keras_dfprune.rules.registry import find_rule

_ATTENTION = (
    keras.layers.AdditiveAttention,
    keras.layers.Attention,
    keras.layers.Dot,
    keras.layers.GroupQueryAttention,
    keras.layers.MultiHeadAttention,
)
# Names of the operations that `keras.ops` makes.
_PRODUCTS = (
    "Correlate", "Dot", "DotProductAttention", "Einsum", "Inner", "Matmul", "Outer", "Tensordot",
    "Vdot",
)  # fmt: skip


def multiply_adds(calls: Iterable[Call]) -> int:
    """Return the multiply-adds of all kernels for one row of the inputs.

    The count is exact for layers that have a rule, except attention between sequences of different
    lengths and wrappers around layers without a rule. For others it is an estimate: every matrix
    among their weights is applied at each position of the output. Products of two activations (in
    attention) and elementwise arithmetic don't count.

    Args:
        calls: The calls of a model.

    Raises:
        ValueError: If a layer works at an unknown number of positions.
    """
    return sum(_of_call(call) for call in calls)


def estimated_layers(calls: Iterable[Call]) -> list[str]:
    """Return the paths of the layers whose count in `multiply_adds` is an estimate, each once.

    Args:
        calls: The calls of a model.
    """
    return list(dict.fromkeys(call.layer_path for call in calls if not _is_exact(call)))


def products_of_tensors(calls: Iterable[Call]) -> list[str]:
    """Return the paths of the layers that multiply two tensors, which `multiply_adds` leaves out.

    Args:
        calls: The calls of a model.
    """
    return list(dict.fromkeys(call.layer_path for call in calls if _multiplies_tensors(call)))


def _is_exact(call: Call) -> bool:
    operation, rule = call.operation, find_rule(call.operation)
    if not isinstance(operation, keras.Layer):
        return True
    matrices = sum(math.prod(w.shape) for w in operation.weights if len(w.shape) > 1)
    if rule is None:
        runs_own_code = isinstance(operation, keras.layers.Lambda) or not is_stock(operation)
        return not matrices and not runs_own_code
    if isinstance(operation, keras.layers.MultiHeadAttention):
        # The query sets the positions of the output, the key and the value have their own.
        return len({tensor.shape[1:-1] for tensor in call.inputs if len(tensor.shape) > 2}) < 2
    if isinstance(operation, keras.layers.TimeDistributed):
        return type(operation.layer) is keras.layers.Dense
    applied, variables = rule.applications(call), rule.variables(operation)
    if not applied:  # an Embedding looks its values up, a PReLU multiplies entry by entry
        return not isinstance(operation, keras.layers.Bidirectional)
    return sum(math.prod(variables[name].shape) for name in applied) == matrices


def _multiplies_tensors(call: Call) -> bool:
    operation = call.operation
    if isinstance(operation, keras.Layer):
        return isinstance(operation, _ATTENTION)
    return type(operation).__name__ in _PRODUCTS


def _of_call(call: Call) -> int:
    operation = call.operation
    rule = find_rule(operation)
    if rule is not None:
        applied = rule.applications(call)
        variables = rule.variables(operation) if applied else {}
        return sum(math.prod(variables[name].shape) * applied[name] for name in applied)
    if not isinstance(operation, keras.Layer) or not call.outputs:
        return 0
    sizes = [math.prod(weight.shape) for weight in operation.weights if len(weight.shape) > 1]
    if not sizes:
        return 0
    output = call.outputs[0]
    rank = len(output.shape)
    axis = channel_axis(operation, rank) if hasattr(operation, "data_format") else rank - 1
    return sum(sizes) * positions(output, axis)
