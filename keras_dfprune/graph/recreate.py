"""Make a new layer of the same kind as a given layer, with variables of its own.

A layer is made from its config and its saved state. If that is impossible (a Python Lambda, a layer
without config, a lookup table), the new model calls a copy that shares the layer's contents.
"""

import contextlib
import dataclasses
import types
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_dfprune.graph.further_state import copy_further_state
from keras_dfprune.graph.keras_private import (
    all_layers,
    detached,
    functional_core,
    is_detached,
    is_stock,
    replaced,
    unknown_arguments,
)

# Entries of a config that hold functions or small objects. If they can't be serialised, or aren't
# registered with Keras, the new layer gets the objects themselves.
_INITIALIZER = "_initializer"
_CARRIED_SUFFIXES = ("activation", _INITIALIZER, "_regularizer", "_constraint")
# Settings that Keras's own layers leave out of their configs before 3.13 and 3.14.
_LEFT_OUT = ("optional", "output_padding")


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
        config: The config to use instead of `layer.get_config()`, or None. Of an operation of
            `keras.ops`: its arguments.

    Returns:
        A new, unbuilt layer, or a `detached` copy if the layer can't be made anew (see
        `is_reused`).
    """
    if not isinstance(layer, keras.Layer):
        return type(layer)(**config, name=layer.name) if config else detached(layer)
    if _holds_assets(layer) or _has_changed_parts(layer):
        return detached(layer)
    try:
        return _from_config(layer, read_config(layer) if config is None else config)
    except Exception:  # whatever a user's get_config or constructor raises
        return detached(layer)


def is_reused(layer: keras.Operation, new: keras.Operation) -> bool:
    """Return whether `recreate` made `new` as a copy that shares the contents of a Keras layer."""
    return isinstance(layer, keras.Layer) and is_detached(new, layer)


def _holds_assets(layer: keras.Layer) -> bool:
    """Return whether a layer has a lookup table, which neither config nor variables hold."""
    return getattr(type(layer), "save_assets", None) is not None


def _has_changed_parts(layer: keras.Layer) -> bool:
    """Return whether the projections of an attention layer are quantized or have LoRA weights.

    Its config says nothing of that.
    """
    attention = (keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention)
    return isinstance(layer, attention) and any(
        getattr(part, "lora_enabled", False) or getattr(part, "quantization_mode", None)
        for part in all_layers(layer)
    )


def read_config(layer: keras.Layer) -> dict[str, Any]:
    """Return a layer's config without the functions and objects that can't be serialised.

    In their place stands a linear activation, or None for anything else.

    Raises:
        Exception: Whatever `get_config` raises, if that isn't the reason.
    """
    try:
        return _whole_config(layer)
    except Exception:
        parts = [part for part in all_layers(layer) if is_stock(part)]
        placeholders = [(part, _placeholders(part)) for part in parts]
        if not any(held for _, held in placeholders):
            raise
        with contextlib.ExitStack() as stack:
            for part, held in placeholders:
                stack.enter_context(replaced(part, **held))
            return _whole_config(layer)


def _whole_config(layer: keras.Layer) -> dict[str, Any]:
    config: dict[str, Any] = layer.get_config()
    if is_stock(layer):
        for setting in _LEFT_OUT:
            if hasattr(layer, setting):
                config.setdefault(setting, getattr(layer, setting))
    return config


def unserialisable(layer: keras.Layer) -> list[str]:
    """Name the functions and small objects of a layer that can't be serialised."""
    return [f"{key} of layer '{layer.name}'" for key in _placeholders(layer)]


def _placeholders(layer: keras.Layer) -> dict[str, Any]:
    """Return what to put in place of the objects of a layer that can't be serialised."""
    return {
        key: keras.activations.linear if key.endswith("activation") else None
        for key, value in _objects(layer)
        if not _is_serialisable(value)
    }


def _objects(layer: keras.Layer) -> list[tuple[str, Any]]:
    """Return the functions and small objects that a layer got as arguments, by attribute."""
    return [
        (key, value)
        for key, value in vars(layer).items()
        if key.endswith(_CARRIED_SUFFIXES) and value is not None
    ]


