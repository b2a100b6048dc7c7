"""Build a model that returns what stands in front of the last activations of another model.

A saturated softmax or sigmoid hides differences: two models are compared in front of it.
"""

import dataclasses
from typing import Any

import keras

from keras_dfprune.graph.keras_private import (
    Node,
    detached,
    functional_core,
    keeps_histories,
    mask_of,
    node_behind,
    structures,
)
from keras_dfprune.graph.last_activation import (
    Axis,
    is_activation,
    linear_copy,
    passes_values,
    softmax_axis,
)

Symbols = dict[int, keras.KerasTensor]  # new tensors by the `id` of the old ones


@dataclasses.dataclass(frozen=True, eq=False)
class BeforeActivation:
    """Model that returns what stands in front of the last activations of another model.

    Attributes:
        model: The model, on the layers of the original. It takes the same inputs. Its outputs have
            the structure, order and shapes of the original's.
        softmax: For each output, in the order of `model.outputs`, whether a softmax was removed
            in front of it, or another function that ignores a constant added to a row. The mean
            of each row is subtracted from such an output already, because it changes nothing.
    """

    model: keras.Model
    softmax: tuple[bool, ...]


def before_activation(model: keras.Model) -> BeforeActivation:
    """Build a model on the same layers whose outputs are taken in front of the last activation.

    The last activation is the `activation` of a Dense or convolution, an activation layer or an
    operation such as `keras.ops.softmax`. It may be inside a nested model that is called last,
    and in front of dropout or of layers that only move values, such as Reshape. An output that
    comes from anything else is returned as it is.

    Args:
        model: A built Sequential or Functional model. It is not changed, nor are its layers and
            their call histories.

    Returns:
        A `BeforeActivation`.

    Raises:
        ValueError: If the graph of the model can't be seen.
    """
    core = _core_of(model)
    with keeps_histories(core.operations):
        ends = _ends(core, centre=True)
        found = {id(symbol): end for symbol, end in zip(core.outputs, ends, strict=True)}
        inputs, outputs = structures(core)
        fronts = keras.tree.map_structure(lambda symbol: found[id(symbol)].front, outputs)
        new = keras.Model(inputs, fronts, name=core.name)
    return BeforeActivation(new, tuple(end.softmax for end in ends))


def with_fronts(model: keras.Model) -> keras.Model:
    """Build a model on the same layers that returns its outputs and what stands in front of them.

    Args:
        model: As for `before_activation`.

    Returns:
        A model of the same inputs that returns two flat lists: the outputs, and what stands in
        front of each. No mean is subtracted there.

    Raises:
        ValueError: If the graph of the model can't be seen.
    """
    return _with_fronts(_core_of(model), centre=False)[0]


def _with_fronts(core: keras.Model, centre: bool) -> tuple[keras.Model, list[bool]]:
    with keeps_histories(core.operations):
        ends = _ends(core, centre)
        outputs = [[end.output for end in ends], [end.front for end in ends]]
        new = keras.Model(structures(core)[0], outputs, name=core.name)
    return new, [end.softmax for end in ends]


def _core_of(model: keras.Model) -> keras.Model:
    core = functional_core(model)
    if core is None:
        raise ValueError(f"The graph of model '{model.name}' can't be seen.")
    return core


@dataclasses.dataclass(frozen=True, eq=False)
class _End:
    """Output of a model.

    Attributes:
        output: The tensor, or an equal one.
        front: The tensor in front of its last activation; `output` without one.
        softmax: Whether the activation ignores a constant added to a row.
    """

    output: keras.KerasTensor
    front: keras.KerasTensor
    softmax: bool = False


def _ends(core: keras.Model, centre: bool) -> list[_End]:
    """Find what stands in front of the outputs of a functional graph."""
    finder = _Finder(core, centre)
    return [finder.end(symbol) for symbol in core.outputs]


