"""Open a Keras model or a file of one, so that it can be run on arrays by input name."""

import dataclasses
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_dfprune.exporting.files import check_source, size_on_disk
from keras_dfprune.exporting.litert_interpreter import LiteRTProgram
from keras_dfprune.exporting.saved_model import SavedModelProgram
from keras_dfprune.graph.check_model import check_built
from keras_dfprune.inputs.model_inputs import (
    InputSpec,
    Samples,
    model_runner,
    numpy_dtype,
    read_inputs,
)
from keras_dfprune.report.archive import check_archive
from keras_dfprune.report.cause import cause
from keras_dfprune.report.short_message import short_message
from keras_dfprune.report.silence import silence


@dataclasses.dataclass(frozen=True, eq=False)
class Opened:
    """Model or file that is open.

    Attributes:
        name: Name of the model, or path of the file.
        format: `"model"` for a Keras model in memory, else `"keras"`, `"tflite"` or
            `"saved_model"`.
        bytes: Size of the file; of a model in memory, of its weights.
        parameters: Number of parameters. None if it can't be known.
        path: The file or folder. None for a model in memory.
        model: The Keras model, in memory or loaded. None for other formats.
        program: What runs the file. None for Keras models.
    """

    name: str
    format: str
    bytes: int
    parameters: int | None
    path: Path | None = None
    model: keras.Model | None = None
    program: LiteRTProgram | SavedModelProgram | None = None

    def inputs(self) -> list[InputSpec]:
        """Return the inputs.

        Raises:
            ValueError: For a subclassed model that doesn't say what it takes.
        """
        return read_inputs(self.model) if self.program is None else self.program.inputs

    def runner(self) -> Callable[[Samples], dict[str, np.ndarray]]:
        """Return a function from inputs by name to outputs by name, which runs on the CPU."""
        return model_runner(self.model) if self.program is None else self.program.run


def open_source(source: Any, argument: str) -> Opened:
    """Open a Keras model, a `.keras` or `.tflite` file or a SavedModel folder.

    Args:
        source: The model or path.
        argument: Name of the user's argument, for the messages.

    Raises:
        TypeError: If `source` is neither a Keras 3 model nor a path.
        FileNotFoundError: If there is no such file.
        ValueError: If the model isn't built or the file can't be read.
    """
    if not isinstance(source, str | os.PathLike):
        return _open_model(source, argument)
    path, file_format = check_source(source)
    name, size = os.fspath(source), size_on_disk(path)
    if file_format == "keras":
        model = _load(path)
        return Opened(name, "keras", size, model.count_params(), path, model)
    if file_format == "tflite":
        return Opened(name, "tflite", size, None, path, program=LiteRTProgram(path))
    program = _load_saved_model(path)
    return Opened(name, "saved_model", size, program.parameters or None, path, program=program)


def _open_model(source: Any, argument: str) -> Opened:
    if not isinstance(source, keras.Model) and not type(source).__module__.startswith("tf_keras"):
        raise TypeError(
            f"Expected `{argument}` to be a Keras model, or the path of a .keras or .tflite file "
            f"or of a SavedModel folder. Received: {argument}={source!r}."
        )
    check_built(source)
    size = sum(math.prod(v.shape) * _itemsize(v) for v in source.weights)
    return Opened(source.name, "model", size, source.count_params(), model=source)


def _itemsize(variable: keras.Variable) -> int:
    return np.dtype(numpy_dtype(keras.backend.standardize_dtype(variable.dtype))).itemsize


def _load(path: Path) -> keras.Model:
    """Load a `.keras` file in safe mode, compiled if Keras can read that part, too."""
    try:
        check_archive(path)
    except ValueError as error:
        raise ValueError(f"Keras can't load '{path}': {error}") from error
    try:
        with silence():
            try:
                return keras.saving.load_model(path, safe_mode=True)
            except Exception:  # perhaps the loss is the user's and not registered
                return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras and zipfile raise errors of a dozen types
        raise ValueError(
            f"Keras can't load '{path}'. If it needs classes or functions of your own, load it "
            "with keras.saving.load_model(path, custom_objects=...) and pass the model. "
            f"Keras' message: {cause(error)}"
        ) from error


def _load_saved_model(path: Path) -> SavedModelProgram:
    try:
        return SavedModelProgram(path)
    except ValueError:
        raise
    except Exception as error:  # TensorFlow raises errors of many types for a damaged folder
        raise ValueError(
            f"TensorFlow can't load the SavedModel '{path}'. "
            f"TensorFlow's message: {short_message(error)}"
        ) from error
