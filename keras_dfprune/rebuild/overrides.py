"""Name the methods of a model's own class that a plain Keras model doesn't have."""

import keras

from keras_dfprune.graph.keras_private import compile_arguments
from keras_dfprune.report.warning import warn

_TRAINING = ("train_step", "test_step", "compute_loss", "compute_metrics")
# The graph and the config of the new model stand for these.
_REPLACED = (
    "call",
    "build",
    "build_from_config",
    "get_build_config",
    "get_config",
    "from_config",
    "compute_output_shape",
    "compute_output_spec",
)
_MOST_NAMES = 10


def has_own_training(model: keras.Model) -> bool:
    """Return whether a model's class has training logic of its own."""
    return any(getattr(type(model), name) is not getattr(keras.Model, name) for name in _TRAINING)


def lost_overrides(model: keras.Model) -> list[str]:
    """Return the names of public methods and properties that only the model's own class has."""
    names: dict[str, None] = {}
    for kind in type(model).__mro__:
        if kind is object or kind.__module__.split(".")[0] == "keras":
            continue
        for name, value in vars(kind).items():
            is_member = callable(value) or isinstance(value, property | staticmethod | classmethod)
            if is_member and not name.startswith("_") and name not in _REPLACED:
                names[name] = None
    return list(names)


def warn_of_lost_overrides(model: keras.Model) -> None:
    """Warn once if the new model lacks methods of the original's class.

    Args:
        model: The original.
    """
    names = lost_overrides(model)
    if not names:
        return
    shown = ", ".join(names[:_MOST_NAMES])
    if len(names) > _MOST_NAMES:
        shown += f" and {len(names) - _MOST_NAMES} more"
    message = (
        f"The new model of '{model.name}' is a plain Keras model. It lacks what the class "
        f"{type(model).__name__} defines: {shown}."
    )
    if compile_arguments(model) and has_own_training(model):
        message += " It is not compiled, because it can't train as that class does."
    warn(message)
