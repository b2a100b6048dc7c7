"""Build small models to export and rows of data for them, and read the files of a folder."""

import contextlib
import io
import pathlib
import re

import keras
import numpy as np
import tensorflow as tf

from keras_dfprune.inputs.sample_inputs import draw_samples

layers = keras.layers


def chain(width=64, **policy):
    return keras.Sequential(
        [
            keras.Input((16,)),
            layers.Dense(width, "relu", name="fc1", **policy),
            layers.Dense(width, "tanh", name="fc2", **policy),
            layers.Dense(5, name="head", **policy),
        ]
    )


def convolutional():
    return keras.Sequential(
        [
            keras.Input((10, 10, 1)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(6, "softmax"),
        ]
    )


def several():
    """Build a model with dicts of inputs, not in alphabetical order, and of outputs."""
    word = keras.Input((4,), name="word", dtype="int32")
    number = keras.Input((3,), name="number")
    embedded = layers.Flatten()(layers.Embedding(2, 8)(word))
    hidden = layers.Concatenate()([layers.Dense(8, "relu")(number), embedded])
    outputs = {"wide": layers.Dense(4)(hidden), "narrow": layers.Dense(1)(hidden)}
    return keras.Model({"word": word, "number": number}, outputs)


def rows(model, count=16):
    samples = draw_samples(model)
    generator = np.random.default_rng(1)
    return {
        name: generator.standard_normal((count, *array.shape[1:])).astype(array.dtype)
        if array.dtype.kind == "f"
        else generator.integers(0, 2, (count, *array.shape[1:])).astype(array.dtype)
        for name, array in samples.items()
    }


def content(path: pathlib.Path):
    return {f.name: f.read_bytes() for f in sorted(path.rglob("*")) if f.is_file()}


def operations(path: pathlib.Path):
    """Return the names of the operations in a LiteRT file."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        tf.lite.experimental.Analyzer.analyze(model_path=str(path))
    return re.findall(r"Op#\d+ (\w+)\(", text.getvalue())
