"""Write a `.keras` file that `keras.saving.load_model(path)` loads, and run the loaded model."""

import json
import types
from pathlib import Path

import keras
import numpy as np

from keras_dfprune.exporting.file_format import FileFormat
from keras_dfprune.exporting.result import ExportError
from keras_dfprune.graph.keras_private import all_layers, detached
from keras_dfprune.graph.recreate import unserialisable
from keras_dfprune.inputs.model_inputs import Samples, adapt_samples, run_model
from keras_dfprune.report.cause import cause
from keras_dfprune.report.silence import silence
from keras_dfprune.report.warning import warn


class KerasFile(FileFormat):
    """File in Keras' own format (`.keras`)."""

    def write(self, model: keras.Model, path: Path) -> None:
        """Save a model, with its compile state if Keras can load that again.

        A loss or metric that Keras can't read back would make the whole file fail to load. The
        file then holds the uncompiled model, and a warning says so.
        """
        fault = _compile_fault(model)
        if fault is not None:
            warn(
                f"The file '{path.name}' holds the model without its optimizer, loss and metrics, "
                "because Keras can't read them back. To keep them, decorate your own loss or "
                "metric with @keras.saving.register_keras_serializable(). "
                f"Keras' message: {fault}"
            )
            model = _uncompiled(model)
        lost = [text for layer in all_layers(model) for text in unserialisable(layer)]
        if lost:
            raise ExportError(
                f"Keras can't save the {', the '.join(lost)}. Give the layer a function that is "
                "defined with `def`, or an object whose class has get_config(), and decorate it "
                "with @keras.saving.register_keras_serializable(). The formats .tflite, .onnx and "
                "SavedModel take any."
            )
        with silence():
            model.save(path)

    def run(self, model: keras.Model, path: Path, samples: Samples) -> dict[str, np.ndarray]:
        own = _own_objects(model)
        try:
            with silence():
                # safe_mode=False: code in the file (a Python Lambda) comes from this very model.
                loaded = keras.saving.load_model(
                    path, custom_objects=own, compile=False, safe_mode=False
                )
        except Exception as error:
            raise ExportError(
                "Keras can't load the file that it wrote. Give your own layers a get_config(), "
                "decorate them and your functions with "
                "@keras.saving.register_keras_serializable(), and use named functions for "
                "activations in place of lambdas. "
                f"Received: model={model.name} with {sorted(own) or 'stock layers only'}. "
                f"Keras' message: {cause(error)}"
            ) from error
        return run_model(loaded, adapt_samples(samples, loaded))


def _compile_fault(model: keras.Model) -> str | None:
    """Return why Keras can't read the compile state back from a file, or None if it can."""
    if not model.compiled:
        return None
    try:
        with silence():
            config = json.loads(json.dumps(model.get_compile_config()))
            keras.saving.deserialize_keras_object(config)
    except Exception as error:  # any exception: the objects are the user's
        return cause(error)
    return None


def _uncompiled(model: keras.Model) -> keras.Model:
    """Return a model that shares everything with `model` except its compile state."""
    copy = detached(model)
    vars(copy).update(compiled=False, optimizer=None)
    return copy


def _own_objects(model: keras.Model) -> dict[str, object]:
    """Return the classes and functions in a model that don't come from Keras, by name."""
    own: dict[str, object] = {}
    for layer in all_layers(model):
        values = (value for key, value in vars(layer).items() if not key.startswith("_"))
        for value in (layer, *values):
            item = value if isinstance(value, types.FunctionType) else type(value)
            if callable(value) and not item.__module__.startswith(("keras.", "builtins")):
                own[item.__name__] = item
    return own
