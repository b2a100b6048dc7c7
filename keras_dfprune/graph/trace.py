"""Record what a layer calls on symbolic inputs, and build a functional model from the record."""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_dfprune.graph.copy_model import Copier, Pairs, Recreate, Symbols
from keras_dfprune.graph.keras_private import (
    Node,
    all_layers,
    call_signature,
    mask_of,
    node_behind,
    operation_behind,
)
from keras_dfprune.graph.symbolic_calls import (
    Aliases,
    TraceError,
    opened_layer,
    recorded_on_constants,
    undisturbed,
)


@dataclasses.dataclass(frozen=True, eq=False)
class Trace:
    """Calls that a layer is made of.

    Attributes:
        inputs, outputs: The symbolic tensors, in the structures that the layer takes and returns.
        nodes: The calls, each after those it needs.
        aliases: Tensors that stand for others: those returned by an opened layer, and inputs with
            the size of the batch filled in.
    """

    inputs: Any
    outputs: Any
    nodes: tuple[Node, ...]
    aliases: Aliases

    @property
    def operations(self) -> list[keras.Operation]:
        """Operations called, each once, in order."""
        return list({id(node.operation): node.operation for node in self.nodes}.values())

    def identify(self, tensor: keras.KerasTensor) -> int:
        """Return the `id` of the tensor that `tensor` stands for."""
        return id(self.aliases.original(tensor))


def trace(
    layer: keras.Layer, inputs: Any, opened: Sequence[keras.Layer], batch: int | None = None
) -> Trace:
    """Record what a layer calls on symbolic inputs. The layer stays as it was.

    Args:
        layer: A built layer, usually a subclassed model.
        inputs: Tensors made by `keras.Input`, in the structure that the layer takes.
        opened: Layers inside it. The calls that they make are recorded instead of their own call.
        batch: The size of the batch that the layer sees if `inputs` leave it open; None to leave
            it open.

    Raises:
        TraceError: If the `call` of `layer` or of an opened layer doesn't run on such tensors.
    """
    aliases = Aliases()
    failures: list[TraceError] = []

    def with_batch(symbol: keras.KerasTensor) -> keras.KerasTensor:
        if batch is None or symbol.shape[0] is not None:
            return symbol
        shape = (batch, *symbol.shape[1:])
        sized = keras.Input(batch_shape=shape, dtype=symbol.dtype, name=symbol.name)
        return aliases.add(sized, symbol)

    given = keras.tree.map_structure(with_batch, inputs)
    opened_ids = {id(part) for part in (layer, *opened)}
    with undisturbed(layer), contextlib.ExitStack() as stack:
        for part in all_layers(layer):
            if id(part) in opened_ids:
                stack.enter_context(opened_layer(part, aliases, failures))
            elif part.variables:
                stack.enter_context(recorded_on_constants(part, keras.tree.flatten(given)))
        try:
            outputs = layer(given)
        except Exception as error:  # whatever the user's code or Keras raises
            raise failures[0] if failures else TraceError.of(layer, error) from error
        nodes = _nodes_between(layer, inputs, outputs, aliases)
    return Trace(inputs, outputs, tuple(nodes), aliases)


def _nodes_between(layer: keras.Layer, inputs: Any, outputs: Any, aliases: Aliases) -> list[Node]:
    """Return the calls between the inputs and the outputs of a trace, each after those it needs.

    Raises:
        TraceError: If an output depends on another symbolic tensor than the inputs.
    """
    symbols = {id(symbol) for symbol in keras.tree.flatten(inputs)}

    def nodes_of(tensors: Sequence[keras.KerasTensor]) -> list[Node]:
        originals = [aliases.original(tensor) for tensor in tensors]
        nodes = [node_behind(tensor) for tensor in originals if id(tensor) not in symbols]
        if any(node.is_input for node in nodes):
            raise TraceError(layer, "it depends on a symbolic tensor that is none of its inputs")
        return nodes

    ordered: list[Node] = []
    done: set[int] = set()
    pending = nodes_of(keras.tree.flatten(outputs))[::-1]
    while pending:
        node = pending[-1]
        if id(node) in done:
            pending.pop()
            continue
        masks = keras.tree.flatten(list(_attached_masks(node).values()))
        tensors = [*node.input_tensors, *(mask for mask in masks if mask is not None)]
        needed = [before for before in nodes_of(tensors) if id(before) not in done]
        if needed:
            pending += needed[::-1]
        else:
            done.add(id(node))
            ordered.append(node)
    return ordered


def _attached_masks(node: Node) -> dict[str, Any]:
    """Return the masks attached to a call's tensors, as the arguments that Keras makes of them.

    An opened layer may have attached them to its outputs; the functional model has no such layer.
    """
    if not isinstance(node.operation, keras.Layer):
        return {}
    signature = call_signature(node.operation)
    given = signature.bind_partial(*node.arguments.args, **node.arguments.kwargs).arguments
    tensors = {name: value for name, value in given.items() if _holds_tensors(value)}
    attached = {}
    for name, value in tensors.items():
        argument = "mask" if len(tensors) == 1 else f"{name}_mask"
        masks = keras.tree.map_structure(mask_of, value)
        has_mask = any(isinstance(mask, keras.KerasTensor) for mask in keras.tree.flatten(masks))
        if has_mask and argument in signature.parameters and given.get(argument) is None:
            attached[argument] = masks
    return attached


def _holds_tensors(value: Any) -> bool:
    flat = keras.tree.flatten(value)
    return bool(flat) and all(isinstance(element, keras.KerasTensor) for element in flat)


def model_of_trace(
    traced: Trace, recreate: Recreate, names: Mapping[int, str], name: str
) -> tuple[keras.Model, Pairs]:
    """Build a functional model that makes the calls of a trace.

    Args:
        traced: The trace.
        recreate: As for `copy_model`.
        names: A name for each operation, by its `id`, among which none occurs twice.
        name: Name of the model.

    Returns:
        The model, and pairs of each operation with its new one, models before the operations
        inside them.
    """
    copier = Copier(recreate, identify=traced.identify)
    copier.own(traced.operations)
    symbols: Symbols = {}
    for symbol in keras.tree.flatten(traced.inputs):
        symbols[id(symbol)] = copier.new_operation(operation_behind(symbol)).output
    for node in traced.nodes:
        copier.new_operation(node.operation).name = names[id(node.operation)]
        copier.repeat_call(node, symbols, **_attached_masks(node))
    inputs = keras.tree.map_structure(lambda symbol: symbols[id(symbol)], traced.inputs)
    outputs = keras.tree.map_structure(
        lambda symbol: symbols[traced.identify(symbol)], traced.outputs
    )
    return keras.Model(inputs, outputs, name=name), copier.pairs()
