"""A Sequential or Functional model into its calls, those of the models inside it included."""

import keras

from keras_dfprune.graph.calls import Call, Graph, Tensor
from keras_dfprune.graph.keras_private import (
    functional_core,
    operation_behind,
    ordered_nodes,
    structures,
)


def read_graph(model: keras.Model) -> Graph:
    """Reads the calls of a Sequential or Functional model.

    Args:
        model: A built model for which `functional_core` is not None.

    Returns:
        A `Graph`.
    """
    reader = _Reader()
    core = functional_core(model)
    inputs = tuple(_describe(tensor) for tensor in core.inputs)
    for tensor in core.inputs:
        layer = operation_behind(tensor)
        reader.paths.setdefault(id(layer), layer.name)
    outputs = reader.walk(core, inputs, prefix="", training=None)
    return Graph(tuple(reader.calls), inputs, outputs, reader.paths)


class _Reader:
    """Collects calls while it walks through a model and the models inside it."""

    def __init__(self):
        self.calls: list[Call] = []
        self.paths: dict[int, str] = {}

    def walk(self, core, inputs, prefix, training) -> tuple[Tensor, ...]:
        known = {id(symbol): tensor for symbol, tensor in zip(core.inputs, inputs, strict=True)}
        for node in ordered_nodes(core):
            path = self.paths.setdefault(id(node.operation), prefix + node.operation.name)
            self._call(node, path, known, training)
        return tuple(known[id(symbol)] for symbol in core.outputs)

    def _call(self, node, path, known, training):
        args, kwargs = node.arguments.fill_in(known)
        inputs = tuple(known[id(symbol)] for symbol in node.input_tensors)
        own = kwargs.get("training")
        if training is None and own is not None:  # what a model was called with goes first
            training = bool(own)
        core = functional_core(node.operation)
        if core is not None:
            inputs = _by_name(core, args, kwargs, inputs)
        if core is not None and len(inputs) == len(core.inputs):
            inner = self._enter(core, inputs, path + "/")
            outputs = self.walk(core, inner, path + "/", training)
        else:
            outputs = tuple(_describe(symbol) for symbol in node.outputs)
            call = Call(node.operation, path, args, kwargs, inputs, outputs, training)
            self.calls.append(call)
        known.update((id(s), t) for s, t in zip(node.outputs, outputs, strict=True))

    def _enter(self, core, inputs, prefix) -> tuple[Tensor, ...]:
        inner = []
        for symbol, tensor in zip(core.inputs, inputs, strict=True):
            layer = operation_behind(symbol)
            path = self.paths.setdefault(id(layer), prefix + layer.name)
            inner.append(_describe(symbol))
            self.calls.append(Call(layer, path, (tensor,), {}, (tensor,), (inner[-1],), None))
        return tuple(inner)


def _by_name(core: keras.Model, args: tuple, kwargs: dict, inputs: tuple) -> tuple:
    """The tensors of a call in the order of the called model's inputs.

    Keras finds them by their names where a model that takes no dict is called with one.
    """
    given = args[0] if args else kwargs.get("inputs")
    if not isinstance(given, dict) or isinstance(structures(core)[0], dict):
        return inputs
    found = tuple(given.get(symbol.name) for symbol in core.inputs)
    return found if None not in found else inputs


def _describe(symbol: keras.KerasTensor) -> Tensor:
    return Tensor(tuple(symbol.shape), symbol.dtype, symbol.name)
