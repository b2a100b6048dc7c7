"""Check that the options of `export` fit each other, before a model is needed."""

import numbers
from typing import Any

QUANTIZATIONS = ("dynamic", "float16", "int8")
IO_DTYPES = ("float32", "int8")


def check_options(
    name: str, quantize: Any, representative_data: Any, io_dtype: Any, batch_size: Any
) -> None:
    """Check the options of `export` for a format.

    Args:
        name: The format, a name in `files.FORMATS`.
        quantize: As in `export`, and so are the others.
        representative_data: Anything but None if there are data.
        io_dtype: As in `export`.
        batch_size: As in `export`.

    Raises:
        ValueError: If they make no sense.
    """
    _check_quantize(name, quantize, representative_data)
    _check_io_dtype(quantize, io_dtype)
    _check_batch_size(name, batch_size)


def _check_quantize(name: str, quantize: Any, representative_data: Any) -> None:
    if quantize is not None and quantize not in QUANTIZATIONS:
        raise ValueError(
            f"Expected `quantize` to be None or one of {QUANTIZATIONS}. "
            f"Received: quantize={quantize!r}."
        )
    if quantize is not None and name != "tflite":
        raise ValueError(
            "Only .tflite files can be quantized. Choose a path that ends in .tflite or leave "
            f"`quantize` out. Received: quantize={quantize!r} for the format {name}."
        )
    if quantize == "int8" and representative_data is None:
        raise ValueError(
            "quantize='int8' needs `representative_data`: typical inputs, from which the ranges "
            "of the activations are read. Without data use quantize='dynamic'. "
            "Received: representative_data=None."
        )


def _check_io_dtype(quantize: str | None, io_dtype: Any) -> None:
    if io_dtype not in IO_DTYPES:
        raise ValueError(
            f"Expected `io_dtype` to be one of {IO_DTYPES}. Received: io_dtype={io_dtype!r}."
        )
    if io_dtype == "int8" and quantize != "int8":
        raise ValueError(
            "io_dtype='int8' is for quantize='int8' only: other files compute in float. Add "
            f"quantize='int8' and `representative_data`. Received: quantize={quantize!r}."
        )


def _check_batch_size(name: str, batch_size: Any) -> None:
    if batch_size is None:
        return
    is_count = isinstance(batch_size, numbers.Integral) and not isinstance(batch_size, bool)
    if not (is_count and batch_size >= 1):
        raise ValueError(
            "Expected `batch_size` to be None or a positive number of rows. "
            f"Received: batch_size={batch_size!r}."
        )
    if name == "keras":
        raise ValueError(
            "A .keras file holds the model itself, which fixes the batch size in its Input. Leave "
            f"`batch_size` out, or choose another format. Received: batch_size={batch_size}."
        )
