"""Measure how much the outputs of an exported file differ from the model's, and bound it.

Relative error of an output y and the file's y': `max|y - y'| / max|y|`. The largest error of all
outputs counts.
"""

import dataclasses

import numpy as np

from keras_dfprune.graph.compare_outputs import compare_output, is_float

# Largest relative error allowed, by `quantize`. Without quantization only the rounding of float32
# differs. The other bounds are at least three times the largest errors that
# `python -m benchmarks.export_error` prints for small trained and untrained models.
ERROR_BOUNDS = {None: 1e-5, "float16": 1e-2, "dynamic": 0.15, "int8": 0.3}

# Added for a model that itself computes in 16 bits, whose rounding differs between kernels: the
# file is right if it is as close to the model as 16 bits allow. Measured by the same command.
PRECISION_BOUNDS = {"float32": 0.0, "float16": 1e-2, "bfloat16": 8e-2}


class ExportError(RuntimeError):
    """Failure of an export: no file, or a file that doesn't compute what the model computes."""


@dataclasses.dataclass(frozen=True)
class ExportResult:
    """Result of `export`: the file written, and its largest differences from the model.

    Attributes:
        path: The file or folder written.
        bytes: Size on disk; for a folder, of all files in it.
        max_abs_error: Largest absolute difference between an output of the model and of the file.
        max_relative_error: Largest difference relative to the largest absolute value of the same
            output of the model.
        format: `"keras"`, `"saved_model"`, `"tflite"` or `"onnx"`.
        quantize: None, `"dynamic"`, `"float16"` or `"int8"`.
    """

    path: str
    bytes: int
    max_abs_error: float
    max_relative_error: float
    format: str
    quantize: str | None

    def __str__(self) -> str:
        kind = self.format if self.quantize is None else f"{self.format}, {self.quantize}"
        return (
            f"{self.path} ({kind}): {self.bytes:,} bytes, largest difference "
            f"{self.max_abs_error:.2g} absolute, {self.max_relative_error:.2g} relative"
        )


def error_bound(quantize: str | None, precision: str) -> float:
    """Return the largest relative error allowed for a quantization and a model's precision."""
    return ERROR_BOUNDS[quantize] + PRECISION_BOUNDS[precision]


def compare(
    expected: dict[str, np.ndarray], received: dict[str, np.ndarray], exact: bool
) -> tuple[float, float]:
    """Measure the differences between two sets of outputs.

    Args:
        expected: The model's outputs by name.
        received: The file's outputs by name.
        exact: Whether outputs other than floating-point numbers must be equal. The argmax of a
            quantized model may differ, and the size of that difference means nothing.

    Returns:
        The largest absolute and the largest relative difference. Both are infinite if only one of
        two values is finite, or if values that are no numbers differ.

    Raises:
        ExportError: If names or shapes differ.
    """
    if set(expected) != set(received):
        raise ExportError(
            f"The exported file has other outputs than the model. Expected {sorted(expected)}. "
            f"Received: {sorted(received)}."
        )
    worst = (0.0, 0.0)
    for name, wanted in expected.items():
        got = np.asarray(received[name])
        if got.shape != wanted.shape:
            raise ExportError(
                f"Output '{name}' of the exported file has another shape than the model's. "
                f"Expected {wanted.shape}. Received: {got.shape}."
            )
        if exact or is_float(wanted):
            difference = compare_output(wanted, got)
            worst = (max(worst[0], difference.absolute), max(worst[1], difference.relative))
    return worst
