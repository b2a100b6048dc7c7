"""Files for microcontrollers: integers in and out, and fixed shapes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dfprune.exporting.export import export
from keras_dfprune.exporting.litert_interpreter import open_interpreter
from keras_dfprune.exporting.result import ERROR_BOUNDS, ExportError
from tests.support.exported import chain, convolutional, operations, rows, several

layers = keras.layers

OF_SHAPES = {"SHAPE", "PACK", "STRIDED_SLICE"}


def ends(path):
    """Return the shapes and types of a file's inputs and outputs."""
    interpreter = open_interpreter(path)
    details = [*interpreter.get_input_details(), *interpreter.get_output_details()]
    return [(tuple(d["shape_signature"].tolist()), np.dtype(d["dtype"]).name) for d in details]


@pytest.mark.parametrize("io_dtype", ["int8", "float32"])
def test_operations_and_ends_of_a_file(io_dtype, tmp_path):
    path, options = tmp_path / "m.tflite", {"io_dtype": io_dtype, "batch_size": 1}
    model = convolutional()
    result = export(model, path, "int8", rows(model), **options)
    assert result.max_relative_error < ERROR_BOUNDS["int8"] / 3
    assert ends(path) == [((1, 10, 10, 1), io_dtype), ((1, 6), io_dtype)]
    at_the_ends = set() if io_dtype == "int8" else {"QUANTIZE", "DEQUANTIZE"}
    layers_ = {"CONV_2D", "MAX_POOL_2D", "RESHAPE", "FULLY_CONNECTED", "SOFTMAX"}
    assert set(operations(path)) - {"MUL", "ADD"} == layers_ | at_the_ends
    model = chain(8)
    export(model, path, "int8", rows(model), **options)
    assert ends(path) == [((1, 16), io_dtype), ((1, 5), io_dtype)]
    assert set(operations(path)) == {"FULLY_CONNECTED", "TANH"} | at_the_ends


def test_without_a_batch_size_shapes_are_computed(tmp_path):
    export(convolutional(), tmp_path / "m.tflite")
    assert OF_SHAPES <= set(operations(tmp_path / "m.tflite"))  # or the other tests show nothing
    assert ends(tmp_path / "m.tflite")[0][0][0] == -1


@pytest.mark.parametrize("name", ["m.tflite", "saved"])
def test_a_batch_size_without_quantization(name, tmp_path):
    assert export(convolutional(), tmp_path / name, batch_size=3).max_relative_error < 1e-5
    if name == "saved":
        loaded = tf.saved_model.load(str(tmp_path / name))
        (spec,) = loaded.signatures["serving_default"].structured_input_signature[1].values()
        assert spec.shape == (3, 10, 10, 1)
    else:
        assert ends(tmp_path / name)[0][0] == (3, 10, 10, 1)
        assert not OF_SHAPES & set(operations(tmp_path / name))


def test_the_models_own_batch_size_is_kept(tmp_path):
    body = [layers.Conv1D(4, 2), layers.Flatten(), layers.Dense(2)]
    model = keras.Sequential([keras.Input(batch_shape=(2, 5, 3)), *body])
    export(model, tmp_path / "m.tflite")
    assert ends(tmp_path / "m.tflite")[0][0] == (2, 5, 3)
    assert not OF_SHAPES & set(operations(tmp_path / "m.tflite"))
    with pytest.raises(ValueError, match="own batch size is 2.*batch_size=1"):
        export(model, tmp_path / "m.tflite", batch_size=1)


def test_integers_that_are_no_quantized_numbers_stay(tmp_path):
    model = several()
    path = tmp_path / "m.tflite"
    result = export(model, path, "int8", rows(model), io_dtype="int8", batch_size=2)
    assert result.max_relative_error < ERROR_BOUNDS["int8"] / 3
    assert sorted(dtype for _, dtype in ends(path)) == ["int32", "int8", "int8", "int8"]


def test_a_wrong_scale_is_noticed(tmp_path, monkeypatch):
    def halved(array, details):
        scale, zero_point = details["quantization"]
        return scale / 2 * (array.astype("float32") - zero_point)

    model = chain()
    monkeypatch.setattr("keras_dfprune.exporting.litert_interpreter._dequantized", halved)
    with pytest.raises(ExportError, match="doesn't compute what the model computes"):
        export(model, tmp_path / "m.tflite", "int8", rows(model), io_dtype="int8")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("m.tflite", {"io_dtype": "int8"}, "io_dtype='int8' is for quantize='int8' only"),
        (
            "m.tflite",
            {"io_dtype": "int8", "quantize": "dynamic"},
            "for quantize='int8' only.*Received: quantize='dynamic'",
        ),
        ("m.tflite", {"io_dtype": "uint8"}, r"\('float32', 'int8'\). Received: io_dtype='uint8'"),
        ("m.keras", {"batch_size": 1}, "A .keras file holds the model itself"),
        ("m.tflite", {"batch_size": 0}, "positive number of rows. Received: batch_size=0"),
        ("m.tflite", {"batch_size": True}, "Received: batch_size=True"),
        ("m.tflite", {"batch_size": 1.0}, "Received: batch_size=1.0"),
    ],
)
def test_options_that_make_no_sense(name, options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export(chain(), tmp_path / name, **options)
    assert not list(tmp_path.iterdir())
