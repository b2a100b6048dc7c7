"""Make the calls inside a layer visible to a trace, for as long as the trace runs."""

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from keras_dfprune.graph.keras_private import (
    all_layers,
    call_signature,
    copy_tensor,
    functional_core,
    keeps_histories,
    replaced,
    unbuildable,
    with_signature,
)
from keras_dfprune.report.short_message import short_message


class TraceError(Exception):
    """Error for a layer whose `call` doesn't run on symbolic tensors.

    Attributes:
        layer: The layer.
        reason: The error of its `call`, in one line.
    """

    def __init__(self, layer: keras.Layer, reason: str):
        super().__init__(reason)
        self.layer, self.reason = layer, reason

    @classmethod
    def of(cls, layer: keras.Layer, error: Exception) -> "TraceError":
        """Make a `TraceError` of an error of a layer's `call`: its message is the reason."""
        return cls(layer, f"{type(error).__name__}: {short_message(error)}")


class Aliases:
    """Symbolic tensors that stand for other ones."""

    def __init__(self) -> None:
        # The aliases are kept alive, because Python reuses the `id` of what is gone.
        self._pairs: dict[int, tuple[keras.KerasTensor, keras.KerasTensor]] = {}

    def add(self, alias: keras.KerasTensor, original: keras.KerasTensor) -> keras.KerasTensor:
        """Record that `alias` stands for `original`, and return `alias`."""
        self._pairs[id(alias)] = alias, original
        return alias

    def original(self, tensor: keras.KerasTensor) -> keras.KerasTensor:
        """Return the tensor that `tensor` stands for; `tensor` if it is no alias."""
        while id(tensor) in self._pairs:
            tensor = self._pairs[id(tensor)][1]
        return tensor


@contextlib.contextmanager
def undisturbed(layer: keras.Layer) -> Iterator[None]:
    """Restore the call histories inside a layer afterwards, and let nothing be built meanwhile."""
    parts = all_layers(layer)
    cores = [core for core in map(functional_core, parts) if core is not None]
    operations = [*parts, *(operation for core in cores for operation in core.operations)]
    with keeps_histories(operations), contextlib.ExitStack() as stack:
        for part in parts:
            if not part.built:
                stack.enter_context(unbuildable(part))
        yield


@contextlib.contextmanager
def opened_layer(
    layer: keras.Layer, aliases: Aliases, failures: list[TraceError]
) -> Iterator[None]:
    """Let a symbolic call of a layer run its `call`, with `training` left open unless it is set.

    Keras adds a node for the layer to the tensors that it returns. They are aliases of what `call`
    returns, so that the nodes inside the layer stay visible.

    Args:
        layer: The layer.
        aliases: Takes up the aliases.
        failures: Takes up the errors of the layer's `call`, the innermost first.
    """
    signature = call_signature(layer)
    takes_training = "training" in signature.parameters

    def symbolic_call(*args: Any, **kwargs: Any) -> Any:
        if takes_training:
            kwargs.setdefault("training", None)
        try:
            outputs = layer.call(*args, **kwargs)
            flat = keras.tree.flatten(outputs)
            if not flat or not all(isinstance(output, keras.KerasTensor) for output in flat):
                raise ValueError("its `call` returns something other than what its layers make")
            return keras.tree.map_structure(
                lambda output: aliases.add(copy_tensor(output), output), outputs
            )
        except Exception as error:
            failures.append(TraceError.of(layer, error))
            raise

    parameters = [
        parameter.replace(default=None)
        if parameter.name == "training" and parameter.default is not inspect.Parameter.empty
        else parameter
        for parameter in signature.parameters.values()
    ]
    left_open = signature.replace(parameters=parameters)
    with with_signature(layer, left_open), replaced(layer, symbolic_call=symbolic_call):
        yield


@contextlib.contextmanager
def recorded_on_constants(layer: keras.Layer, symbols: list[keras.KerasTensor]) -> Iterator[None]:
    """Let calls of a layer on constants alone be recorded too, an Embedding of positions, say.

    Keras would run them at once, and the result, which depends on the layer's weights, would be
    a constant.

    Args:
        layer: The layer.
        symbols: The symbolic inputs of the trace: one of them makes the constants symbolic.
    """
    numeric = [symbol for symbol in symbols if symbol.dtype != "string"]
    call = layer.call

    def symbolic(value: Any) -> keras.KerasTensor:
        zero = keras.ops.sum(keras.ops.zeros_like(numeric[0]))
        return keras.ops.add(value, keras.ops.cast(zero, value.dtype))

    def call_on_constants(*args: Any, **kwargs: Any) -> Any:
        # Not if Keras runs the layer in a TensorFlow graph, to infer the shape of its output.
        if args and numeric and tf.executing_eagerly():
            return layer(keras.tree.map_structure(symbolic, args[0]), *args[1:], **kwargs)
        return call(*args, **kwargs)

    with replaced(layer, call=call_on_constants):
        yield
