"""Build a functional model from a trace, with as many composite layers opened as possible.

A composite layer is a custom layer that holds layers with units. Opened, its inner layers are
layers of the functional model.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import keras

from keras_dfprune.graph.keras_private import all_layers, functional_core, is_stock
from keras_dfprune.graph.parts import parts_of
from keras_dfprune.graph.recreate import VariablePair, copy_state, is_reused, recreate
from keras_dfprune.graph.symbolic_calls import TraceError
from keras_dfprune.graph.trace import Trace, model_of_trace, trace
from keras_dfprune.rules import registry
from keras_dfprune.rules.kernels import KernelRule
from keras_dfprune.verify.same_answers import find_output_mismatch


def is_composite(layer: keras.Layer) -> bool:
    """Return whether a layer is custom, has no rule, and holds layers with units."""
    has_rule = registry.find_rule(layer) is not None
    if is_stock(layer) or has_rule or functional_core(layer) is not None:
        return False
    inside = [part for inner in all_layers(layer)[1:] for part in parts_of(inner).values()]
    return any(isinstance(registry.find_rule(part), KernelRule) for part in inside)


def hides_layers(model: keras.Model) -> bool:
    """Return whether a model holds composite layers."""
    return any(map(is_composite, all_layers(model)[1:]))


def _contains_composite(layer: keras.Layer) -> bool:
    """Return whether a layer is a functional model with composite layers somewhere inside."""
    return functional_core(layer) is not None and hides_layers(layer)


def _own_weights(layer: keras.Layer) -> list[str]:
    """Return the names of a layer's weights that no layer inside it holds."""
    inside = {id(weight) for part in all_layers(layer)[1:] for weight in part.weights}
    return [weight.name for weight in layer.weights if id(weight) not in inside]


@dataclasses.dataclass(frozen=True, eq=False)
class FunctionalModel:
    """Functional model made of another model.

    Attributes:
        model: The functional model.
        pairs: The variables of the original's layers, each with that of the functional model.
        fault: Why the functional model can't be used; None if it can.
    """

    model: keras.Model
    pairs: tuple[VariablePair, ...]
    fault: str | None


class Opener:
    """Maker of functional models that finds out which composite layers can be opened.

    Args:
        model: The model.
        symbols: Its inputs, as made by `keras.Input`.

    Attributes:
        whole: Error of each composite layer that has to stay whole, by the layer's `id`.
    """

    def __init__(self, model: keras.Model, symbols: Any):
        self._model = model
        self._symbols = symbols
        self._composites = [
            part
            for part in all_layers(model)[1:]
            if is_composite(part) or _contains_composite(part)
        ]
        self.whole: dict[int, TraceError] = {}
        for part in (model, *self._composites):
            own = _own_weights(part)
            if own:
                reason = f"it has weights of its own ({', '.join(own)}); put them into a layer"
                self._leave_whole(TraceError(part, reason))

    def open_all_possible(self) -> FunctionalModel:
        """Make the functional model with as many composite layers opened as compute the same.

        All are opened at once first, which nearly always works; else one after the other.

        Raises:
            ValueError: If the model can't be made functional even with all of them whole.
        """
        result = self._open(self._composites)
        if result.fault is None:
            return result
        result = self._open(())
        if result.fault is not None:
            raise self._refusal(result.fault)
        opened: list[keras.Layer] = []
        for part in self._openable(self._composites):
            further = self._open([*opened, part])
            if further.fault is None:
                result = further
                opened.append(part)
            else:
                self._leave_whole(TraceError(part, further.fault))
        return result

    def _open(self, layers: Iterable[keras.Layer]) -> FunctionalModel:
        """Make a functional model with these layers opened, except those that can't be traced."""
        while True:
            opened = self._openable(layers)
            try:
                traced = self._trace(opened)
            except TraceError as error:
                self._leave_whole(error)
            else:
                return _make(self._model, traced, [self._model, *opened])

    def _trace(self, opened: Sequence[keras.Layer]) -> Trace:
        """Trace the model with a batch of open size; if that fails, with a batch of one.

        Code that asks for the size of the batch, for a causal mask, say, needs a number. The
        comparison uses another size, so outputs that depend on it are noticed.
        """
        try:
            return trace(self._model, self._symbols, opened)
        except TraceError:
            return trace(self._model, self._symbols, opened, batch=1)

    def _openable(self, layers: Iterable[keras.Layer]) -> list[keras.Layer]:
        return [layer for layer in layers if id(layer) not in self.whole]

    def _leave_whole(self, error: TraceError) -> None:
        if error.layer is self._model:
            raise self._refusal(error.reason) from error
        self.whole[id(error.layer)] = error

    def _refusal(self, reason: str) -> ValueError:
        return ValueError(
            f"Model '{self._model.name}' ({type(self._model).__name__}) can't be made functional: "
            f"{reason}. Its `call` may use Keras layers and `keras.ops` on its inputs only, and "
            "has to do the same in training and at inference but for what its layers do."
        )


def _make(model: keras.Model, traced: Trace, opened: Sequence[keras.Layer]) -> FunctionalModel:
    """Build the functional model of a trace, give it the original's state, and compare them."""
    fault = _shared_weights(traced)
    if fault is not None:
        return FunctionalModel(model, (), fault)
    new, operations = model_of_trace(traced, recreate, _names(traced, opened), model.name)
    new.trainable = model.trainable
    pairs: list[VariablePair] = []
    for old, made in operations:
        if functional_core(old) is not None:
            made.trainable = old.trainable
        elif isinstance(old, keras.Layer) and is_reused(old, made):
            if old.variables:
                fault = f"{old.name} ({type(old).__name__}) can't be made anew from its config"
                return FunctionalModel(new, (), fault)
        elif isinstance(old, keras.Layer):
            copy_state(old, made)
            variables = zip(old.variables, made.variables, strict=True)
            pairs += [VariablePair(a, b, lambda array: array) for a, b in variables]
    return FunctionalModel(
        new, tuple(pairs), find_output_mismatch(model, new, traced.inputs, pairs)
    )


def _shared_weights(traced: Trace) -> str | None:
    """Find two layers of a trace that hold the same variable: a clause, or None."""
    holders: dict[int, str] = {}
    for layer in traced.operations:
        for variable in layer.variables if isinstance(layer, keras.Layer) else ():
            holder = holders.setdefault(id(variable), layer.name)
            if holder != layer.name:
                return f"{holder} and {layer.name} share their weights"
    return None


def _names(traced: Trace, opened: Sequence[keras.Layer]) -> dict[int, str]:
    """Choose a name for each operation of a trace, by the operation's `id`.

    It is the operation's own name. If several operations have that name, the name of the opened
    layer around each one goes in front, and a number behind if need be.
    """
    around = {id(part): layer.name for layer in opened for part in all_layers(layer)[1:]}
    names = [operation.name for operation in traced.operations]
    taken = {symbol.name for symbol in keras.tree.flatten(traced.inputs)}
    chosen = {}
    for operation, name in zip(traced.operations, names, strict=True):
        if names.count(name) > 1 and id(operation) in around:
            name = f"{around[id(operation)]}_{name}"
        number, base = 0, name
        while name in taken:
            number += 1
            name = f"{base}_{number}"
        taken.add(name)
        chosen[id(operation)] = name
    return chosen
