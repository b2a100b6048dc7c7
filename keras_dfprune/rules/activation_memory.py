"""Compute the memory that a model's activations take at one time.

The calls run in the order of the graph. A tensor is alive from the call that returns it to the last
call that takes it, and an output of the model to the end. The peak is the largest sum of the
tensors alive during one call.
"""

from collections.abc import Iterable, Sequence

import keras
import tensorflow as tf

from keras_dfprune.graph.calls import Call, Tensor
from keras_dfprune.rules.base import positions
from keras_dfprune.rules.registry import find_rule


def peak_activation_bytes(
    calls: Sequence[Call], inputs: Iterable[Tensor], outputs: Iterable[Tensor]
) -> int:
    """Return the largest sum of the tensors alive at one time, for one row of the inputs.

    The inputs and outputs of each call count, and whatever a later call needs. A layer that only
    hands its input on (Dropout, Flatten, Reshape) adds nothing. Weights and what a layer needs
    inside itself don't count, and no layer writes over its input.

    Args:
        calls: The calls of a model, in the order in which they run.
        inputs: The model's inputs.
        outputs: The model's outputs.

    Returns:
        Bytes.

    Raises:
        ValueError: If the size of a tensor is unknown.
    """
    owner: dict[Tensor, Tensor] = {tensor: tensor for tensor in inputs}
    first: dict[Tensor, int] = dict.fromkeys(owner, 0)
    last: dict[Tensor, int] = dict.fromkeys(owner, 0)
    for step, call in enumerate(calls):
        for tensor in call.inputs:
            last[owner.setdefault(tensor, tensor)] = step
        for tensor in call.outputs:
            owner[tensor] = owner[call.inputs[0]] if _hands_on(call) else tensor
            first.setdefault(owner[tensor], step)
            last[owner[tensor]] = step
    steps = max(1, len(calls))
    last.update((owner[tensor], steps - 1) for tensor in outputs)
    changes = [0] * (steps + 1)
    for tensor, step in first.items():
        size = _bytes_of_row(tensor)
        changes[step] += size
        changes[last[tensor] + 1] -= size
    alive = peak = 0
    for change in changes:
        alive += change
        peak = max(peak, alive)
    return peak


def _hands_on(call: Call) -> bool:
    """Return whether a call returns its input as it is, perhaps in another shape."""
    if len(call.inputs) != 1 or len(call.outputs) != 1 or call.training:
        return False
    rule = find_rule(call.operation)
    is_reshape = isinstance(call.operation, keras.layers.Reshape)
    keeps = is_reshape or (rule is not None and rule.keeps_values(call))
    return keeps and call.inputs[0].dtype == call.outputs[0].dtype


def _bytes_of_row(tensor: Tensor) -> int:
    if tensor.dtype == "string":
        raise ValueError(f"Strings have no fixed size. Received: tensor '{tensor.name}'.")
    return positions(tensor) * int(tf.as_dtype(tensor.dtype).size)
