"""Read the calls of a Sequential or Functional model, those of the models inside it included."""

from typing import Any

import keras

from keras_dfprune.graph.calls import Call, Graph, Tensor
from keras_dfprune.graph.keras_private import (
    Node,
    functional_core,
    operation_behind,
    ordered_nodes,
    structures,
)
from keras_dfprune.graph.parts import parts_of

Tensors = dict[int, Tensor]  # by the `id` of a Keras tensor


def read_graph(model: keras.Model) -> Graph:
    """Read the calls of a Sequential or Functional model.

    Args:
        model: A built model that `check_model` accepts.

    Returns:
        A `Graph`.

    Raises:
        ValueError: If the graph of the model can't be seen.
    """
    core = functional_core(model)
    if core is None:
        raise ValueError(f"The graph of model '{model.name}' can't be seen.")
    reader = _Reader()
    inputs = tuple(_describe(symbol) for symbol in core.inputs)
    for symbol in core.inputs:
        layer = operation_behind(symbol)
        reader.paths.setdefault(id(layer), layer.name)
    outputs = reader.read(core, inputs, prefix="", training=None)
    return Graph(tuple(reader.calls), inputs, outputs, reader.paths, reader.nested)


class _Reader:
    """Reader of the calls of a model and of the models inside it.

    Attributes:
        calls: The calls read so far.
        paths: Path of each operation, by the operation's `id`.
        nested: Inputs and outputs of each nested model at its first call, by its path.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.paths: dict[int, str] = {}
        self._parts: dict[int, dict[str, keras.Operation]] = {}
        self.nested: dict[str, tuple[tuple[Tensor, ...], tuple[Tensor, ...]]] = {}

    def read(
        self, core: keras.Model, inputs: tuple[Tensor, ...], prefix: str, training: bool | None
    ) -> tuple[Tensor, ...]:
        """Read all calls of a model, and return its outputs."""
        tensors = {id(symbol): tensor for symbol, tensor in zip(core.inputs, inputs, strict=True)}
        for node in ordered_nodes(core):
            path = self.paths.setdefault(id(node.operation), prefix + node.operation.name)
            outputs = self._read_call(node, path, tensors, training)
            tensors.update((id(s), t) for s, t in zip(node.outputs, outputs, strict=True))
        return tuple(tensors[id(symbol)] for symbol in core.outputs)

    def _read_call(
        self, node: Node, path: str, tensors: Tensors, training: bool | None
    ) -> tuple[Tensor, ...]:
        args, kwargs = node.arguments.fill_in(tensors)
        inputs = tuple(tensors[id(symbol)] for symbol in node.input_tensors)
        own = kwargs.get("training")
        if training is None and own is not None:  # the `training` of a model around it goes first
            training = bool(own)
        core = functional_core(node.operation)
        if core is not None:
            inputs = _in_order_of_names(core, args, kwargs, inputs)
            if len(inputs) == len(core.inputs):
                inner = self._read_inputs(core, inputs, path + "/")
                outputs = self.read(core, inner, path + "/", training)
                self.nested.setdefault(path, (inputs, outputs))
                return outputs
        outputs = tuple(_describe(symbol) for symbol in node.outputs)
        parts = self._parts.setdefault(id(node.operation), parts_of(node.operation))
        if len(parts) == 1 or len(inputs) != 1:
            self.calls.append(Call(node.operation, path, args, kwargs, inputs, outputs, training))
        else:
            self._read_parts(parts, node.operation, path, inputs[0], outputs[0], training)
        return outputs

    def _read_parts(
        self,
        parts: dict[str, keras.Operation],
        layer: keras.Layer,
        path: str,
        tensor: Tensor,
        output: Tensor,
        training: bool | None,
    ) -> None:
        """Read a call of a layer as calls of its parts, one after the other."""
        for suffix, part in parts.items():
            shape = tuple(part.compute_output_shape(tensor.shape))
            result = Tensor(shape, output.dtype, output.name + suffix) if suffix else output
            tensors = (tensor,)
            self.calls.append(
                Call(part, path + suffix, tensors, {}, tensors, (result,), training, (layer, path))
            )
            tensor = result

    def _read_inputs(
        self, core: keras.Model, inputs: tuple[Tensor, ...], prefix: str
    ) -> tuple[Tensor, ...]:
        """Read the `InputLayer`s of a nested model as calls, and return their outputs."""
        inner = []
        for symbol, tensor in zip(core.inputs, inputs, strict=True):
            layer = operation_behind(symbol)
            path = self.paths.setdefault(id(layer), prefix + layer.name)
            inner.append(_describe(symbol))
            self.calls.append(Call(layer, path, (tensor,), {}, (tensor,), (inner[-1],), None))
        return tuple(inner)


def _in_order_of_names(
    core: keras.Model, args: tuple, kwargs: dict[str, Any], inputs: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """Return the tensors of a call in the order of the called model's inputs.

    Keras finds them by name if a model that takes no dict is called with a dict.
    """
    given = args[0] if args else kwargs.get("inputs")
    if not isinstance(given, dict) or isinstance(structures(core)[0], dict):
        return inputs
    by_name = [given.get(symbol.name) for symbol in core.inputs]
    tensors = tuple(tensor for tensor in by_name if tensor is not None)
    return tensors if len(tensors) == len(by_name) else inputs


def _describe(symbol: keras.KerasTensor) -> Tensor:
    return Tensor(tuple(symbol.shape), symbol.dtype, symbol.name)
