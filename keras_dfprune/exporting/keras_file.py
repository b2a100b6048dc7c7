"""A model into a `.keras` file that loads with `keras.saving.load_model(path)`, and back."""

import json
import types
from pathlib import Path

import keras
import numpy as np

from keras_dfprune.exporting.files import quiet
from keras_dfprune.exporting.result import ExportError, first_line
from keras_dfprune.graph.keras_private import all_layers, detached
from keras_dfprune.inputs.sample_inputs import Samples, hand_over, run_model
from keras_dfprune.report.warning import warn


def write(model: keras.Model, path: Path) -> None:
    """Saves `model`, with its compile state where that can be loaded again.

    A loss or metric that Keras can't read back makes the whole file fail to load by default; the
    file then holds the model uncompiled, and a warning says so.
    """
    fault = _compile_fault(model)
    if fault is not None:
        warn(
            f"The file '{path.name}' holds the model without its optimizer, loss and metrics, "
            "because Keras could not read them back. To keep them, decorate your own loss or "
            f"metric with @keras.saving.register_keras_serializable(). Keras said: {fault}"
        )
        model = detached(model)
        vars(model).update(compiled=False, optimizer=None)
    with quiet():
        model.save(path)


def _compile_fault(model: keras.Model) -> str | None:
    """Why the compile state can't be read back from a file, or None."""
    if not model.compiled:
        return None
    try:
        with quiet():
            config = json.loads(json.dumps(model.get_compile_config()))
            keras.saving.deserialize_keras_object(config)
    except Exception as error:  # whatever a user's objects raise
        return first_line(error)
    return None


def run(model: keras.Model, path: Path, samples: Samples) -> dict[str, np.ndarray]:
    """Loads the file and calls the loaded model."""
    own = _own_objects(model)
    try:
        with quiet():
            # Code in the file (a Python Lambda) was written a moment ago, from this very model.
            loaded = keras.saving.load_model(
                path, custom_objects=own, compile=False, safe_mode=False
            )
    except Exception as error:
        raise ExportError(
            "Keras could not load the file that it wrote. Give your own layers a get_config(), "
            "decorate them and your functions with "
            "@keras.saving.register_keras_serializable(), and use named functions for "
            "activations in place of lambdas. "
            f"Received: model={model.name} with {sorted(own) or 'stock layers only'}. "
            f"Keras said: {first_line(error)}"
        ) from error
    return run_model(loaded, hand_over(samples, loaded))


def _own_objects(model: keras.Model) -> dict[str, object]:
    """The classes and functions in a model that don't come from Keras, by name."""
    found: dict[str, object] = {}
    for layer in all_layers(model):
        values = (value for key, value in vars(layer).items() if not key.startswith("_"))
        for value in (layer, *values):
            item = value if isinstance(value, types.FunctionType) else type(value)
            if callable(value) and not item.__module__.startswith(("keras.", "builtins")):
                found[item.__name__] = item
    return found
