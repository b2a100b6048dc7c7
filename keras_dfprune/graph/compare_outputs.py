"""Measure the difference between an output of a model and the same output of another one.

The relative difference between an expected output `y` and a received output `y'` is
`max|y - y'| / max|y|`.
"""

import dataclasses
import math

import numpy as np

# Variance of an entry, over the mean of all entries, below which it counts as this large.
_LEAST_VARIANCE = 1e-4


@dataclasses.dataclass(frozen=True)
class OutputDifference:
    """Largest difference between an expected and a received output.

    Attributes:
        absolute: Largest absolute difference. Infinite if the shapes differ, if only one of two
            values is finite, or if values that are no numbers (strings) differ.
        scale: Largest absolute value among the finite expected values; 0 without any.
    """

    absolute: float
    scale: float

    @property
    def relative(self) -> float:
        """Absolute difference over the scale; the absolute difference if the scale is 0."""
        return self.absolute / self.scale if self.scale > 0 else self.absolute


def compare_output(
    expected: np.ndarray, received: np.ndarray, *, strict_nonfinite: bool = True
) -> OutputDifference:
    """Measure the difference between an expected and a received output, in float64.

    Args:
        expected: Array of any shape and dtype; may be empty.
        received: Array to compare it with. Its dtype may differ.
        strict_nonfinite: Whether NaN is equal to NaN alone, and an infinity to the same infinity
            alone. False: all values that are not finite are equal, for models that sum in
            another order, which can turn an infinity into NaN.

    Returns:
        An `OutputDifference`.
    """
    if expected.shape != received.shape:
        return OutputDifference(math.inf, 0.0)
    if not (is_number(expected) and is_number(received)):
        equal = np.array_equal(expected, received) or _texts(expected) == _texts(received)
        return OutputDifference(0.0 if equal else math.inf, 0.0)
    a, b = expected.astype(np.float64), received.astype(np.float64)
    both_finite = np.isfinite(a) & np.isfinite(b)
    equal_nonfinite = ~np.isfinite(a) & ~np.isfinite(b)
    if strict_nonfinite:
        equal_nonfinite &= (a == b) | (np.isnan(a) & np.isnan(b))
    scale = float(np.max(np.abs(a), initial=0.0, where=np.isfinite(a)))
    if not np.all(both_finite | equal_nonfinite):
        return OutputDifference(math.inf, scale)
    differences = np.abs(np.subtract(a, b, where=both_finite, out=np.zeros_like(a)))
    return OutputDifference(float(np.max(differences, initial=0.0)), scale)


def variances(outputs: np.ndarray) -> np.ndarray:
    """Return the variance of each entry of an output over rows and positions.

    Args:
        outputs: Finite numbers of shape `(rows, ..., entries)` or `(rows,)`.

    Returns:
        Float array, shape `(entries,)`.
    """
    flat = outputs.reshape(-1, outputs.shape[-1]) if outputs.ndim > 1 else outputs[:, None]
    return np.var(flat, axis=0)


def variance(outputs: np.ndarray) -> float:
    """Return the variance over rows and positions, summed over the entries of an output.

    Args:
        outputs: As for `variances`.
    """
    return float(np.sum(variances(outputs)))


def squared_change(
    expected: np.ndarray, received: np.ndarray, scale: float | None = None
) -> float | None:
    """Return the squared difference of an output over its variance.

    Args:
        expected: Float64 array of shape `(rows, ..., entries)` or `(rows,)`.
        received: Array of the same shape.
        scale: The variance; None for that of `expected`.

    Returns:
        A number of 0 or more, infinite if only `received` is not finite or if a constant output
        changes. None if `expected` is not finite.
    """
    if not np.all(np.isfinite(expected)):
        return None
    if not np.all(np.isfinite(received)):
        return math.inf
    squares = np.square(expected - received)
    entries = squares.shape[-1] if squares.ndim > 1 else 1
    change = float(np.mean(squares)) * entries
    scale = variance(expected) if scale is None else scale
    if scale > 0.0:
        return change / scale
    return 0.0 if change == 0.0 else math.inf


def change_at_most(
    expected: np.ndarray, received: np.ndarray, variances: np.ndarray
) -> float | None:
    """Return a bound of the squared change that the mean over more rows will hardly exceed.

    It is the mean over the rows plus three standard errors. Few rows often miss those on which an
    output changes most: what these errors spread over the rows says how often. Entries count by
    their variance, as in `squared_change`, or all alike, whichever gives more.

    Args:
        expected: Float64 array of shape `(rows, ..., entries)` or `(rows,)`.
        received: Array of the same shape.
        variances: Float array, shape `(entries,)`: the variance of each entry.

    Returns:
        A number of 0 or more, or None, as `squared_change`.
    """
    if not np.all(np.isfinite(expected)):
        return None
    if not np.all(np.isfinite(received)):
        return math.inf
    squares = np.square(expected - received).reshape(len(expected), -1, len(variances))
    squares = squares.mean(axis=1)
    if not np.any(variances > 0.0):
        return math.inf if np.any(squares) else 0.0
    # Entries that hardly vary would count for nothing but their rounding.
    least = _LEAST_VARIANCE * variances.mean()
    alike = (squares / np.maximum(variances, least)).mean(axis=1)
    return max(map(_mean_at_most, (squares.sum(axis=1) / variances.sum(), alike)))


def _mean_at_most(values: np.ndarray) -> float:
    """Return the mean plus three standard errors; four times the value for a single one."""
    mean, count = float(values.mean()), len(values)
    error = float(values.std(ddof=1)) / math.sqrt(count) if count > 1 else mean
    return mean + 3.0 * error


def agreement(expected: np.ndarray, received: np.ndarray) -> float | None:
    """Return the share of rows and positions in which the same entry is the largest, in [0, 1].

    None for outputs of a single entry, or if `expected` is not finite.
    """
    if expected.ndim < 2 or expected.shape[-1] < 2 or not np.all(np.isfinite(expected)):
        return None
    return float(np.mean(np.argmax(expected, axis=-1) == np.argmax(received, axis=-1)))


def is_float(array: np.ndarray) -> bool:
    """Return whether an array holds floating-point numbers."""
    return array.dtype.kind in "fV"  # NumPy's kind of bfloat16 is "V"


def is_number(array: np.ndarray) -> bool:
    """Return whether an array holds real numbers or booleans."""
    return is_float(array) or array.dtype.kind in "iub"


def _texts(array: np.ndarray) -> list[str]:
    """Return the values as strings: TensorFlow returns bytes where ONNX Runtime returns `str`."""
    return [
        value.decode(errors="replace") if isinstance(value, bytes) else str(value)
        for value in array.ravel().tolist()
    ]
