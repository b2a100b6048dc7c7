"""Time LiteRT on a file: repeated calls in the interpreter, on one thread."""

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_dfprune.exporting.litert_interpreter import is_quantized, open_interpreter
from keras_dfprune.report.silence import silence

# Calls that are not counted, because caches are cold and memory is taken for the first time; then
# calls until the time is up, so that the quartiles rest on many calls of a small model.
_WARM_UP_CALLS, _WARM_UP_SECONDS = 3, 0.1
_LEAST_CALLS, _MOST_CALLS, _SECONDS = 5, 1000, 1.0


@dataclasses.dataclass(frozen=True)
class Latency:
    """Time that LiteRT takes for one call on this machine, on one thread.

    Attributes:
        median: Median over the calls, in milliseconds.
        quartiles: A quarter of the calls was faster than the first number, a quarter slower than
            the second; in milliseconds.
        calls: Number of calls that were timed, behind a warm-up.
        rows: Rows in each call: 1, or the only batch size that the file takes.
    """

    median: float
    quartiles: tuple[float, float]
    calls: int
    rows: int

    def __str__(self) -> str:
        low, high = self.quartiles
        batch = "" if self.rows == 1 else f" for {self.rows} rows"
        return (
            f"{self.median:.3g} ms{batch} (half of {self.calls} calls: {low:.3g} to {high:.3g} ms, "
            "1 thread)"
        )


def measure_latency(path: Path) -> Latency:
    """Time the calls of a LiteRT file.

    Args:
        path: The file.

    Raises:
        ValueError: If an axis of an input other than the first has no known length, or if LiteRT
            can't run the file.
    """
    with silence():
        interpreter = open_interpreter(path, threads=1)
    inputs = interpreter.get_input_details()
    shapes = [_shape_of_row(tensor) for tensor in inputs]
    try:
        with silence():
            for tensor, shape in zip(inputs, shapes, strict=True):
                interpreter.resize_tensor_input(tensor["index"], shape)
            interpreter.allocate_tensors()
            for tensor, shape in zip(inputs, shapes, strict=True):
                interpreter.set_tensor(tensor["index"], _values(tensor, shape))
            _timed_calls(interpreter, _WARM_UP_CALLS, _WARM_UP_SECONDS)
            times = _timed_calls(interpreter, _LEAST_CALLS, _SECONDS)
    except RuntimeError as error:
        raise ValueError(f"LiteRT can't run '{path}': {error}") from error
    low, median, high = (float(time) for time in np.percentile(times, [25, 50, 75]))
    return Latency(median, (low, high), len(times), max((s[0] for s in shapes if s), default=1))


def _timed_calls(interpreter: tf.lite.Interpreter, least: int, seconds: float) -> list[float]:
    """Return the milliseconds of calls: at least so many, then until the time is up."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < least or (time.perf_counter() < end and len(times) < _MOST_CALLS):
        start = time.perf_counter()
        interpreter.invoke()
        times.append(1e3 * (time.perf_counter() - start))
    return times


def _shape_of_row(tensor: Mapping[str, Any]) -> list[int]:
    lengths = tensor["shape_signature"] if len(tensor["shape_signature"]) else tensor["shape"]
    shape = [int(length) for length in lengths]
    if any(length < 0 for length in shape[1:]):
        raise ValueError(
            "The file takes inputs of any length. Give the model's Input a fixed shape and export "
            f"it again. Received: input '{tensor['name']}' of shape "
            f"{tuple(None if length < 0 else length for length in shape)}."
        )
    return [max(1, shape[0]), *shape[1:]] if shape else []


def _values(tensor: Mapping[str, Any], shape: list[int]) -> np.ndarray:
    """Return normal numbers, quantized where the file is; zeros for integers such as tokens."""
    dtype = np.dtype(tensor["dtype"])
    generator = np.random.default_rng(0)
    if dtype.kind == "f":
        return generator.standard_normal(shape).astype(dtype)
    if is_quantized(tensor):
        limits = np.iinfo(dtype)
        return generator.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    return np.zeros(shape, dtype)
