"""A model as a flat list of calls, and what they compute, one by one.

Nested models are inlined: a layer of a shared model occurs in several calls.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras


@dataclasses.dataclass(frozen=True, eq=False)
class Tensor:
    """One symbolic tensor at one call site; compared by identity.

    Attributes:
        shape: Shape with the batch axis first; None for an unknown length.
        dtype: Name of the dtype.
        name: Name of the Keras tensor.
    """

    shape: tuple[int | None, ...]
    dtype: str
    name: str


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """One call of an operation.

    Attributes:
        operation: The `keras.Operation`, for most calls a `keras.Layer`.
        path: Its name, with the names of the nested models around it: `inner/fc1`.
        args, kwargs: The arguments, with a `Tensor` in place of each Keras tensor.
        inputs: All tensors among the arguments, in order.
        outputs: The tensors returned.
        training: What `training=` was fixed to, here or by a model around it; else None.
    """

    operation: keras.Operation
    path: str
    args: tuple
    kwargs: dict[str, Any]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    training: bool | None


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
    """The calls of a model in topological order, nested models inlined.

    Attributes:
        calls: The calls. An `InputLayer` of a nested model is a call that hands its input on.
        inputs, outputs: The model's tensors.
        paths: Path of each operation, by the operation's `id`.
    """

    calls: tuple[Call, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    paths: dict[int, str]


def run_calls(graph: Graph, given: Mapping[Tensor, Any]) -> dict[Tensor, Any]:
    """Runs the calls of a graph at inference, one by one.

    Args:
        graph: A graph.
        given: A value for each of its inputs.

    Returns:
        The values of all tensors.
    """
    known = dict(given)

    def fill(value):
        return known[value] if isinstance(value, Tensor) else value

    for call in graph.calls:
        if isinstance(call.operation, keras.layers.InputLayer):
            results = [known[call.inputs[0]]]
        else:
            args, kwargs = keras.tree.map_structure(fill, (call.args, call.kwargs))
            results = keras.tree.flatten(call.operation(*args, **kwargs))
        known.update(zip(call.outputs, results, strict=True))
    return known
