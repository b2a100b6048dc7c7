"""Layers made to show their calls to a trace: opened, or recorded where Keras would compute.

What is put on a layer for it is taken away again.
"""

import contextlib
import inspect
from collections.abc import Iterator

import keras
import tensorflow as tf

from keras_dfprune.graph.keras_private import (
    all_layers,
    call_signature,
    functional_core,
    keeps_histories,
    look_alike,
    replaced,
    unbuildable,
    with_signature,
)


class TraceError(Exception):
    """A layer's `call` doesn't run on symbolic tensors.

    Attributes:
        layer: The layer.
        reason: What it said, in one line.
    """

    def __init__(self, layer: keras.Layer, reason: str):
        super().__init__(reason)
        self.layer, self.reason = layer, reason

    @classmethod
    def of(cls, layer: keras.Layer, error: Exception) -> "TraceError":
        """What a layer's `call` raised, with its first line as the reason."""
        lines = [line for line in str(error).splitlines() if line.strip()]
        kind = type(error).__name__
        return cls(layer, f"{kind}: {lines[0]}" if lines else kind)


@contextlib.contextmanager
def undisturbed(layer: keras.Layer) -> Iterator[None]:
    """Gives all operations inside a layer their call histories back, and builds none of them."""
    parts = all_layers(layer)
    cores = [core for core in map(functional_core, parts) if core is not None]
    operations = [*parts, *(operation for core in cores for operation in core.operations)]
    with keeps_histories(operations), contextlib.ExitStack() as stack:
        for part in parts:
            if not part.built:
                stack.enter_context(unbuildable(part))
        yield


@contextlib.contextmanager
def opened_layer(part: keras.Layer, aliases: dict, failures: list) -> Iterator[None]:
    """Lets a symbolic call of a layer run its `call`, `training` left open where it isn't set.

    Keras itself adds a node for the layer to what the call returns; so that the nodes inside stay
    in sight, it gets aliases.
    """
    signature = call_signature(part)
    takes_training = "training" in signature.parameters

    def alias(tensor):
        twin = look_alike(tensor)
        aliases[id(twin)] = (twin, tensor)
        return twin

    def symbolic_call(*args, **kwargs):
        if takes_training:
            kwargs.setdefault("training", None)
        try:
            outputs = part.call(*args, **kwargs)
            flat = keras.tree.flatten(outputs)
            if not flat or not all(isinstance(one, keras.KerasTensor) for one in flat):
                raise ValueError("its `call` returns something other than what its layers make")
            return keras.tree.map_structure(alias, outputs)
        except Exception as error:
            failures.append(TraceError.of(part, error))
            raise

    parameters = [
        one.replace(default=None)
        if one.name == "training" and one.default is not inspect.Parameter.empty
        else one
        for one in signature.parameters.values()
    ]
    left_open = signature.replace(parameters=parameters)
    with with_signature(part, left_open), replaced(part, symbolic_call=symbolic_call):
        yield


@contextlib.contextmanager
def recorded_on_constants(part: keras.Layer, symbols: list[keras.KerasTensor]) -> Iterator[None]:
    """Makes calls of a layer on constants alone, an Embedding on positions, symbolic too.

    Else Keras would run them at once, and what the layer's weights make of them were a constant.
    """
    symbols = [symbol for symbol in symbols if symbol.dtype != "string"]
    call = part.call

    def symbolic(value):
        zero = keras.ops.sum(keras.ops.zeros_like(symbols[0]))
        return keras.ops.add(value, keras.ops.cast(zero, value.dtype))

    def call_on_constants(*args, **kwargs):
        # not where Keras runs it in a graph of its own, to infer the shape of some output
        if args and symbols and tf.executing_eagerly():
            return part(keras.tree.map_structure(symbolic, args[0]), *args[1:], **kwargs)
        return call(*args, **kwargs)

    with replaced(part, call=call_on_constants):
        yield
