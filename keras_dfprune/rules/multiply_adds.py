"""Count the multiply-adds of a model: how much arithmetic one row costs at inference."""

import math
from collections.abc import Iterable

import keras

from keras_dfprune.graph.calls import Call
from keras_dfprune.rules.base import positions
from keras_dfprune.rules.convolution import channel_axis
from keras_dfprune.rules.registry import find_rule

_TRANSPOSED = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)


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
    tensor = call.inputs[0] if isinstance(operation, _TRANSPOSED) else call.outputs[0]
    rank = len(tensor.shape)
    axis = channel_axis(operation, rank) if hasattr(operation, "data_format") else rank - 1
    return sum(sizes) * positions(tensor, axis)
