"""Outputs of a model and of an exported file into the differences between them, and a verdict.

Relative error of an output y and the file's y': `max|y - y'| / max|y|`, the worst output counts.
"""

import dataclasses

import numpy as np

# Largest relative error that an exported file may show, by `quantize`. None is a matter of
# float32 rounding alone. The others are at least three times the worst of what
# `benchmarks/export_error.py` prints for small trained and untrained models.
ERROR_BOUNDS = {None: 1e-5, "float16": 1e-2, "dynamic": 0.15, "int8": 0.3}

# The same for a model that itself computes in 16 bits, whose rounding differs from kernel to
# kernel: the file is right where it is as near to the model as 16 bits allow. From the same
# script.
PRECISION_BOUNDS = {"float32": 0.0, "float16": 1e-2, "bfloat16": 8e-2}


class ExportError(RuntimeError):
    """An export failed, or the exported file does not compute what the model computes."""


@dataclasses.dataclass(frozen=True)
class ExportResult:
    """What was written, and how near to the model it computes.

    Attributes:
        path: The file or folder written.
        bytes: Its size on disk; for a folder, of all files in it.
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


def first_line(error: Exception) -> str:
    """What an error says, without the pages that TensorFlow puts behind it."""
    return (str(error).strip().splitlines() or [repr(error)])[0]


def error_bound(quantize: str | None, precision: str) -> float:
    """Largest relative error allowed for a quantization and a model's own precision."""
    return ERROR_BOUNDS[quantize] + PRECISION_BOUNDS[precision]


def compare(
    expected: dict[str, np.ndarray], received: dict[str, np.ndarray], exact: bool
) -> tuple[float, float]:
    """Measures the differences between two sets of outputs.

    Args:
        expected: The model's outputs by name.
        received: The file's outputs by name.
        exact: Whether outputs that aren't floating-point must agree. A quantized argmax may
            well be another one, and no size of the difference says whether that is a fault.

    Returns:
        The largest absolute and the largest relative difference; both infinite where only one
        of two values is finite, or other values than numbers differ.

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
        if not _is_number(wanted):
            differs = exact and not np.array_equal(wanted.astype(str), got.astype(str))
            found = (np.inf, np.inf) if differs else (0.0, 0.0)
        elif exact or _is_float(wanted):
            found = _difference(wanted.astype(np.float64), got.astype(np.float64))
        else:
            found = (0.0, 0.0)
        worst = (max(worst[0], found[0]), max(worst[1], found[1]))
    return worst


def _difference(wanted: np.ndarray, got: np.ndarray) -> tuple[float, float]:
    same = (wanted == got) | (np.isnan(wanted) & np.isnan(got))
    with np.errstate(invalid="ignore"):  # inf - inf, which `same` covers
        apart = np.abs(np.where(same, 0.0, wanted - got))
    absolute = float(np.max(np.where(np.isnan(apart), np.inf, apart), initial=0.0))
    scale = float(np.max(np.abs(wanted), initial=0.0, where=np.isfinite(wanted)))
    # An output that is zero throughout has no scale of its own: its absolute error counts.
    return absolute, absolute / scale if scale > 0 else absolute


def _is_float(array: np.ndarray) -> bool:
    # Not np.floating alone: bfloat16 is a type of its own, of kind "V".
    return array.dtype.kind in "fV"


def _is_number(array: np.ndarray) -> bool:
    return array.dtype.kind in "fViub"
