"""Make a new layer of the same kind as a given layer, with variables of its own.

A layer is made from its config and its saved state. If that is impossible (a Python Lambda, a layer
without config, a lookup table), the new model calls a copy that shares the layer's contents.
"""

import dataclasses
import types
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_dfprune.graph.keras_private import (
    all_layers,
    detached,
    is_detached,
    is_stock,
    unknown_arguments,
)

# Entries of a config that hold functions or small objects. If they aren't registered with Keras,
# the config can't be read back: then the new layer gets the objects themselves.
_INITIALIZER = "_initializer"
_CARRIED_SUFFIXES = ("activation", _INITIALIZER, "_regularizer", "_constraint")


@dataclasses.dataclass(frozen=True, eq=False)
class VariablePair:
    """Variable of the old model with the variable that took its place.

    Attributes:
        old, new: The variables.
        cut: Function from an array shaped like `old` to the part that `new` holds: for the
            optimizer's slots.
    """

    old: keras.Variable
    new: keras.Variable
    cut: Callable[[np.ndarray], np.ndarray]


def recreate(layer: keras.Operation, config: dict[str, Any] | None = None) -> keras.Operation:
    """Make an operation to take the place of `layer` in a new model, without its state.

    Args:
        layer: A layer or operation.
        config: The config to use instead of `layer.get_config()`, or None.

    Returns:
        A new, unbuilt layer, or a `detached` copy if the layer can't be made anew (see
        `is_reused`).
    """
    if not isinstance(layer, keras.Layer) or _holds_assets(layer):
        return detached(layer)
    try:
        return _from_config(layer, layer.get_config() if config is None else config)
    except Exception:  # whatever a user's get_config or constructor raises
        return detached(layer)


def is_reused(layer: keras.Operation, new: keras.Operation) -> bool:
    """Return whether `recreate` made `new` as a copy that shares the contents of a Keras layer."""
    return isinstance(layer, keras.Layer) and is_detached(new, layer)


def _holds_assets(layer: keras.Layer) -> bool:
    """Return whether a layer has a lookup table, which neither config nor variables hold."""
    return getattr(type(layer), "save_assets", None) is not None


def _from_config(layer: keras.Layer, config: dict[str, Any]) -> keras.Layer:
    own = vars(layer)
    # A config names a function, and the name may mean another function when it is read back.
    carried = {
        key: own[key]
        for key in config
        if key.endswith("activation") and isinstance(own.get(key), types.FunctionType)
    }
    if is_stock(layer):  # Its initializers needn't run: the weights are assigned afterwards.
        initializers = {
            key: own[key]
            for key in config
            if key.endswith(_INITIALIZER) and own.get(key) is not None
        }
        carried.update(initializers)
        config = {**config, **dict.fromkeys(initializers, "zeros")}
    try:
        new = _construct(type(layer), config)
    except Exception:
        unreadable = [key for key in config if key.endswith(_CARRIED_SUFFIXES) and key in own]
        if not unreadable:
            raise
        new = type(layer).from_config({**config, **dict.fromkeys(unreadable)})
        carried.update((key, own[key]) for key in unreadable)
    for key, value in carried.items():
        if not key.endswith(_INITIALIZER):
            setattr(new, key, value)
        elif vars(new).get(key) is None:
            setattr(new, key, keras.initializers.Zeros())
    return new


def _construct(kind: type[keras.Layer], config: dict[str, Any]) -> keras.Layer:
    """Make a layer from the entries of a config that its constructor takes."""
    try:
        return kind.from_config(config)
    except TypeError as error:
        unknown = unknown_arguments(error, config)
        if not unknown:
            raise
        return kind.from_config({key: config[key] for key in config if key not in unknown})


def copy_state(layer: keras.Layer, new: keras.Layer) -> None:
    """Copy variables, initializers and trainable flags of a built layer to a new one.

    Args:
        layer: The original.
        new: What `recreate(layer)` returned, built since.

    Raises:
        ValueError: If the new layer holds other sublayers than the original.
    """
    for old_part, new_part in zip(all_layers(layer), all_layers(new), strict=True):
        store: dict[str, Any] = {}
        old_part.save_own_variables(store)
        if store:
            new_part.load_own_variables(store)
    restore_settings(layer, new)


def restore_settings(layer: keras.Layer, new: keras.Layer) -> None:
    """Give `new` the trainable flags and the initializers of `layer`."""
    for old_part, new_part in zip(all_layers(layer), all_layers(new), strict=True):
        new_part.trainable = old_part.trainable
        if is_stock(old_part):
            for key, value in vars(old_part).items():
                if key.endswith(_INITIALIZER):
                    setattr(new_part, key, value)
