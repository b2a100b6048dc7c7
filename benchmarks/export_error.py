"""Measure the relative errors of exported files on small models, and print them as a table.

`python -m benchmarks.export_error`, about ten minutes on one core. The bounds in
`keras_dfprune/exporting/result.py` are chosen from this table.
"""

import os
import tempfile
import unittest.mock
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from keras_dfprune.exporting.export import export
from keras_dfprune.exporting.result import ERROR_BOUNDS, PRECISION_BOUNDS

layers = keras.layers
SEEDS = 3


def dense(depth: int, width: int, activation: str, dtype: str | None) -> keras.Model:
    """Build a model with `depth` hidden layers of `width` units on 32 inputs."""
    hidden = [layers.Dense(width, activation, dtype=dtype) for _ in range(depth)]
    return keras.Sequential([keras.Input((32,)), *hidden, layers.Dense(10, dtype=dtype)])


def convolution(normalized: bool, dtype: str | None) -> keras.Model:
    """Build two convolutions, with BatchNormalization or without, and two dense layers."""
    body = []
    for filters in (16, 32):
        body.append(layers.Conv2D(filters, 3, activation="relu", dtype=dtype))
        body += [layers.BatchNormalization(dtype=dtype)] if normalized else []
        body.append(layers.MaxPooling2D(dtype=dtype))
    head = [layers.Flatten(), layers.Dense(64, "relu", dtype=dtype), layers.Dense(10, dtype=dtype)]
    return keras.Sequential([keras.Input((28, 28, 1)), *body, *head])


MODELS: dict[str, Callable[[str | None], keras.Model]] = {
    "dense, 1 x 256 relu": lambda dtype: dense(1, 256, "relu", dtype),
    "dense, 3 x 256 relu": lambda dtype: dense(3, 256, "relu", dtype),
    "dense, 10 x 128 relu": lambda dtype: dense(10, 128, "relu", dtype),
    "dense, 3 x 128 tanh": lambda dtype: dense(3, 128, "tanh", dtype),
    "dense, 3 x 128 gelu": lambda dtype: dense(3, 128, "gelu", dtype),
    "convolution": lambda dtype: convolution(False, dtype),
    "convolution, normalized": lambda dtype: convolution(True, dtype),
}


def train_briefly(model: keras.Model, rows: np.ndarray) -> None:
    """Train a model for a few steps, so that its weights are distributed as after training."""
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(rows, np.arange(len(rows)) % 10, epochs=10, verbose=0)


def measure(
    build: Callable[[str | None], keras.Model],
    quantize: str | None,
    dtype: str | None,
    train: bool,
) -> float:
    """Return the largest relative error over the seeds."""
    worst = 0.0
    for seed in range(SEEDS):
        keras.utils.set_random_seed(seed)
        model = build(dtype)
        rows = np.random.default_rng(seed).standard_normal((128, *model.input_shape[1:]))
        if train:
            train_briefly(model, rows.astype("float32"))
        data = rows.astype("float32") if quantize == "int8" else None
        with tempfile.TemporaryDirectory() as folder:
            result = export(model, os.path.join(folder, "model.tflite"), quantize, data)
        worst = max(worst, result.max_relative_error)
    return worst


def main() -> None:
    """Print one row for each model and one column for each quantization and precision."""
    columns: dict[str, tuple[str | None, str | None]] = {  # quantization and dtype policy
        "None": (None, None),
        "float16": ("float16", None),
        "dynamic": ("dynamic", None),
        "int8": ("int8", None),
        "mixed_float16": (None, "mixed_float16"),
        "mixed_bfloat16": (None, "mixed_bfloat16"),
    }
    print(f"{'model':34}" + "".join(f"{title:>16}" for title in columns))
    for name, build in MODELS.items():
        for train in (False, True):
            errors = [
                measure(build, quantize, dtype, train) for quantize, dtype in columns.values()
            ]
            row = name + (", trained" if train else "")
            print(f"{row:34}" + "".join(f"{error:16.1e}" for error in errors), flush=True)


if __name__ == "__main__":
    # No bound may stop an export while its error is measured.
    unlimited = {key: np.inf for key in ERROR_BOUNDS}
    with unittest.mock.patch.dict(ERROR_BOUNDS, unlimited):
        main()
    print(f"bounds: {ERROR_BOUNDS}; added for a model of reduced precision: {PRECISION_BOUNDS}")
