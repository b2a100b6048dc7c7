"""Copy and keep the state of layers beside their weights: seeds, metrics, recurrent states.

A stateful LSTM keeps its state in an attribute, which Keras counts among no variables. So do
layers that hold a variable of TensorFlow.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_dfprune.graph.keras_private import all_layers
from keras_dfprune.graph.ownership import is_variable

Key = tuple[int, str, int]  # number of the layer, name of the attribute, position in it


def copy_further_state(
    layer: keras.Layer, new: keras.Layer, kept: np.ndarray | None = None
) -> None:
    """Copy the variables that are no weights from a layer to a new layer of the same kind.

    Args:
        layer: The original.
        new: The new layer, built. What it holds in another shape stays as it is.
        kept: Bool array: which units of the original the new layer has; None for all. The state of
            a recurrent layer holds a number for each of them.
    """
    targets = _further_state(new)
    for key, variable in _further_state(layer).items():
        target, value = targets.get(key), variable
        if target is None:
            continue
        if kept is not None and target.shape != variable.shape:
            if tuple(variable.shape[-1:]) == kept.shape:
                value = np.compress(kept, variable.numpy(), axis=-1)
        if target.shape == value.shape:
            target.assign(value)


@contextlib.contextmanager
def keeps_state(layer: keras.Layer) -> Iterator[None]:
    """Keep all state inside a layer as it is while the layer is called.

    Variables of Keras are changed in a scope of their own, and the values of TensorFlow's are
    restored.
    """
    state = [held for held in _further_state(layer).values() if isinstance(held, tf.Variable)]
    before = [variable.numpy() for variable in state]
    try:
        with keras.StatelessScope():
            yield
    finally:
        for variable, value in zip(state, before, strict=True):
            variable.assign(value)


def _further_state(layer: keras.Layer) -> dict[Key, keras.Variable]:
    """Find the variables inside a layer that are no weights."""
    weights = {id(variable) for variable in layer.weights}
    state = {}
    for number, part in enumerate(all_layers(layer)):
        for name, value in vars(part).items():
            for position, variable in enumerate(_variables_in(value)):
                if id(variable) not in weights:
                    state[number, name, position] = variable
    return state


def _variables_in(value: Any) -> Iterator[keras.Variable]:
    """Yield the variables in an attribute of a layer, but those of layers in it."""
    if is_variable(value):
        yield value
    elif isinstance(value, keras.random.SeedGenerator):
        yield value.state
    elif isinstance(value, keras.metrics.Metric):
        yield from value.variables
    elif isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _variables_in(part)
