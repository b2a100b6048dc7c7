"""Read and set Keras's private attributes, each behind a function.

No other module touches them. `tests/graph/test_keras_private.py` states what this module assumes
of Keras.
"""

import contextlib
import inspect
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import keras
from keras.src.models.functional import Functional

_UNKNOWN_ARGUMENTS = "Unrecognized keyword arguments"
# Held while layers of the user's model are changed for a moment.
_ONE_AT_A_TIME = threading.RLock()
# The `kernel` of other convolutions is a property, the sum of `_kernel` and LoRA weights.
_WITH_PLAIN_KERNEL = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)


class Arguments(Protocol):
    """Arguments of one call of an operation."""

    args: tuple
    kwargs: dict[str, Any]

    def fill_in(self, tensor_dict: Mapping[int, Any]) -> tuple[tuple, dict[str, Any]]:
        """Return the arguments with each Keras tensor replaced by its entry, found by `id`."""


class Node(Protocol):
    """Call of an operation, as Keras records it.

    Attributes:
        operation: The operation called.
        arguments: Its arguments.
        input_tensors: All Keras tensors among the arguments, in order.
        outputs: The Keras tensors returned.
        is_input: Whether the call has no input tensors, as for an `InputLayer`.
    """

    operation: keras.Operation
    arguments: Arguments
    input_tensors: list[keras.KerasTensor]
    outputs: list[keras.KerasTensor]
    is_input: bool


def is_stock(operation: keras.Operation) -> bool:
    """Return whether the class of an operation is one of Keras's own."""
    return type(operation).__module__.startswith("keras.")


def is_preprocessing(kind: type) -> bool:
    """Return whether a class of Keras prepares data, such as `Rescaling` or `StringLookup`."""
    return ".preprocessing." in kind.__module__


def functional_core(model: keras.Operation) -> Functional | None:
    """Return the functional graph that calling `model` runs, or None if it can't be seen."""
    if isinstance(model, keras.Sequential):
        overridden = type(model).call is not keras.Sequential.call
        return None if overridden else model._functional
    if isinstance(model, Functional) and type(model).call is Functional.call:
        return model
    return None


def ordered_nodes(core: Functional) -> list[Node]:
    """Return the calls of a functional graph, each after those it needs, without its inputs."""
    depths = sorted(core._nodes_by_depth, reverse=True)
    nodes = [node for depth in depths for node in core._nodes_by_depth[depth]]
    return [node for node in nodes if not node.is_input]


def structures(core: Functional) -> tuple[Any, Any]:
    """Return the inputs and outputs of a functional graph, nested as it was made with them."""
    return core._inputs_struct, core._outputs_struct


def stacked_layers(model: keras.Sequential) -> list[keras.Layer]:
    """Return the layers of a `Sequential`, its `InputLayer` included."""
    return model._layers


def operation_behind(symbol: keras.KerasTensor) -> keras.Operation:
    """Return the operation that a tensor comes from."""
    return symbol._keras_history.operation


def node_behind(symbol: keras.KerasTensor) -> Node:
    """Return the call that a tensor comes from."""
    history = symbol._keras_history
    return vars(history.operation)["_inbound_nodes"][history.node_index]


def take_up(symbol: keras.KerasTensor) -> None:
    """Call something on an input that nothing takes: Keras before 3.14 refuses it in a model."""
    if not operation_behind(symbol)._outbound_nodes:
        keras.layers.Identity()(symbol)


def mask_of(symbol: Any) -> Any:
    """Return the mask that is attached to a tensor, or None."""
    return getattr(symbol, "_keras_mask", None)


def copy_tensor(symbol: keras.KerasTensor) -> keras.KerasTensor:
    """Return a new tensor of equal shape, dtype, name and mask that comes from no call yet."""
    copy = keras.KerasTensor(symbol.shape, symbol.dtype, name=symbol.name)
    copy._keras_mask = mask_of(symbol)
    return copy


def call_signature(layer: keras.Layer) -> inspect.Signature:
    """Return the signature by which Keras sorts the arguments of a layer's `call`."""
    return vars(layer)["_call_signature"]


