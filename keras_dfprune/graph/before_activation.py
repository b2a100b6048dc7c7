"""Build a model that returns what stands in front of the last activations of another model.

A saturated softmax or sigmoid hides differences: two models are compared in front of it.
"""

import dataclasses
from typing import Any

import keras

from keras_dfprune.graph.copy_model import Copier, Symbols
from keras_dfprune.graph.keras_private import (
    Node,
    detached,
    functional_core,
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
from keras_dfprune.graph.recreate import recreate


@dataclasses.dataclass(frozen=True, eq=False)
class BeforeActivation:
    """Model that returns what stands in front of the last activations of another model.

    Attributes:
        model: The model. It shares the variables of the original and takes the same inputs. Its
            outputs have the same structure, order and shapes.
        softmax: For each output, in the order of `model.outputs`, whether a softmax was removed
            in front of it, or another function that ignores a constant added to a row. The mean
            of each row is subtracted from such an output already, because it changes nothing.
    """

    model: keras.Model
    softmax: tuple[bool, ...]


def before_activation(model: keras.Model) -> BeforeActivation:
    """Build a model on the same variables whose outputs are taken in front of the last activation.

    The last activation is the `activation` of a Dense or convolution, an activation layer or an
    operation such as `keras.ops.softmax`. It may be inside a nested model that is called last,
    and in front of dropout or of layers that only move values, such as Reshape. An output that
    comes from anything else is returned as it is.

    Args:
        model: A built Sequential or Functional model. It is not changed, nor are its layers.

    Returns:
        A `BeforeActivation`.

    Raises:
        ValueError: If the graph of the model can't be seen.
    """
    core = functional_core(model)
    if core is None:
        raise ValueError(f"The graph of model '{model.name}' can't be seen.")
    return _Cutter(core).cut()


Front = tuple[keras.KerasTensor, bool]  # a new tensor, and whether a softmax was removed


class _Cutter:
    """Cutter of the last activations of a functional graph."""

    def __init__(self, core: keras.Model):
        self._core = core
        self._copier = Copier(_share)
        self._symbols: Symbols = self._copier.repeat_calls(core)
        self._names = {operation.name for operation in core.operations}
        self._nested: dict[int, BeforeActivation] = {}

    def cut(self) -> BeforeActivation:
        """Return the model without the last activations."""
        fronts = {id(symbol): self._front(symbol) for symbol in self._core.outputs}
        inputs, outputs = structures(self._core)
        inputs = keras.tree.map_structure(lambda symbol: self._symbols[id(symbol)], inputs)
        outputs = keras.tree.map_structure(lambda symbol: fronts[id(symbol)][0], outputs)
        softmax = tuple(fronts[id(symbol)][1] for symbol in self._core.outputs)
        return BeforeActivation(keras.Model(inputs, outputs, name=self._core.name), softmax)

    def _front(self, symbol: keras.KerasTensor) -> Front:
        """Return what stands in front of the activation that makes a tensor, or else its copy."""
        copy, node = self._symbols[id(symbol)], node_behind(symbol)
        if node.is_input:
            return copy, False
        front = self._without_activation(node, symbol)
        return (copy, False) if front is None else front

    def _without_activation(self, node: Node, symbol: keras.KerasTensor) -> Front | None:
        """Return the tensor in front of the activation that a call ends with; None without one."""
        operation = node.operation
        if functional_core(operation) is not None:
            return self._inside(node, symbol)
        if passes_values(operation):
            return self._behind(node)
        axis = softmax_axis(operation)
        if is_activation(operation):
            if len(node.input_tensors) != 1 or _takes_mask(operation, node.input_tensors[0]):
                return None
            return self._centred(self._symbols[id(node.input_tensors[0])], axis)
        linear = linear_copy(operation)
        if linear is None:
            return None
        linear.name = self._new_name(operation.name)
        return self._centred(self._copier.call_like(node, linear, self._symbols)[0], axis)

    def _inside(self, node: Node, symbol: keras.KerasTensor) -> Front:
        """Return the output of a nested model in front of the activation inside it."""
        nested = node.operation
        if id(nested) not in self._nested:
            self._nested[id(nested)] = before_activation(nested)
            self._nested[id(nested)].model.name = self._new_name(nested.name)
        inner = self._nested[id(nested)]
        outputs = self._copier.call_like(node, inner.model, self._symbols)
        position = [output is symbol for output in node.outputs].index(True)
        return outputs[position], inner.softmax[position]

    def _behind(self, node: Node) -> Front:
        """Call a layer that passes values on with the values in front of the activation."""
        fronts = {id(symbol): self._front(symbol) for symbol in node.input_tensors}
        symbols = {**self._symbols, **{key: symbol for key, (symbol, _) in fronts.items()}}
        copy = detached(node.operation)
        copy.name = self._new_name(copy.name)
        (output,) = self._copier.call_like(node, copy, symbols)
        return output, any(softmax for _, softmax in fronts.values())

    def _centred(self, symbol: keras.KerasTensor, axis: Axis | None) -> Front:
        """Subtract the mean along the axis of a softmax, if there was one."""
        if axis is None:
            return symbol, False
        return _Centre(axis, name=self._new_name("centre"))(symbol), True

    def _new_name(self, name: str) -> str:
        """Return a name that no other operation of the new model has."""
        new = f"{name}_before_activation"
        while new in self._names:
            new += "_"
        self._names.add(new)
        return new


class _Centre(keras.Operation):
    """Operation that subtracts the mean along an axis."""

    def __init__(self, axis: Axis, name: str):
        super().__init__(name=name)
        self.axis = axis

    def call(self, x: Any) -> Any:
        return x - keras.ops.mean(x, axis=self.axis, keepdims=True)

    def compute_output_spec(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return keras.KerasTensor(x.shape, x.dtype)


def _share(operation: keras.Operation) -> keras.Operation:
    """Return a copy on the same variables; an `InputLayer` is made anew, with its tensor."""
    is_input = isinstance(operation, keras.layers.InputLayer)
    return recreate(operation) if is_input else detached(operation)


def _takes_mask(operation: keras.Operation, symbol: keras.KerasTensor) -> bool:
    """Return whether a softmax gets the mask of its input, which hides some of the values."""
    return isinstance(operation, keras.layers.Softmax) and mask_of(symbol) is not None
