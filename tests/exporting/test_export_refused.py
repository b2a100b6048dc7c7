"""Errors of an export say why, and what to do."""

import os

import keras
import pytest
import tensorflow as tf

from keras_dfprune.exporting.export import export
from keras_dfprune.exporting.result import ExportError
from tests.support.exported import chain

layers = keras.layers


def test_bad_arguments(tmp_path):
    model = chain()
    for arguments, message in [
        (("m.tflite", "int8"), "needs `representative_data`"),
        (("m.keras", "dynamic"), "Only .tflite"),
        (("m", "float16"), "format saved_model"),
        (("m.tflite", "int4"), "quantize='int4'"),
        (("m.h5",), r"end in .keras, .tflite or .onnx.*m\.h5"),
        (("missing/m.keras",), "missing' doesn't exist"),
    ]:
        with pytest.raises(ValueError, match=message):
            export(model, tmp_path / arguments[0], *arguments[1:])
    with pytest.raises(TypeError, match="path=3"):
        export(model, 3)
    assert os.listdir(tmp_path) == []


def test_not_a_model(tmp_path):
    with pytest.raises(TypeError, match="Keras 3 model.*Dense"):
        export(layers.Dense(2), tmp_path / "m.keras")
    legacy = type("Sequential", (), {"__module__": "tf_keras.models"})()
    with pytest.raises(TypeError, match="rebuilt in Keras 3"):
        export(legacy, tmp_path / "m.keras")
    with pytest.raises(ValueError, match="Expected a built model"):
        export(keras.Sequential([layers.Dense(2)]), tmp_path / "m.keras")


def test_unsupported_operations_name_the_layer(tmp_path):
    x = keras.Input((3,))
    y = layers.Dense(4, name="first")(x)
    y = layers.Lambda(lambda t: tf.linalg.expm(t[:, None] * t[:, :, None]), name="expm")(y)
    with pytest.raises(ExportError, match="Flex.*layer 'expm', operation MatrixSolve"):
        export(keras.Model(x, y), tmp_path / "m.tflite")
    recurrent = [layers.LSTM(3, name="rnn"), layers.Dense(2, name="rnn_1")]
    model = keras.Sequential([keras.Input((4, 3)), *recurrent])
    with pytest.raises(ExportError, match="unroll=True.*layer 'rnn'"):
        export(model, tmp_path / "m.tflite")
    assert os.listdir(tmp_path) == []


def test_lookups_and_strings_are_refused(tmp_path):
    words = keras.Input((2,), dtype="string", name="words")
    looked_up = layers.StringLookup(vocabulary=["a", "b"], name="find")(words)
    model = keras.Model(words, layers.Dense(2)(layers.Embedding(3, 2)(looked_up)))
    with pytest.raises(ExportError, match="input 'words'"):
        export(model, tmp_path / "m.tflite")
    assert export(model, tmp_path / "saved").max_abs_error == 0
    number = keras.Input((2,), dtype="int64")
    model = keras.Model(number, layers.IntegerLookup(vocabulary=[0, 1], name="find")(number))
    with pytest.raises(ExportError, match="layer 'find', IntegerLookup"):
        export(model, tmp_path / "m.tflite")


def test_quantized_layer_is_refused(tmp_path):
    model = chain()
    model.quantize("int8")
    with pytest.raises(ExportError, match="layer 'fc1'.*int8"):
        export(model, tmp_path / "m.tflite")
