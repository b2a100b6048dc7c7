"""Check that an object is a built Keras 3 model whose graph can be read."""

from typing import Any

import keras

from keras_dfprune.graph.keras_private import functional_core

_LEGACY_PACKAGES = ("tf_keras", "keras_legacy")


def check_model(model: keras.Model) -> None:
    """Make sure that `model` can be planned for.

    Args:
        model: The argument of the user.

    Raises:
        TypeError: If it is not a Keras 3 model.
        ValueError: If it isn't built, or is a subclassed model whose graph can't be seen.
    """
    if not isinstance(model, keras.Model):
        kind = type(model)
        packages = {base.__module__.split(".")[0] for base in kind.__mro__}
        if packages & set(_LEGACY_PACKAGES):
            raise TypeError(
                "Expected a Keras 3 model, but this is a tf_keras (Keras 2) model. Save its "
                "weights and rebuild it with `keras`, or load its .keras file with Keras 3. "
                f"Received: model of type {kind.__module__}.{kind.__name__}"
            )
        raise TypeError(f"Expected a `keras.Model`. Received: {model!r} of type {kind.__name__}")
    if isinstance(model, keras.Sequential) and not model.built:
        raise ValueError(
            f"Model '{model.name}' isn't built yet, so it has no weights. Add a `keras.Input` as "
            "its first layer, or call it once on data, before pruning."
        )
    if not model.built:
        raise ValueError(
            f"Model '{model.name}' isn't built yet, so it has no weights. Call it once on data, or "
            "train it, before pruning."
        )
    if functional_core(model) is None:
        raise ValueError(
            f"Model '{model.name}' is a subclassed model ({type(model).__name__}) that doesn't say "
            "which inputs it takes. Make it functional first: `model = "
            "keras_dfprune.functionalize(model, keras.Input(shape))`, with a list or dict of "
            "inputs where it takes one."
        )


def check_built(model: Any) -> None:
    """Make sure that `model` can be run and written; a subclassed model will do.

    Args:
        model: The argument of the user.

    Raises:
        TypeError: If it is not a Keras 3 model.
        ValueError: If it isn't built.
    """
    if not isinstance(model, keras.Model):
        kind = type(model)
        is_legacy = kind.__module__.startswith("tf_keras")
        raise TypeError(
            "Expected `model` to be a Keras 3 model."
            f"{' A tf_keras model must be rebuilt in Keras 3.' if is_legacy else ''} "
            f"Received: model of type {kind.__module__}.{kind.__qualname__}."
        )
    if not model.built:
        raise ValueError(
            "Expected a built model. Add a keras.Input, or call the model once on data. "
            f"Received: model={model.name}, which has no weights yet."
        )
