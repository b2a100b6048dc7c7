"""One layer into a new layer of the same kind with variables of its own.

A layer is re-made from its config and its saved state. Only where that is impossible (a Python
Lambda, a layer without config, a lookup table) the new model calls the same object's contents.
"""

import dataclasses
import types
from collections.abc import Callable

import keras
import numpy as np

from keras_dfprune.graph.keras_private import all_layers, detached, is_detached

# Config entries that hold functions or small objects; they are handed over as objects where the
# config can't be read back because they aren't registered with Keras.
_CARRIED_SUFFIXES = ("activation", "_initializer", "_regularizer", "_constraint")


@dataclasses.dataclass(frozen=True, eq=False)
class VariablePair:
    """A variable of the old model and the one that took its place.

    Attributes:
        old, new: The variables.
        cut: Function from an array shaped like `old` to the part that `new` holds: for the
            optimizer's slots.
    """

    old: keras.Variable
    new: keras.Variable
    cut: Callable[[np.ndarray], np.ndarray]


def recreate(layer: keras.Operation, config: dict | None = None) -> keras.Operation:
    """Makes the operation that takes `layer`'s place in a new model; its state comes later.

    Args:
        layer: A layer or operation.
        config: The config to use instead of `layer.get_config()`, or None.

    Returns:
        A new, unbuilt layer, or a `detached` copy where the layer can't be re-made (see
        `is_reused`).
    """
    if not isinstance(layer, keras.Layer) or _holds_assets(layer):
        return detached(layer)
    try:
        config = dict(layer.get_config() if config is None else config)
        return _from_config(layer, config)
    except Exception:  # whatever a user's get_config or constructor raises
        return detached(layer)


def is_reused(layer: keras.Operation, new: keras.Operation) -> bool:
    """Whether `recreate` fell back to sharing the contents of `layer`, a Keras layer."""
    return isinstance(layer, keras.Layer) and is_detached(new, layer)


def _holds_assets(layer) -> bool:
    """Lookup tables live outside of config and variables (StringLookup, TextVectorization)."""
    return getattr(type(layer), "save_assets", None) is not None


def _from_config(layer, config) -> keras.Layer:
    own = vars(layer)
    carried = {}
    for key in config:
        value = own.get(key)
        if key.endswith("activation") and isinstance(value, types.FunctionType):
            carried[key] = value  # a config names a function; the name may mean another one
        if key.endswith("_initializer") and value is not None and _is_stock(layer):
            carried[key] = value
            config[key] = "zeros"  # the weights are assigned anyway
    try:
        new = _construct(type(layer), config)
    except Exception:
        unreadable = [key for key in config if key.endswith(_CARRIED_SUFFIXES) and key in own]
        if not unreadable:
            raise
        config.update(dict.fromkeys(unreadable))
        new = type(layer).from_config(config)
        carried.update((key, own[key]) for key in unreadable)
    for key, value in carried.items():
        if not key.endswith("_initializer"):
            setattr(new, key, value)
        elif vars(new).get(key) is None:
            setattr(new, key, keras.initializers.Zeros())
    return new


def _construct(kind: type, config: dict) -> keras.Layer:
    """`kind.from_config(config)`, without entries that the constructor says it doesn't take."""
    try:
        return kind.from_config(config)
    except TypeError as error:  # Keras' own, about what the constructor raised
        said = str(error.__context__)
        known = {key: value for key, value in config.items() if f"'{key}':" not in said}
        if not said.startswith("Unrecognized keyword arguments"):
            raise
        return kind.from_config(known)


def _is_stock(layer) -> bool:
    return type(layer).__module__.startswith("keras.")


def copy_state(layer: keras.Layer, new: keras.Layer) -> None:
    """Copies variables, initializers and trainable flags of a built layer to its re-made twin.

    Args:
        layer: The original.
        new: What `recreate(layer)` returned, built since.

    Raises:
        ValueError: If the re-made layer holds other sublayers than the original.
    """
    pairs = list(zip(all_layers(layer), all_layers(new), strict=True))
    for old_part, new_part in pairs:
        store: dict = {}
        old_part.save_own_variables(store)
        if store:
            new_part.load_own_variables(store)
    restore_settings(layer, new)


def restore_settings(layer: keras.Layer, new: keras.Layer) -> None:
    """Gives `new` the trainable flags and initializers of `layer`, which config edits left out."""
    for old_part, new_part in zip(all_layers(layer), all_layers(new), strict=True):
        new_part.trainable = old_part.trainable
        if _is_stock(old_part):
            for key, value in vars(old_part).items():
                if key.endswith("_initializer"):
                    setattr(new_part, key, value)
