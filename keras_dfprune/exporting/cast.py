"""Copy a model that computes in 16 or 64 bits to one that computes in float32.

LiteRT has no 16-bit matrix products: a file with them would need TensorFlow's own kernels.
"""

from typing import Any

import keras

from keras_dfprune.graph.copy_model import copy_model
from keras_dfprune.graph.keras_private import all_layers, functional_core
from keras_dfprune.graph.recreate import copy_state, is_copied_whole, is_reused, recreate

_OTHER_FLOATS = ("float16", "bfloat16", "float64", "mixed_float16", "mixed_bfloat16")


def precision(model: keras.Model) -> str:
    """Return the coarsest float type in a model: `"bfloat16"`, `"float16"` or `"float32"`."""
    used = {str(layer.compute_dtype) for layer in all_layers(model)}
    used |= {str(variable.dtype) for variable in model.weights}
    return next((name for name in ("bfloat16", "float16") if name in used), "float32")


def cast_to_float32(model: keras.Model) -> keras.Model:
    """Copy a model with float32 in place of every other float type, inputs included.

    Args:
        model: A built Keras model; it is not changed.

    Returns:
        A new, uncompiled model, or `model` itself if all of it is float32 already.

    Raises:
        ValueError: If the model is subclassed, because there is no graph to copy.
    """
    if not any(_is_other_float(layer) for layer in all_layers(model)):
        return model
    if functional_core(model) is None:
        raise ValueError(
            "A subclassed model can't be cast to float32, which LiteRT needs. Make it functional "
            "(keras.Model(inputs, model.call(inputs))) or rebuild it under the policy 'float32'. "
            f"Received: model={model.name}, which computes in {model.compute_dtype}."
        )
    copy, pairs = copy_model(model, _recreate_in_float32)
    for old, new in pairs:
        if is_copied_whole(old, new):
            copy_state(old, new)
    return copy


def _is_other_float(layer: keras.Layer) -> bool:
    return any(str(name) in _OTHER_FLOATS for name in (layer.compute_dtype, layer.variable_dtype))


def _recreate_in_float32(operation: keras.Operation) -> keras.Operation:
    if not isinstance(operation, keras.Layer):
        return recreate(operation)
    try:
        config = _in_float32(operation.get_config())
    except Exception:  # any exception: get_config is the user's. recreate then reuses the layer.
        config = None
    new = recreate(operation, config)
    if is_reused(operation, new):
        new.dtype_policy = "float32"
    return new


def _in_float32(config: Any) -> Any:
    """Replace each dtype policy in a config by float32, those of inner layers too."""
    if isinstance(config, list | tuple):
        return type(config)(_in_float32(value) for value in config)
    if not isinstance(config, dict):
        return config
    if config.get("class_name") in ("DTypePolicy", "DTypePolicyMap"):
        return "float32"
    return {
        key: "float32"
        if key in ("dtype", "default_policy") and isinstance(value, str) and value in _OTHER_FLOATS
        else _in_float32(value)
        for key, value in config.items()
    }
