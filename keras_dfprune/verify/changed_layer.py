"""Find the layer at which two runs of a model, or of a model and its copy, part."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_dfprune.graph.calls import Call, Graph, Tensor, run_calls
from keras_dfprune.graph.compare_outputs import compare_output
from keras_dfprune.graph.further_state import keeps_state
from keras_dfprune.inputs.model_inputs import Samples

Operations = Mapping[str, keras.Operation]  # by path


@dataclasses.dataclass(frozen=True)
class ChangedLayer:
    """Layer that returns other values than before, on the same inputs.

    Attributes:
        name: Its path and its class, for messages.
        difference: Largest difference, relative to the largest value.
    """

    name: str
    difference: float


def find_changed_layer(
    model: keras.Model,
    graph: Graph,
    inputs: Samples,
    operations: Operations | None = None,
    tolerance: float = 0.0,
) -> ChangedLayer | None:
    """Find the first layer that returns other values when it is called again on the same inputs.

    Args:
        model: The model.
        graph: Its calls.
        inputs: Its inputs, in order.
        operations: Operations to call the second time instead of the model's own. None: the same.
        tolerance: Largest relative difference that counts as equal.
    """
    replaced = operations or {}
    given = zip(graph.inputs, inputs.values(), strict=True)
    values: dict[Tensor, Any] = {tensor: keras.ops.convert_to_tensor(x) for tensor, x in given}
    for call in graph.calls:
        expected = _run(model, call, values, call.operation)
        received = _run(model, call, values, replaced.get(call.path, call.operation))
        for tensor in call.outputs:
            pair = (np.asarray(results[tensor]) for results in (expected, received))
            difference = compare_output(*pair, strict_nonfinite=False).relative
            if difference > tolerance:
                name = f"'{call.path}' ({type(call.operation).__name__})"
                return ChangedLayer(name, difference)
        values = expected
    return None


def _run(
    model: keras.Model, call: Call, values: Mapping[Tensor, Any], operation: keras.Operation
) -> dict[Tensor, Any]:
    with tf.device("CPU:0"), keeps_state(model):
        return run_calls([call], values, {call: operation})
