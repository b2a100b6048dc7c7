"""Describe a model as a flat list of calls, and run calls one by one.

Nested models are inlined: a layer of a shared model occurs in several calls.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import keras


@dataclasses.dataclass(frozen=True, eq=False)
class Tensor:
    """Symbolic tensor at one call site; compared by identity.

    Attributes:
        shape: Shape with the batch axis first; None for an unknown length.
        dtype: Name of the dtype.
        name: Name of the Keras tensor.
    """

    shape: tuple[int | None, ...]
    dtype: str
    name: str


Tensors = tuple[Tensor, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """Call of an operation.

    Attributes:
        operation: The `keras.Operation`, for most calls a `keras.Layer` or a part of one.
        path: Its name behind the names of the nested models around it: `inner/fc1`.
        args, kwargs: The arguments, with a `Tensor` in place of each Keras tensor.
        inputs: All tensors among the arguments, in order.
        outputs: The tensors returned.
        training: Value to which `training=` is fixed, here or by a model around it; else None.
        part_of: The layer that the operation is a part of (see `parts_of`), with its path. None
            for a whole layer or operation of the model.
    """

    operation: keras.Operation
    path: str
    args: tuple
    kwargs: dict[str, Any]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    training: bool | None
    part_of: tuple[keras.Layer, str] | None = None

    @property
    def layer(self) -> keras.Operation:
        """Layer or operation of the model that is called."""
        return self.operation if self.part_of is None else self.part_of[0]

    @property
    def layer_path(self) -> str:
        """Path of `layer`."""
        return self.path if self.part_of is None else self.part_of[1]


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
    """Calls of a model in topological order, nested models inlined.

    Attributes:
        calls: The calls. An `InputLayer` of a nested model is a call that returns its input.
        inputs, outputs: The model's tensors.
        paths: Path of each operation of the model, by the operation's `id`.
        nested: Inputs and outputs of each nested model at its first call, by its path.
    """

    calls: tuple[Call, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    paths: dict[int, str]
    nested: dict[str, tuple[Tensors, Tensors]]


def run_calls(
    calls: Iterable[Call],
    given: Mapping[Tensor, Any],
    replacements: Mapping[Call, keras.Operation] | None = None,
) -> dict[Tensor, Any]:
    """Run calls one by one, at inference.

    Args:
        calls: Calls in topological order: all of a `Graph` or some of them.
        given: A value for each tensor that the calls need and none of them returns.
        replacements: Operations to run instead of those of some calls.

    Returns:
        The values of all tensors, the given ones included.
    """
    values = dict(given)
    replacements = replacements or {}

    def fill(argument: Any) -> Any:
        return values[argument] if isinstance(argument, Tensor) else argument

    for call in calls:
        operation = replacements.get(call, call.operation)
        if isinstance(operation, keras.layers.InputLayer):  # of a nested model
            results = [values[call.inputs[0]]]
        else:
            args, kwargs = keras.tree.map_structure(fill, (call.args, call.kwargs))
            results = keras.tree.flatten(operation(*args, **kwargs))
        values.update(zip(call.outputs, results, strict=True))
    return values
