"""Quantized LiteRT files, and the representative data that int8 needs."""

import warnings

import keras
import numpy as np
import pytest

from keras_dfprune.exporting.export import export
from keras_dfprune.exporting.litert_interpreter import open_interpreter
from keras_dfprune.exporting.result import ERROR_BOUNDS, ExportError
from tests.support.exported import chain, rows, several

layers = keras.layers


@pytest.mark.parametrize("quantize", ["dynamic", "float16", "int8"])
@pytest.mark.parametrize("build", [chain, several])
def test_quantized(build, quantize, tmp_path):
    model = build()
    data = rows(model) if quantize == "int8" else None
    result = export(model, tmp_path / "q.tflite", quantize, data)
    assert result.quantize == quantize
    assert result.max_relative_error < ERROR_BOUNDS[quantize] / 3
    if build is chain:  # `several` has so few weights that the rest of the file outweighs them
        plain = export(model, tmp_path / "plain.tflite")
        assert result.bytes < plain.bytes * (0.65 if quantize == "float16" else 0.5)
        assert result.max_relative_error > plain.max_relative_error


def test_int8_file_computes_in_integers(tmp_path):
    model = chain()
    export(model, tmp_path / "q.tflite", "int8", rows(model))
    interpreter = open_interpreter(tmp_path / "q.tflite")
    types_ = {d["name"]: np.dtype(d["dtype"]).name for d in interpreter.get_tensor_details()}
    # The two float tensors are the input and the output.
    assert sorted(types_.values()).count("float32") == 2
    assert sorted(types_.values()).count("int8") >= 6


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
    # selu holds a constant zero, which is not an empty range.
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, "selu"), layers.Dense(2)])
    export(model, tmp_path / "m.tflite", "int8", rows(model))


def test_weights_too_small_to_quantize_are_told(tmp_path):
    small = keras.Sequential([keras.Input((4,)), layers.Dense(3, "relu"), layers.Dense(2)])
    with pytest.warns(UserWarning, match="quantize='dynamic' changed nothing.*'float16'") as seen:
        export(small, tmp_path / "m.tflite", "dynamic")
    assert len(seen) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        export(chain(), tmp_path / "m.tflite", "dynamic")
        export(small, tmp_path / "m.tflite", "float16")