def hold_variables(layer: keras.Layer, kernel: keras.Variable, bias: keras.Variable | None) -> None:
    """Let an unbuilt convolution compute with variables that exist already."""
    name = "kernel" if isinstance(layer, _WITH_PLAIN_KERNEL) else "_kernel"
    setattr(layer, name, kernel)
    layer.bias = bias
    layer.built = True


def all_layers(layer: keras.Layer) -> list[keras.Layer]:
    """Return `layer` and every layer inside it, each once, in a fixed order."""
    return list({id(inner): inner for inner in layer._flatten_layers()}.values())


def detached(operation: keras.Operation) -> keras.Operation:
    """Return a copy that shares variables and attributes but has its own call history."""
    copy = object.__new__(type(operation))
    copy.__dict__.update(operation.__dict__)
    copy.__dict__.update(_inbound_nodes=[], _outbound_nodes=[])
    return copy


def is_detached(copy: keras.Operation, layer: keras.Layer) -> bool:
    """Return whether `copy` is a `detached` copy of a layer."""
    return vars(copy).get("_tracker") is vars(layer)["_tracker"]


@contextlib.contextmanager
def replaced(layer: keras.Layer, **attributes: Any) -> Iterator[None]:
    """Give a layer other attributes for a while, past Keras's own `__setattr__`.

    Other threads that want to change a layer wait meanwhile: it may be the same one.
    """
    own = vars(layer)
    with _ONE_AT_A_TIME:
        before = {name: own[name] for name in attributes if name in own}
        try:
            own.update(attributes)
            yield
        finally:
            for name in attributes:
                own.pop(name, None)
            own.update(before)


def with_signature(
    layer: keras.Layer, signature: inspect.Signature
) -> contextlib.AbstractContextManager[None]:
    """Give a layer another `call_signature` for a while."""
    return replaced(layer, _call_signature=signature)


def unbuildable(layer: keras.Layer) -> contextlib.AbstractContextManager[None]:
    """Make calls of an unbuilt layer fail for a while, where Keras would build it."""

    def refuse(call_spec: Any) -> None:
        raise ValueError(f"layer '{layer.name}' isn't built yet; call the model once on data")

    return replaced(layer, _maybe_build=refuse)


@contextlib.contextmanager
def keeps_histories(operations: Sequence[keras.Operation]) -> Iterator[None]:
    """Restore the call histories of operations afterwards. Other threads wait meanwhile."""
    with _ONE_AT_A_TIME:
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


def unknown_arguments(error: TypeError, names: Iterable[str]) -> set[str]:
    """Return which entries of a config the constructor of a layer doesn't take.

    Keras names them in the text of an error alone.

    Args:
        error: The error that `from_config` raised.
        names: Entries of the config.

    Returns:
        Those that the error names as unknown; empty if it reports something else.
    """
    text = str(error.__context__)  # what the constructor raised
    if not text.startswith(_UNKNOWN_ARGUMENTS):
        return set()
    return {name for name in names if f"'{name}':" in text}


def metric_direction(model: keras.Model, name: str) -> str | None:
    """Return `"up"` or `"down"`: the better direction of a compiled metric; None if unknown.

    Args:
        model: A compiled model that was evaluated once.
        name: Name of the metric, as `Model.evaluate` returns it, or `"loss"`.
    """
    if name == "loss":
        return "down"
    waiting = list(model.metrics)
    while waiting:
        metric = waiting.pop()
        waiting += getattr(metric, "metrics", [])
        if metric.name == name or name.endswith(f"_{metric.name}"):
            direction = getattr(metric, "_direction", None)
            if direction is not None:
                return direction
    return None


def compile_arguments(model: keras.Model) -> dict[str, Any]:
    """Return the arguments of `model.compile`, the objects themselves; empty if not compiled."""
    return dict(model._compile_config.config) if model.compiled else {}


def optimizer_slots(
    optimizer: keras.optimizers.Optimizer,
) -> tuple[list[keras.Variable], dict[str, list]]:
    """Return the variables that an optimizer trains, and its slots for them.

    Returns:
        The trained variables, and the lists of slots by attribute name: momenta, moving averages,
        accumulated gradients. Each list holds one slot for each trained variable.
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
    """Return whether an optimizer's weight decay applies to a variable, were it configured."""
    return optimizer._use_weight_decay(variable)