class _Finder:
    """Finder of the last activations of a functional graph.

    Args:
        core: The graph.
        centre: Whether to subtract the mean of each row in front of a softmax.
    """

    def __init__(self, core: keras.Model, centre: bool):
        self._centre = centre
        self._names = {operation.name for operation in core.operations}
        self._calls: dict[int, tuple[Node, list[_End]]] = {}  # of nested models

    def end(self, symbol: keras.KerasTensor) -> _End:
        """Find what stands in front of the activation that makes a tensor."""
        node = node_behind(symbol)
        operation = node.operation
        if node.is_input:
            return _End(symbol, symbol)
        if functional_core(operation) is not None:
            return self._inside(node, symbol)
        if passes_values(operation):
            return self._behind(node, symbol)
        if is_activation(operation):
            if len(node.input_tensors) != 1 or _takes_mask(operation, node.input_tensors[0]):
                return _End(symbol, symbol)
            return self._centred(symbol, node.input_tensors[0], softmax_axis(operation))
        linear = linear_copy(operation)
        if linear is None:
            return _End(symbol, symbol)
        linear.name = self._new_name(operation.name)
        (front,) = _call_like(node, linear, {})
        return self._centred(symbol, front, softmax_axis(operation))

    def _inside(self, node: Node, symbol: keras.KerasTensor) -> _End:
        """Find what stands in front of the activation inside a nested model."""
        if id(node) not in self._calls:
            inner, softmax = _with_fronts(_core_of(node.operation), self._centre)
            inner.name = self._new_name(node.operation.name)
            outputs = _call_like(node, inner, {})
            count = len(softmax)
            ends = list(map(_End, outputs[:count], outputs[count:], softmax))
            self._calls[id(node)] = node, ends
        position = [output is symbol for output in node.outputs].index(True)
        return self._calls[id(node)][1][position]

    def _behind(self, node: Node, symbol: keras.KerasTensor) -> _End:
        """Call a layer that passes values on with the values in front of the activation."""
        ends = {id(given): self.end(given) for given in node.input_tensors}
        if all(end.front is end.output for end in ends.values()):
            return _End(symbol, symbol)
        outputs = {key: end.output for key, end in ends.items()}
        fronts = {key: end.front for key, end in ends.items()}
        output, front = (self._called_again(node, symbols) for symbols in (outputs, fronts))
        return _End(output, front, any(end.softmax for end in ends.values()))

    def _called_again(self, node: Node, symbols: Symbols) -> keras.KerasTensor:
        copy = detached(node.operation)
        copy.name = self._new_name(copy.name)
        return _call_like(node, copy, symbols)[0]

    def _centred(
        self, output: keras.KerasTensor, front: keras.KerasTensor, axis: Axis | None
    ) -> _End:
        """Subtract the mean along the axis of a softmax, if there was one and it is wanted."""
        if axis is not None and self._centre:
            front = _Centre(axis, name=self._new_name("centre"))(front)
        return _End(output, front, softmax=axis is not None)

    def _new_name(self, name: str) -> str:
        """Return a name that no other operation of the new model has."""
        new = f"{name}_before_activation"
        while new in self._names:
            new += "_"
        self._names.add(new)
        return new


def _call_like(node: Node, operation: keras.Operation, symbols: Symbols) -> list[keras.KerasTensor]:
    """Call an operation with the arguments of a call, some tensors among them replaced."""
    given = {id(tensor): symbols.get(id(tensor), tensor) for tensor in node.input_tensors}
    args, kwargs = node.arguments.fill_in(given)
    return keras.tree.flatten(operation(*args, **kwargs))


class _Centre(keras.Operation):
    """Operation that subtracts the mean along an axis."""

    def __init__(self, axis: Axis, name: str):
        super().__init__(name=name)
        self.axis = axis

    def call(self, x: Any) -> Any:
        return x - keras.ops.mean(x, axis=self.axis, keepdims=True)

    def compute_output_spec(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return keras.KerasTensor(x.shape, x.dtype)


def _takes_mask(operation: keras.Operation, symbol: keras.KerasTensor) -> bool:
    """Return whether a softmax gets the mask of its input, which hides some of the values."""
    return isinstance(operation, keras.layers.Softmax) and mask_of(symbol) is not None
