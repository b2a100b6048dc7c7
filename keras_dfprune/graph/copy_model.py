"""Build a new model that calls new operations as the original calls its own."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_dfprune.graph.keras_private import (
    Node,
    functional_core,
    operation_behind,
    ordered_nodes,
    stacked_layers,
    structures,
    take_up,
)
from keras_dfprune.graph.ownership import is_variable, variable_key

Recreate = Callable[[keras.Operation], keras.Operation]
EditArguments = Callable[[keras.Operation, tuple, dict], tuple[tuple, dict]]
Pairs = list[tuple[keras.Operation, keras.Operation]]  # old, new
Symbols = dict[int, keras.KerasTensor]  # new tensors by the `id` of the old ones


def copy_model(
    model: keras.Model,
    recreate: Recreate,
    edit_arguments: EditArguments | None = None,
) -> tuple[keras.Model, Pairs]:
    """Build a new model that calls new operations as `model` calls its own.

    Args:
        model: A built Sequential or Functional model; it and its layers stay as they are.
        recreate: Function from an operation to a new one; called once for each operation,
            `InputLayer` included, but not for nested models, which are copied.
        edit_arguments: Function from an operation and the arguments of one call to the arguments
            to use instead; called before the new tensors are filled in. None to keep them.

    Returns:
        The new model (a `Sequential` for a `Sequential`, else a functional `keras.Model`), and
        pairs of each old operation with its new one, models before the operations inside them.
    """
    copier = Copier(recreate, edit_arguments)
    new = copier.copy(model)
    return new, [(model, new), *copier.pairs()]


class Copier:
    """Copier of a model and the models inside it; makes one new operation for each old one.

    Args:
        recreate: As for `copy_model`.
        edit_arguments: As for `copy_model`.
        identify: Function from an old tensor to its key among the new ones; equal for tensors
            that stand for each other.
    """

    def __init__(
        self,
        recreate: Recreate,
        edit_arguments: EditArguments | None = None,
        identify: Callable[[keras.KerasTensor], int] = id,
    ):
        self._recreate = recreate
        self._edit_arguments = edit_arguments
        self._identify = identify
        self._pairs: dict[int, tuple[keras.Operation, keras.Operation]] = {}
        self._owners: dict[int, tuple[keras.Layer, int]] = {}
        self._loose_variables: dict[int, keras.Variable] = {}

    def pairs(self) -> Pairs:
        """Return each old operation with its new one, models before the operations inside them."""
        pairs = list(self._pairs.values())
        models = [pair for pair in pairs if isinstance(pair[1], keras.Model)]
        operations = [pair for pair in pairs if not isinstance(pair[1], keras.Model)]
        return [*reversed(models), *operations]

    def new_operation(self, operation: keras.Operation) -> keras.Operation:
        """Return the new operation for an old one, and make it at the first request."""
        if id(operation) not in self._pairs:
            nested = functional_core(operation) is not None
            new = self.copy(operation) if nested else self._recreate(operation)
            self._pairs[id(operation)] = operation, new
        return self._pairs[id(operation)][1]

    def own(self, operations: Iterable[keras.Operation]) -> None:
        """Note which variables these operations own, for calls that take one as an argument."""
        for operation in operations:
            if isinstance(operation, keras.Layer):
                for index, variable in enumerate(operation.variables):
                    self._owners.setdefault(variable_key(variable), (operation, index))

    def _new_variable(self, old: keras.Variable | tf.Variable) -> keras.Variable:
        """Return the new variable for one that is an argument of a call."""
        key = variable_key(old)
        if key in self._owners:
            owner, index = self._owners[key]
            layer = self.new_operation(owner)
            if not layer.built:
                layer.build_from_config(owner.get_build_config())
            return layer.variables[index]
        if key not in self._loose_variables:  # no layer owns it
            self._loose_variables[key] = keras.Variable(
                np.array(old),
                dtype=keras.backend.standardize_dtype(old.dtype),
                trainable=old.trainable,
            )
        return self._loose_variables[key]

    def copy(self, model: keras.Model) -> keras.Model:
        """Build a new model that calls new operations as `model` calls its own."""
        self.own(_leaf_operations(model))
        if isinstance(model, keras.Sequential):
            layers = [self.new_operation(layer) for layer in stacked_layers(model)]
            return keras.Sequential(layers, name=model.name)
        symbols: Symbols = {}
        for symbol in model.inputs:
            symbols[id(symbol)] = self.new_operation(operation_behind(symbol)).output
        for node in ordered_nodes(model):
            self.repeat_call(node, symbols)
        for symbol in model.inputs:
            take_up(symbols[id(symbol)])
        inputs, outputs = (
            keras.tree.map_structure(lambda symbol: symbols[id(symbol)], structure)
            for structure in structures(model)
        )
        return keras.Model(inputs, outputs, name=model.name)

    def repeat_call(self, node: Node, symbols: Symbols, **further_arguments: Any) -> None:
        """Call the new operation as a node calls the old one, and add the outputs to `symbols`."""
        operation = self.new_operation(node.operation)
        args, kwargs = node.arguments.args, {**node.arguments.kwargs, **further_arguments}
        if self._edit_arguments is not None:
            args, kwargs = self._edit_arguments(node.operation, args, kwargs)

        def fill(value: Any) -> Any:
            if isinstance(value, keras.KerasTensor):
                return symbols[self._identify(value)]
            return self._new_variable(value) if is_variable(value) else value

        args, kwargs = keras.tree.map_structure(fill, (args, kwargs))
        outputs = keras.tree.flatten(operation(*args, **kwargs))
        symbols.update((id(old), new) for old, new in zip(node.outputs, outputs, strict=True))


def _leaf_operations(model: keras.Model) -> Iterator[keras.Operation]:
    """Yield the operations of a model, those of the models inside it in their place."""
    if isinstance(model, keras.Sequential):
        operations = stacked_layers(model)
    else:
        operations = [node.operation for node in ordered_nodes(model)]
    for operation in operations:
        if functional_core(operation) is None:
            yield operation
        else:
            yield from _leaf_operations(operation)
