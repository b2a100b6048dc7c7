"""Write a built Keras model to a file for deployment, read it back and compare the outputs.

The formats are `.keras`, a SavedModel folder, LiteRT (`.tflite`) and ONNX. The model may be pruned
or not.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_dfprune.exporting.cast import precision
from keras_dfprune.exporting.check_options import check_options
from keras_dfprune.exporting.file_format import FileFormat
from keras_dfprune.exporting.files import (
    FORMATS,
    check_target,
    size_on_disk,
)
from keras_dfprune.exporting.keras_file import KerasFile
from keras_dfprune.exporting.litert import LiteRTFile
from keras_dfprune.exporting.onnx import OnnxFile
from keras_dfprune.exporting.result import (
    ExportError,
    ExportResult,
    compare,
    error_bound,
)
from keras_dfprune.exporting.saved_model import SavedModelFolder
from keras_dfprune.graph.check_model import check_built
from keras_dfprune.inputs.model_inputs import Samples, adapt_samples, read_inputs, run_model
from keras_dfprune.inputs.sample_inputs import draw_samples, draw_unsaturated, first_rows
from keras_dfprune.inputs.user_rows import read_rows
from keras_dfprune.report.cause import cause
from keras_dfprune.report.silence import without_keras_warnings
from keras_dfprune.report.staging import move_into_place, staging


def export(
    model: keras.Model,
    path: str | os.PathLike[str],
    quantize: str | None = None,
    representative_data: Any = None,
    io_dtype: str = "float32",
    batch_size: int | None = None,
) -> ExportResult:
    """Write a model to a file, and check that the file computes what the model computes.

    The file is written beside `path`, read back, run on a small batch and only then moved to
    `path`. If anything fails, no new file is left and an old one stays.

    Args:
        model: A built Keras model, pruned or not; it is not changed.
        path: The file. Its suffix chooses the format: `.keras`, `.tflite` (LiteRT), `.onnx`
            (needs the extra `onnx`), or none for a SavedModel folder.
        quantize: For `.tflite` only. `"dynamic"`: weights in 8 bits, needs no data; `"float16"`:
            weights in 16 bits; `"int8"`: weights and activations in 8 bits, except in operations
            that LiteRT has in float only. None (default): float32.
        representative_data: Typical inputs, on the first of which the file is compared with the
            model; None for random ones. `quantize="int8"` needs them: the ranges of the
            activations are read from at most 512 rows. An array; a dict of arrays by input name;
            a list or tuple of one array for each input; a `tf.data.Dataset`, a generator or a
            function that returns one.
        io_dtype: For `quantize="int8"` only: type of the file's float inputs and outputs,
            `"float32"` (default) or `"int8"`. For int8 the file says by which scale and zero
            point numbers become integers.
        batch_size: Number of rows that the file takes at once. All shapes in the file are then
            fixed, as far as the model fixes the other axes; microcontrollers need that. None
            (default): any number. Not for `.keras`, which holds the model itself.

    Returns:
        An `ExportResult` with `path`, `bytes`, `max_abs_error` and `max_relative_error`.

    Raises:
        TypeError: If `model` is not a Keras 3 model or `path` is not a path.
        ValueError: If the model isn't built or the arguments don't fit each other.
        ImportError: If the packages for ONNX are missing.
        ExportError: If the model can't be converted, or if the file's outputs differ from the
            model's by more than the format's bound.

    Examples:
        >>> import tempfile
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> folder = tempfile.mkdtemp()
        >>> export(model, os.path.join(folder, "model.tflite")).max_relative_error < 1e-5
        True
    """
    check_built(model)
    target, name = check_target(path)
    check_options(name, quantize, representative_data, io_dtype, batch_size)
    _check_own_batch_size(model, batch_size)
    rows = None
    if representative_data is not None:
        rows = read_rows(model, representative_data, "representative_data")
    file_format = _file_format(name, quantize, rows, io_dtype, batch_size)
    prepared = file_format.prepare(model)
    with without_keras_warnings():
        if rows is None:
            samples = draw_unsaturated(model, batch_size)
        else:
            samples = first_rows(model, rows, batch_size)
        expected = run_model(model, samples)
    with staging(target) as folder:
        staged = folder / target.name
        received = _write_and_run(file_format, prepared, staged, adapt_samples(samples, prepared))
        absolute, relative = compare(expected, received, exact=quantize is None)
        _check_error(model, relative, quantize)
        size = size_on_disk(staged)
        move_into_place(staged, target)
    return ExportResult(os.fspath(path), size, absolute, relative, name, quantize)


def exported_size(model: keras.Model, kind: str) -> int:
    """Export a model to a temporary file and return the file's size in bytes.

    Args:
        model: A built model.
        kind: Format, and quantisation if any: `"tflite"`, `"tflite:int8"`, `"keras"`.

    Raises:
        ExportError: If the model can't be converted.
    """
    name, _, quantize = kind.partition(":")
    endings = {known: ending for ending, known in FORMATS.items()}
    rows = draw_samples(model) if quantize == "int8" else None
    file_format = _file_format(name, quantize or None, rows, "float32", None)
    with tempfile.TemporaryDirectory() as folder, without_keras_warnings():
        path = Path(folder) / f"model{endings[name]}"
        try:
            file_format.write(file_format.prepare(model), path)
        except Exception as error:  # whatever Keras and TensorFlow raise
            raise ExportError(
                f"Export of model '{model.name}' as {kind} failed: {cause(error)}"
            ) from error
        return size_on_disk(path)


def _file_format(
    name: str,
    quantize: str | None,
    rows: Samples | None,
    io_dtype: str,
    batch_size: int | None,
) -> FileFormat:
    formats: dict[str, FileFormat] = {
        "keras": KerasFile(),
        "saved_model": SavedModelFolder(batch_size),
        "tflite": LiteRTFile(quantize, rows, io_dtype, batch_size),
        "onnx": OnnxFile(batch_size),
    }
    return formats[name]


def _write_and_run(
    file_format: FileFormat, model: keras.Model, path: Path, samples: Samples
) -> dict[str, np.ndarray]:
    """Write a file and run it; any error becomes an `ExportError`."""
    try:
        file_format.write(model, path)
        return file_format.run(model, path, samples)
    except ExportError:
        raise
    except Exception as error:
        raise ExportError(
            f"Export of model '{model.name}' to '{path.name}' failed: {cause(error)}"
        ) from error


def _check_own_batch_size(model: keras.Model, batch_size: int | None) -> None:
    if batch_size is None:
        return
    fixed = {spec.shape[0] for spec in read_inputs(model)} - {None, batch_size}
    if fixed:
        raise ValueError(
            f"The model's own batch size is {fixed.pop()}. Leave `batch_size` out, or give that. "
            f"Received: batch_size={batch_size}."
        )


def _check_error(model: keras.Model, relative: float, quantize: str | None) -> None:
    bound = error_bound(quantize, precision(model))
    if relative <= bound:
        return
    advice = {
        None: "If the model draws random numbers at inference, no two runs of it agree.",
        "float16": "Values beyond 65504 don't fit into float16; export without quantize.",
        "dynamic": "Try quantize='int8' with `representative_data`, or 'float16'.",
        "int8": "Give `representative_data` that are more like the real inputs, or use 'dynamic'.",
    }[quantize]
    raise ExportError(
        "The exported file doesn't compute what the model computes: the largest relative "
        f"difference is {relative:.3g}, allowed is {bound:.3g}. {advice} "
        f"Received: model={model.name}, quantize={quantize!r}."
    )
