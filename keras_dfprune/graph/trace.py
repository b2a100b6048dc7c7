"""What a layer calls on symbolic inputs, as a trace; and a trace into a functional model."""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_dfprune.graph.copy_model import Copier, Pairs, Remake
from keras_dfprune.graph.keras_private import (
    all_layers,
    call_signature,
    mask_of,
    node_behind,
    operation_behind,
)
from keras_dfprune.graph.symbolic_calls import (
    TraceError,
    opened_layer,
    recorded_on_constants,
    undisturbed,
)


@dataclasses.dataclass(frozen=True, eq=False)
class Trace:
    """The calls that a layer is made of.

    Attributes:
        inputs, outputs: The symbolic tensors, in the structures that the layer takes and returns.
        nodes: The calls, each behind those that it needs.
        aliases: Which tensor a tensor stands for that came out of an opened layer, or an input
            with the batch filled in, by its `id`, with the tensor itself.
    """

    inputs: Any
    outputs: Any
    nodes: tuple
    aliases: dict[int, tuple[keras.KerasTensor, keras.KerasTensor]]

    @property
    def operations(self) -> list[keras.Operation]:
        """What is called, each once, in order."""
        return list({id(node.operation): node.operation for node in self.nodes}.values())

    @property
    def constants(self) -> list[tuple[keras.Operation, Any]]:
        """Operations with what they are called with beside symbolic tensors."""
        return [
            (node.operation, value)
            for node in self.nodes
            for value in keras.tree.flatten((node.arguments.args, node.arguments.kwargs))
            if not isinstance(value, keras.KerasTensor)
        ]

    def identify(self, tensor: keras.KerasTensor) -> int:
        """The `id` of the tensor that `tensor` stands for."""
        while id(tensor) in self.aliases:
            tensor = self.aliases[id(tensor)][1]
        return id(tensor)


def trace(
    layer: keras.Layer, inputs: Any, opened: Sequence[keras.Layer], batch: int | None = None
) -> Trace:
    """Records what a layer calls on symbolic inputs. The layer stays as it was.

    Args:
        layer: A built layer, usually a subclassed model.
        inputs: Tensors made by `keras.Input`, in the structure that the layer takes.
        opened: Layers inside it whose calls are recorded in place of one call of themselves.
        batch: The size of the batch that the layer sees where `inputs` leave it open; None to
            leave it so.

    Raises:
        TraceError: If the `call` of `layer` or of an opened one doesn't run on such tensors.
    """
    aliases: dict = {}
    failures: list[TraceError] = []

    def with_batch(symbol):
        if batch is None or symbol.shape[0] is not None:
            return symbol
        shape = (batch, *symbol.shape[1:])
        twin = keras.Input(batch_shape=shape, dtype=symbol.dtype, name=symbol.name)
        aliases[id(twin)] = (twin, symbol)
        return twin

    given = keras.tree.map_structure(with_batch, inputs)
    looked_into = {id(part) for part in (layer, *opened)}
    with undisturbed(layer), contextlib.ExitStack() as stack:
        for part in all_layers(layer):
            if id(part) in looked_into:
                stack.enter_context(opened_layer(part, aliases, failures))
            elif part.variables:
                stack.enter_context(recorded_on_constants(part, keras.tree.flatten(given)))
        try:
            outputs = layer(given)
        except Exception as error:  # whatever the user's code or Keras says
            raise failures[0] if failures else TraceError.of(layer, error) from error
        found = Trace(inputs, outputs, (), aliases)
        return dataclasses.replace(found, nodes=tuple(_nodes_behind(found, layer)))


def _nodes_behind(found: Trace, layer: keras.Layer) -> list:
    """The calls that the outputs of a trace come from, each behind those that it needs."""
    symbols = {id(symbol) for symbol in keras.tree.flatten(found.inputs)}

    def node_of(tensor):
        while id(tensor) in found.aliases:
            tensor = found.aliases[id(tensor)][1]
        if id(tensor) in symbols:
            return None
        node = node_behind(tensor)
        if node.is_input:
            raise TraceError(layer, "it depends on a symbolic tensor that is none of its inputs")
        return node

    ordered, done = [], {id(None)}
    pending = [node_of(tensor) for tensor in keras.tree.flatten(found.outputs)][::-1]
    while pending:
        node = pending[-1]
        if id(node) in done:
            pending.pop()
            continue
        masks = keras.tree.flatten(list(_attached_masks(node).values()))
        tensors = [*node.input_tensors, *(mask for mask in masks if mask is not None)]
        needed = [one for one in map(node_of, tensors) if id(one) not in done]
        if needed:
            pending += needed[::-1]
        else:
            done.add(id(node))
            ordered.append(node)
    return ordered


def _attached_masks(node) -> dict[str, Any]:
    """The masks that came with a call's tensors, as the arguments that Keras makes of them.

    An opened layer attached them, perhaps, to what it returned; nothing else would do so again.
    """
    if not isinstance(node.operation, keras.Layer):
        return {}
    signature = call_signature(node.operation)
    given = signature.bind_partial(*node.arguments.args, **node.arguments.kwargs).arguments
    tensors = {name: value for name, value in given.items() if _holds_tensors(value)}
    found = {}
    for name, value in tensors.items():
        argument = "mask" if len(tensors) == 1 else f"{name}_mask"
        masks = keras.tree.map_structure(mask_of, value)
        attached = any(isinstance(one, keras.KerasTensor) for one in keras.tree.flatten(masks))
        if attached and argument in signature.parameters and given.get(argument) is None:
            found[argument] = masks
    return found


def _holds_tensors(value: Any) -> bool:
    flat = keras.tree.flatten(value)
    return bool(flat) and all(isinstance(one, keras.KerasTensor) for one in flat)


def model_of(
    found: Trace,
    remake: Remake,
    names: Mapping[int, str],
    name: str,
) -> tuple[keras.Model, Pairs]:
    """Builds a functional model that makes the calls of a trace.

    Args:
        found: What `trace` returned.
        remake: As for `copy_model`.
        names: A name for each operation, by its `id`, among which none occurs twice.
        name: Name of the model.

    Returns:
        The model, and pairs of each operation with its new one, models before what is in them.
    """
    copier = Copier(remake, identify=found.identify)
    known = {}
    for symbol in keras.tree.flatten(found.inputs):
        known[id(symbol)] = copier.operation(operation_behind(symbol)).output
    for node in found.nodes:
        copier.operation(node.operation).name = names[id(node.operation)]
        copier.replay(node, known, **_attached_masks(node))
    inputs = keras.tree.map_structure(lambda symbol: known[id(symbol)], found.inputs)
    outputs = keras.tree.map_structure(lambda symbol: known[found.identify(symbol)], found.outputs)
    return keras.Model(inputs, outputs, name=name), copier.pairs()
