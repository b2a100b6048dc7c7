"""What is read and set of Keras's private attributes, each behind a function.

The only module that touches them; `tests/test_graph.py` holds what it assumes of them.
"""

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import keras
from keras.src.models.functional import Functional


def functional_core(model: keras.Operation) -> Functional | None:
    """The functional graph that calling `model` runs, or None where there is none to see."""
    if isinstance(model, keras.Sequential):
        overridden = type(model).call is not keras.Sequential.call
        return None if overridden else model._functional
    if isinstance(model, Functional) and type(model).call is Functional.call:
        return model
    return None


def ordered_nodes(core: Functional) -> list:
    """The nodes of a functional graph, inputs left out, each after those that it needs."""
    depths = sorted(core._nodes_by_depth, reverse=True)
    nodes = [node for depth in depths for node in core._nodes_by_depth[depth]]
    return [node for node in nodes if not node.is_input]


def structures(core: Functional) -> tuple[Any, Any]:
    """The inputs and the outputs of a functional graph, in the structures it was made with."""
    return core._inputs_struct, core._outputs_struct


def stacked_layers(model: keras.Sequential) -> list[keras.Layer]:
    """The layers of a `Sequential`, its `InputLayer` included."""
    return model._layers


def operation_behind(symbol: keras.KerasTensor) -> keras.Operation:
    """The operation that a tensor comes from."""
    return symbol._keras_history.operation


def node_behind(symbol: keras.KerasTensor) -> Any:
    """The call, a Keras node, that a tensor comes from."""
    history = symbol._keras_history
    return vars(history.operation)["_inbound_nodes"][history.node_index]


def mask_of(symbol: Any) -> Any:
    """The mask that is attached to a tensor, or None."""
    return getattr(symbol, "_keras_mask", None)


def look_alike(symbol: keras.KerasTensor) -> keras.KerasTensor:
    """A tensor like another, the mask included, that comes from nowhere yet."""
    twin = keras.KerasTensor(symbol.shape, symbol.dtype, name=symbol.name)
    twin._keras_mask = mask_of(symbol)
    return twin


def call_signature(layer: keras.Layer) -> inspect.Signature:
    """The signature of a layer's `call`, as Keras goes by it."""
    return vars(layer)["_call_signature"]


def all_layers(layer: keras.Layer) -> list[keras.Layer]:
    """`layer` and every layer inside it, each once, in a fixed order."""
    return list({id(inner): inner for inner in layer._flatten_layers()}.values())


def detached(operation: keras.Operation) -> keras.Operation:
    """The same operation, variables and attributes shared, with a call history of its own."""
    twin = object.__new__(type(operation))
    twin.__dict__.update(operation.__dict__)
    twin.__dict__.update(_inbound_nodes=[], _outbound_nodes=[])
    return twin


def is_detached(twin: keras.Operation, operation: keras.Layer) -> bool:
    """Whether `twin` is what `detached` made of a layer."""
    return vars(twin).get("_tracker") is vars(operation)["_tracker"]


@contextlib.contextmanager
def replaced(layer: keras.Layer, **attributes: Any) -> Iterator[None]:
    """Gives a layer other attributes for a while, past what Keras does where one is set."""
    own = vars(layer)
    before = {name: own[name] for name in attributes if name in own}
    own.update(attributes)
    try:
        yield
    finally:
        for name in attributes:
            del own[name]
        own.update(before)


def with_signature(
    layer: keras.Layer, signature: inspect.Signature
) -> contextlib.AbstractContextManager[None]:
    """Has Keras go by another signature of a layer's `call` for a while."""
    return replaced(layer, _call_signature=signature)


def unbuildable(layer: keras.Layer) -> contextlib.AbstractContextManager[None]:
    """Lets calls of a layer that isn't built fail for a while, where Keras would build it."""

    def refuse(call_spec):
        raise ValueError(f"layer '{layer.name}' isn't built yet; call the model once on data")

    return replaced(layer, _maybe_build=refuse)


@contextlib.contextmanager
def keeps_histories(operations: Sequence[keras.Operation]) -> Iterator[None]:
    """Gives operations the call histories back that they have now."""
    before = [
        (vars(operation), list(vars(operation)["_inbound_nodes"]),
         list(vars(operation)["_outbound_nodes"]))
        for operation in operations
    ]  # fmt: skip
    try:
        yield
    finally:
        for own, inbound, outbound in before:
            own["_inbound_nodes"], own["_outbound_nodes"] = inbound, outbound


def compile_arguments(model: keras.Model) -> dict[str, Any]:
    """What `model.compile` was called with, as the objects themselves; empty if it wasn't."""
    return dict(model._compile_config.config) if model.compiled else {}


def optimizer_slots(
    optimizer: keras.optimizers.Optimizer,
) -> tuple[list[keras.Variable], dict[str, list]]:
    """The variables that an optimizer trains, and its slots for them.

    Returns:
        The trained variables, and for each attribute that holds one slot for each of them
        (momenta, moving averages, accumulated gradients) the list, by the attribute's name.
    """
    trained = list(optimizer._trainable_variables)
    slots = {
        name: list(value)
        for name, value in vars(optimizer).items()
        if name not in ("_trainable_variables", "_variables")
        and isinstance(value, list)
        and len(value) == len(trained)
        and any(isinstance(slot, keras.Variable) for slot in value)
    }
    return trained, slots


def is_decayed(optimizer: keras.optimizers.Optimizer, variable: keras.Variable) -> bool:
    """Whether `optimizer.exclude_from_weight_decay` leaves the weight decay of `variable` on."""
    return optimizer._use_weight_decay(variable)