def _is_serialisable(value: Any) -> bool:
    try:
        keras.saving.serialize_keras_object(value)
    except Exception:  # whatever a user's get_config raises
        return False
    return True


def _from_config(layer: keras.Layer, config: dict[str, Any]) -> keras.Layer:
    readable, all_hidden = config, False
    if is_stock(layer):  # Its initializers needn't run: the weights are assigned afterwards.
        initializers = {key for key, _ in _objects(layer) if key.endswith(_INITIALIZER)}
        readable = {**config, **dict.fromkeys(initializers & set(config), "zeros")}
    try:
        new = _construct(type(layer), readable)
    except Exception:
        readable, all_hidden = _without_objects(layer, config), True
        if readable == config:
            raise
        new = type(layer).from_config(readable)
    for old_part, new_part in zip(all_layers(layer), all_layers(new), strict=False):
        if type(old_part) is type(new_part):
            _carry_objects(old_part, new_part, everything=all_hidden)
    return new


def _without_objects(layer: keras.Layer, config: dict[str, Any]) -> dict[str, Any]:
    """Return a config with None for all functions and small objects."""

    def hide(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {
            key: None if key.endswith(_CARRIED_SUFFIXES) else hide(part)
            for key, part in value.items()
        }

    if is_stock(layer):
        return hide(config)
    own = dict(_objects(layer))
    return {key: None if key in own else value for key, value in config.items()}


def _carry_objects(layer: keras.Layer, new: keras.Layer, *, everything: bool) -> None:
    """Give a new layer the functions and small objects that its config couldn't name.

    Raises:
        ValueError: If one of them holds variables, which two models would share.
    """
    for key, value in _objects(layer):
        if key not in vars(new):
            continue
        if key.endswith(_INITIALIZER):
            if vars(new)[key] is None:
                setattr(new, key, keras.initializers.Zeros())
        # A config names a function, and the name may mean another function when it is read back.
        elif everything or isinstance(value, types.FunctionType) or not _is_serialisable(value):
            if isinstance(value, keras.Layer) and value.variables:
                raise ValueError(f"{key} of {layer.name} holds variables of its own")
            setattr(new, key, value)


def _construct(kind: type[keras.Layer], config: dict[str, Any]) -> keras.Layer:
    """Make a layer from the entries of a config that its constructor takes."""
    try:
        return kind.from_config(config)
    except TypeError as error:
        unknown = unknown_arguments(error, config)
        if not unknown:
            raise
        return kind.from_config({key: config[key] for key in config if key not in unknown})


def is_copied_whole(layer: keras.Operation, new: keras.Operation) -> bool:
    """Return whether `copy_state` is for a pair of a copied model.

    It isn't for nested models whose layers are copied one by one, nor for what both models share.
    A nested model that can't be looked into is copied as one layer.
    """
    is_layer = isinstance(layer, keras.Layer) and functional_core(layer) is None
    return is_layer and not is_reused(layer, new)


def copy_state(layer: keras.Layer, new: keras.Layer) -> None:
    """Copy variables, initializers and trainable flags of a built layer to a new one.

    Args:
        layer: The original.
        new: What `recreate(layer)` returned, built since.

    Raises:
        ValueError: If the new layer doesn't hold the sublayers and weights of the original.
    """
    try:
        for old_part, new_part in zip(all_layers(layer), all_layers(new), strict=True):
            store: dict[str, Any] = {}
            old_part.save_own_variables(store)
            if store:
                new_part.load_own_variables(store)
    except Exception as error:  # also what a layer of the user's raises
        raise ValueError(
            f"Layer '{layer.name}' ({type(layer).__name__}), made anew from its config, doesn't "
            "hold the same weights. Let its `get_config()` return everything that its "
            "constructor needs, and let it build all weights when it is first called."
        ) from error
    copy_further_state(layer, new)
    restore_settings(layer, new)


def restore_settings(layer: keras.Layer, new: keras.Layer) -> None:
    """Give `new` the trainable flags and the initializers of `layer`."""
    for old_part, new_part in zip(all_layers(layer), all_layers(new), strict=True):
        new_part.trainable = old_part.trainable
        if is_stock(old_part):
            for key, value in vars(old_part).items():
                if key.endswith(_INITIALIZER):
                    setattr(new_part, key, value)
