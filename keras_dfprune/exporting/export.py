"""A built Keras model into a file for deployment, read back and compared before it is handed over.

`.keras`, a SavedModel folder, LiteRT (`.tflite`) and ONNX; pruned or not makes no difference.
"""

import os
from typing import Any

import keras

from keras_dfprune.exporting import keras_file, litert, onnx, saved_model
from keras_dfprune.exporting.cast import precision
from keras_dfprune.exporting.files import check_target, move_into_place, size_on_disk, staging
from keras_dfprune.exporting.result import (
    ExportError,
    ExportResult,
    compare,
    error_bound,
    first_line,
)
from keras_dfprune.inputs.sample_inputs import draw_samples, first_rows, hand_over, run_model
from keras_dfprune.inputs.user_rows import read_representative

__all__ = ["ExportError", "ExportResult", "export"]

_QUANTIZATIONS = ("dynamic", "float16", "int8")
_FORMATS = {"keras": keras_file, "saved_model": saved_model, "tflite": litert, "onnx": onnx}


def export(
    model: keras.Model,
    path: str | os.PathLike,
    quantize: str | None = None,
    representative_data: Any = None,
) -> ExportResult:
    """Writes a model to a file, and checks that the file computes what the model computes.

    The file is written beside `path`, read back, run on a small batch and only then moved into
    place: where anything fails, no file is left and an old one stays.

    Args:
        model: A built Keras model, pruned or not; it stays as it is.
        path: Where to write. The suffix chooses the format: `.keras`, `.tflite` (LiteRT), `.onnx`
            (needs the extra `onnx`), none for a SavedModel folder.
        quantize: For `.tflite` only. `"dynamic"`: weights in 8 bits, needs no data; `"float16"`:
            weights in 16 bits; `"int8"`: weights and activations in 8 bits (inputs, outputs and
            the few operations that LiteRT has in float alone stay float). None (default): float32.
        representative_data: For `quantize="int8"` only, and needed there: typical inputs, from
            which the ranges of the activations are read. An array; a dict of arrays by input
            name; a list or tuple of one array for each input; a `tf.data.Dataset`, a generator or
            a function that returns one. At most 512 rows are used.

    Returns:
        An `ExportResult` with `path`, `bytes`, `max_abs_error` and `max_relative_error`.

    Raises:
        TypeError: If `model` isn't a Keras 3 model or `path` no path.
        ValueError: If the model isn't built or the arguments don't fit each other.
        ImportError: If the packages for ONNX are missing.
        ExportError: If the model can't be converted, or the file's outputs differ from the
            model's by more than the format's bound; it says what was seen.

    Example:
    >>> import tempfile
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> folder = tempfile.mkdtemp()
    >>> export(model, os.path.join(folder, "model.tflite")).max_relative_error < 1e-5
    True
    """
    _check_model(model)
    target, kind = check_target(path)
    _check_quantize(kind, quantize, representative_data)
    if kind == "onnx":
        onnx.check_installed()
    rows = None if representative_data is None else read_representative(model, representative_data)
    samples = draw_samples(model) if rows is None else first_rows(model, rows)
    expected = run_model(model, samples)
    source = litert.prepare(model) if kind == "tflite" else model
    with staging(target) as folder:
        made = folder / target.name
        options = {"quantize": quantize, "rows": rows} if kind == "tflite" else {}
        try:
            _FORMATS[kind].write(source, made, **options)
            received = _FORMATS[kind].run(source, made, hand_over(samples, source))
        except ExportError:
            raise
        except Exception as error:
            raise ExportError(
                f"Export of model '{model.name}' to '{os.fspath(path)}' failed: {first_line(error)}"
            ) from error
        absolute, relative = compare(expected, received, exact=quantize is None)
        _check_error(model, relative, quantize)
        size = size_on_disk(made)
        move_into_place(made, target)
    return ExportResult(os.fspath(path), size, absolute, relative, kind, quantize)


def _check_model(model: Any) -> None:
    if not isinstance(model, keras.Model):
        kind = type(model)
        legacy = " A tf_keras model must be rebuilt in Keras 3." * (
            kind.__module__.startswith("tf_keras")
        )
        raise TypeError(
            f"Expected `model` to be a Keras 3 model.{legacy} "
            f"Received: model of type {kind.__module__}.{kind.__qualname__}."
        )
    if not model.built:
        raise ValueError(
            "Expected a built model. Add a keras.Input, or call the model once on data. "
            f"Received: model={model.name}, which has no weights yet."
        )


def _check_quantize(kind: str, quantize: Any, representative_data: Any) -> None:
    if quantize is not None and quantize not in _QUANTIZATIONS:
        raise ValueError(
            f"Expected `quantize` to be None or one of {_QUANTIZATIONS}. "
            f"Received: quantize={quantize!r}."
        )
    if quantize is not None and kind != "tflite":
        raise ValueError(
            "Only .tflite files can be quantized. Choose a path that ends in .tflite or leave "
            f"`quantize` out. Received: quantize={quantize!r} for the format {kind}."
        )
    if quantize == "int8" and representative_data is None:
        raise ValueError(
            "quantize='int8' needs `representative_data`: some typical inputs, from which the "
            "ranges of the activations are read. Without data use quantize='dynamic'. "
            "Received: representative_data=None."
        )
    if quantize != "int8" and representative_data is not None:
        raise ValueError(
            f"`representative_data` is for quantize='int8' alone. Received: quantize={quantize!r}."
        )


def _check_error(model: keras.Model, relative: float, quantize: str | None) -> None:
    bound = error_bound(quantize, precision(model))
    if relative <= bound:
        return
    advice = {
        None: "If the model draws random numbers at inference, no two runs of it agree.",
        "float16": "Values beyond 65504 don't fit into float16; export without quantize.",
        "dynamic": "Try quantize='int8' with `representative_data`, or 'float16'.",
        "int8": "Give `representative_data` that is nearer to the real inputs, or use 'dynamic'.",
    }[quantize]
    raise ExportError(
        f"The exported file doesn't compute what the model computes: the largest relative "
        f"difference is {relative:.3g}, allowed is {bound:.3g}. {advice} "
        f"Received: model={model.name}, quantize={quantize!r}."
    )
