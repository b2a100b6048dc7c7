"""A model into a new one that calls re-made operations in the way it calls its own."""

from collections.abc import Callable
from typing import Any

import keras

from keras_dfprune.graph.keras_private import (
    functional_core,
    operation_behind,
    ordered_nodes,
    stacked_layers,
    structures,
)

Remake = Callable[[keras.Operation], keras.Operation]
EditArguments = Callable[[keras.Operation, tuple, dict], tuple[tuple, dict]]
Pairs = list[tuple[keras.Operation, keras.Operation]]  # old, new


def copy_model(
    model: keras.Model,
    remake: Remake,
    edit_arguments: EditArguments | None = None,
) -> tuple[keras.Model, Pairs]:
    """Builds a new model that calls re-made operations in the way `model` calls its own.

    Args:
        model: A built Sequential or Functional model; it and its layers stay as they are.
        remake: Function from an operation to the one that takes its place; called once for each
            operation, `InputLayer` included, but not for nested models, which are copied.
        edit_arguments: Function from an operation and the arguments of one call to the arguments
            to use instead; called before the new tensors are filled in. None to keep them.

    Returns:
        The new model (a `Sequential` for a `Sequential`, else a functional `keras.Model`), and
        pairs of each old operation with its new one, models before what is in them.
    """
    copier = Copier(remake, edit_arguments)
    new = copier.copy(model)
    return new, [(model, new), *copier.pairs()]


class Copier:
    """Copies a model and the models inside it; each operation is re-made once.

    Args:
        remake: As for `copy_model`.
        edit_arguments: As for `copy_model`.
        identify: Function from a tensor to its key among the known ones; equal for tensors that
            stand for each other.
    """

    def __init__(
        self,
        remake: Remake,
        edit_arguments: EditArguments | None = None,
        identify: Callable[[keras.KerasTensor], int] = id,
    ):
        self._remake = remake
        self._edit_arguments = edit_arguments
        self._identify = identify
        self._made: dict[int, keras.Operation] = {}
        self._pairs: Pairs = []

    def pairs(self) -> Pairs:
        """Each old operation with its new one, models before what is in them."""
        models = [(old, made) for old, made in self._pairs if isinstance(made, keras.Model)]
        others = [(old, made) for old, made in self._pairs if not isinstance(made, keras.Model)]
        return [*reversed(models), *others]

    def operation(self, operation: keras.Operation) -> keras.Operation:
        """The operation in the place of `operation`, made where it is asked for first."""
        if id(operation) not in self._made:
            nested = functional_core(operation) is not None
            new = self.copy(operation) if nested else self._remake(operation)
            self._made[id(operation)] = new
            self._pairs.append((operation, new))
        return self._made[id(operation)]

    def copy(self, model: keras.Model) -> keras.Model:
        """A new model that calls re-made operations as `model` calls its own."""
        if isinstance(model, keras.Sequential):
            layers = [self.operation(layer) for layer in stacked_layers(model)]
            return keras.Sequential(layers, name=model.name)
        known = {}
        for symbol in model.inputs:
            known[id(symbol)] = self.operation(operation_behind(symbol)).output
        for node in ordered_nodes(model):
            self.replay(node, known)
        inputs, outputs = (
            keras.tree.map_structure(lambda symbol: known[id(symbol)], struct)
            for struct in structures(model)
        )
        return keras.Model(inputs, outputs, name=model.name)

    def replay(self, node, known: dict[int, keras.KerasTensor], **further: Any) -> None:
        """Makes one call anew, with `further` arguments, and adds its outputs to the known ones."""
        operation = self.operation(node.operation)
        args, kwargs = node.arguments.args, {**node.arguments.kwargs, **further}
        if self._edit_arguments is not None:
            args, kwargs = self._edit_arguments(node.operation, args, kwargs)

        def fill(value):
            symbolic = isinstance(value, keras.KerasTensor)
            return known[self._identify(value)] if symbolic else value

        args, kwargs = keras.tree.map_structure(fill, (args, kwargs))
        outputs = keras.tree.flatten(operation(*args, **kwargs))
        known.update((id(s), t) for s, t in zip(node.outputs, outputs, strict=True))
