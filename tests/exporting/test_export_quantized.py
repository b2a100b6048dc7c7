"""Quantized LiteRT files, and the representative data that int8 needs."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dfprune.exporting import litert
from keras_dfprune.exporting.export import export
from keras_dfprune.exporting.result import ERROR_BOUNDS, ExportError
from keras_dfprune.inputs.user_rows import read_representative
from tests.support.exported import chain, rows, several

layers = keras.layers
pytestmark = pytest.mark.usefixtures("seeded")


@pytest.mark.parametrize("quantize", ["dynamic", "float16", "int8"])
@pytest.mark.parametrize("build", [chain, several])
def test_quantized(build, quantize, tmp_path):
    model = build()
    data = rows(model) if quantize == "int8" else None
    result = export(model, tmp_path / "q.tflite", quantize, data)
    assert result.quantize == quantize
    assert result.max_relative_error < ERROR_BOUNDS[quantize] / 3
    if build is chain:  # the other has too few weights to weigh against the file's own overhead
        plain = export(model, tmp_path / "plain.tflite")
        assert result.bytes < plain.bytes * (0.65 if quantize == "float16" else 0.5)
        assert result.max_relative_error > plain.max_relative_error


def test_int8_file_computes_in_integers(tmp_path):
    model = chain()
    export(model, tmp_path / "q.tflite", "int8", rows(model))
    interpreter = litert._interpreter(tmp_path / "q.tflite")
    types_ = {d["name"]: np.dtype(d["dtype"]).name for d in interpreter.get_tensor_details()}
    # The two float tensors are the input and the output, which stay as they were.
    assert sorted(types_.values()).count("float32") == 2
    assert sorted(types_.values()).count("int8") >= 6


@pytest.mark.parametrize("kind", ["array", "dict", "list", "rows", "dataset", "single", "function"])
def test_representative_data(kind):
    model, data = chain(), np.random.default_rng(3).standard_normal((9, 16)).astype("float32")
    labels = np.arange(9)
    name = model.inputs[0].name
    given = {
        "array": data,
        "dict": {name: data},
        "list": [data],
        "rows": [list(row) for row in data],
        "dataset": tf.data.Dataset.from_tensor_slices((data, labels)).batch(4),
        "single": tf.data.Dataset.from_tensor_slices(data),
        "function": lambda: ((row, label) for row, label in zip(data, labels, strict=True)),
    }[kind]
    got = read_representative(model, given)
    np.testing.assert_array_equal(got[name], data)


def test_representative_data_of_two_inputs():
    model = several()
    data = rows(model)
    pair = (data["number"], data["word"])  # in the order of model.inputs
    labels = np.zeros(16)
    for given in (
        pair,
        tf.data.Dataset.from_tensor_slices(pair).batch(5),
        tf.data.Dataset.from_tensor_slices((pair, labels)),
        tf.data.Dataset.from_tensor_slices((data, labels)).batch(5),
        iter([pair]),
    ):
        got = read_representative(model, given)
        np.testing.assert_array_equal(got["number"], data["number"])
        np.testing.assert_array_equal(got["word"], data["word"])


def test_representative_data_is_bounded():
    model = chain()
    taken = []

    def endless():
        while len(taken) < 10_000:
            taken.append(1)
            yield np.zeros(16)

    assert len(next(iter(read_representative(model, endless).values()))) == len(taken) == 512
    spread = np.repeat(np.arange(2000.0)[:, None], 16, axis=1)
    got = next(iter(read_representative(model, spread).values()))
    assert len(got) == 512 and got[0, 0] == 0 and got[-1, 0] == 1999


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((4, 15)), r"shape=\(4, 15\)"),
        (np.zeros((0, 16)), "positive number of rows"),
        ({"other": np.zeros((4, 16))}, "lacks the model's input"),
        (iter([]), "at least one row"),
    ],
)
def test_bad_representative_data(data, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export(chain(), tmp_path / "m.tflite", "int8", data)


def test_empty_range_is_refused(tmp_path):
    bias = keras.initializers.Constant(-100.0)
    dead = layers.Dense(3, "relu", bias_initializer=bias, name="dead")
    model = keras.Sequential([keras.Input((4,)), dead, layers.Dense(2)])
    with pytest.raises(ExportError, match="zero for all of `representative_data`.*'dead'"):
        export(model, tmp_path / "m.tflite", "int8", np.ones((4, 4)))
    # selu holds a constant zero, which is no empty range.
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, "selu"), layers.Dense(2)])
    export(model, tmp_path / "m.tflite", "int8", rows(model))
