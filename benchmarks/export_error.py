"""Small models into a table of how far their exported files are from them.

The bounds in `keras_dfprune/export/result.py` stand on what this prints:
`python benchmarks/export_error.py`, about ten minutes on one core.
"""
# ruff: noqa: T201

import os
import tempfile
import unittest.mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from keras_dfprune.exporting.export import export
from keras_dfprune.exporting.result import ERROR_BOUNDS, PRECISION_BOUNDS

layers = keras.layers
SEEDS = 3


def dense(depth, width, activation, dtype=None):
    """`depth` hidden layers of `width` units on 32 inputs."""
    hidden = [layers.Dense(width, activation, dtype=dtype) for _ in range(depth)]
    return keras.Sequential([keras.Input((32,)), *hidden, layers.Dense(10, dtype=dtype)])


def convolution(normalized, dtype=None):
    """Two convolutions, with BatchNormalization or without, and two dense layers."""
    body = []
    for filters in (16, 32):
        body.append(layers.Conv2D(filters, 3, activation="relu", dtype=dtype))
        body += [layers.BatchNormalization(dtype=dtype)] if normalized else []
        body.append(layers.MaxPooling2D(dtype=dtype))
    head = [layers.Flatten(), layers.Dense(64, "relu", dtype=dtype), layers.Dense(10, dtype=dtype)]
    return keras.Sequential([keras.Input((28, 28, 1)), *body, *head])


MODELS = {
    "dense, 1 x 256 relu": lambda dtype: dense(1, 256, "relu", dtype),
    "dense, 3 x 256 relu": lambda dtype: dense(3, 256, "relu", dtype),
    "dense, 10 x 128 relu": lambda dtype: dense(10, 128, "relu", dtype),
    "dense, 3 x 128 tanh": lambda dtype: dense(3, 128, "tanh", dtype),
    "dense, 3 x 128 gelu": lambda dtype: dense(3, 128, "gelu", dtype),
    "convolution": lambda dtype: convolution(False, dtype),
    "convolution, normalized": lambda dtype: convolution(True, dtype),
}


def trained(model, rows):
    """A few steps towards random labels: weights spread as after training, not as at the start."""
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(rows, np.arange(len(rows)) % 10, epochs=10, verbose=0)
    return model


def measure(build, quantize, dtype, train):
    """Largest relative error over the seeds; no bound applies while it is measured."""
    worst = 0.0
    for seed in range(SEEDS):
        keras.utils.set_random_seed(seed)
        model = build(dtype)
        rows = np.random.default_rng(seed).standard_normal((128, *model.input_shape[1:]))
        if train:
            trained(model, rows.astype("float32"))
        data = rows.astype("float32") if quantize == "int8" else None
        with tempfile.TemporaryDirectory() as folder:
            result = export(model, os.path.join(folder, "model.tflite"), quantize, data)
        worst = max(worst, result.max_relative_error)
    return worst


def main():
    """Prints one row for each model and one column for each quantization and precision."""
    columns = [(quantize, None) for quantize in (None, "float16", "dynamic", "int8")]
    columns += [(None, "mixed_float16"), (None, "mixed_bfloat16")]
    heads = ["None", "float16", "dynamic", "int8", "mixed_float16", "mixed_bfloat16"]
    print(f"{'model':34}" + "".join(f"{head:>16}" for head in heads))
    for name, build in MODELS.items():
        for train in (False, True):
            errors = [measure(build, quantize, dtype, train) for quantize, dtype in columns]
            title = name + (", trained" if train else "")
            print(f"{title:34}" + "".join(f"{error:16.1e}" for error in errors), flush=True)


if __name__ == "__main__":
    unlimited = {key: np.inf for key in ERROR_BOUNDS}
    with unittest.mock.patch.dict(ERROR_BOUNDS, unlimited):
        main()
    print(f"bounds: {ERROR_BOUNDS}, added for a model of that precision: {PRECISION_BOUNDS}")
