"""In each format the file computes what the model computes, for models of many kinds."""

import os
import subprocess
import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dfprune.exporting.cast import cast_to_float32
from keras_dfprune.exporting.export import export
from keras_dfprune.exporting.litert_interpreter import open_interpreter
from keras_dfprune.exporting.result import ExportError, ExportResult, compare
from keras_dfprune.inputs.model_inputs import adapt_samples, run_model
from keras_dfprune.inputs.sample_inputs import draw_samples, draw_unsaturated
from tests.support.exported import chain, convolutional, several

layers = keras.layers


@pytest.mark.parametrize("build", [chain, convolutional, several])
@pytest.mark.parametrize("name", ["model.keras", "model", "model.tflite"])
def test_formats(build, name, tmp_path, capfd):
    path = tmp_path / name
    result = export(build(), path)
    assert result.path == str(path) and result.quantize is None
    files = [path] if path.is_file() else [f for f in path.rglob("*") if f.is_file()]
    assert result.bytes == sum(f.stat().st_size for f in files) > 0
    assert result.max_relative_error < 1e-5
    assert os.listdir(tmp_path) == [name]
    assert capfd.readouterr() == ("", "")


def test_size_follows_parameters(tmp_path):
    wide, narrow = chain(256), chain(64)
    sizes = [export(m, tmp_path / "m.tflite").bytes for m in (wide, narrow)]
    saved = 4 * (wide.count_params() - narrow.count_params())
    assert sizes[0] - sizes[1] == pytest.approx(saved, rel=0.01)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16"])
def test_sixteen_bit_model(policy, tmp_path):
    model = chain(dtype=policy)
    result = export(model, tmp_path / "m.tflite")
    assert 1e-5 < result.max_relative_error < 0.03
    details = open_interpreter(tmp_path / "m.tflite").get_tensor_details()
    assert {np.dtype(d["dtype"]).name for d in details} == {"float32"}
    assert export(model, tmp_path / "m.keras").max_abs_error == 0


def test_cast_reaches_inner_models_and_wrapped_layers():
    inner = keras.Sequential([keras.Input((4, 6)), layers.Dense(3, dtype="float16")], name="inner")
    x = keras.Input((4, 6), dtype="float16", name="x")
    wrapped = layers.TimeDistributed(layers.Dense(6, dtype="mixed_float16"), dtype="mixed_float16")
    model = keras.Model(x, layers.Lambda(lambda t: 2 * t, dtype="float16")(inner(wrapped(x))))
    model.get_layer("inner").layers[0].trainable = False
    cast = cast_to_float32(model)
    samples = draw_samples(model)
    got = run_model(cast, adapt_samples(samples, cast))["output_0"]
    assert got.dtype == np.float32
    assert {str(w.dtype) for w in cast.weights} == {"float32"}
    assert {str(w.dtype) for w in model.weights} == {"float16", "float32"}
    np.testing.assert_allclose(got, run_model(model, samples)["output_0"], atol=2e-2)
    assert cast_to_float32(cast) is cast


def test_compare():
    wanted = {"a": np.array([1.0, 200.0]), "b": np.array([0.01])}
    absolute, relative = compare(wanted, {"a": np.array([1.0, 201.0]), "b": np.array([0.02])}, True)
    assert absolute == 1.0 and relative == pytest.approx(1.0)  # b on its own scale
    same = {"a": np.array([np.nan, np.inf])}
    assert compare(same, same, True) == (0.0, 0.0)
    assert compare(same, {"a": np.array([1.0, np.inf])}, True) == (np.inf, np.inf)
    index = {"a": np.array([3])}
    assert compare(index, {"a": np.array([2])}, exact=False) == (0.0, 0.0)
    assert compare(index, {"a": np.array([2])}, exact=True)[0] == 1.0
    with pytest.raises(ExportError, match="another shape"):
        compare(wanted, {"a": np.zeros(3), "b": np.zeros(1)}, True)
    with pytest.raises(ExportError, match="other outputs"):
        compare(wanted, {"a": np.zeros(2)}, True)


def test_model_of_free_image_size(tmp_path):
    body = [layers.Conv2D(4, 3, strides=2), layers.Conv2D(4, 3, strides=2), layers.Conv2D(4, 3)]
    model = keras.Sequential([keras.Input((None, None, 3)), *body, layers.GlobalAveragePooling2D()])
    assert export(model, tmp_path / "m.tflite").max_relative_error < 1e-5


class Scale(layers.Layer):
    """Not registered with Keras."""

    def build(self, shape):
        self.factor = self.add_weight(shape=shape[-1:], initializer="random_normal")

    def call(self, x):
        return x * self.factor


def bent(x):
    return keras.ops.relu(x) - 0.1 * x


def test_own_layers_and_functions(tmp_path):
    body = [layers.Dense(4, bent), Scale(), layers.Lambda(lambda x: x + 1)]
    model = keras.Sequential([keras.Input((3,)), *body])
    assert export(model, tmp_path / "m.keras").max_abs_error == 0
    unnamed = keras.Sequential([keras.Input((3,)), layers.Dense(4, lambda x: bent(x))])
    with pytest.raises(ExportError, match="named functions for activations"):
        export(unnamed, tmp_path / "unnamed.keras")


def test_compile_state_is_kept(tmp_path, recwarn):
    model = chain()
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(np.ones((4, 16)), np.ones((4, 5)), epochs=2, verbose=0)
    export(model, tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert loaded.compiled and int(loaded.optimizer.iterations) == 2
    assert not [w for w in recwarn if "compile" in str(w.message)]


@pytest.mark.parametrize("name", ["m.keras", "m.tflite", "saved"])
def test_loss_that_is_not_registered(name, tmp_path):
    model = chain()
    model.compile("adam", lambda wanted, got: keras.ops.mean(abs(wanted - got)))
    if name == "m.keras":
        with pytest.warns(UserWarning, match="without its optimizer") as caught:
            export(model, tmp_path / name)
        assert caught[0].filename == __file__
        assert not keras.saving.load_model(tmp_path / name).compiled
    else:
        export(model, tmp_path / name)
    assert model.compiled and model.optimizer is not None  # the model itself stays as it is


def test_subclassed_model(tmp_path):
    class Sum(keras.Model):
        def __init__(self):
            super().__init__()
            self.fc = layers.Dense(3)

        def call(self, x):
            return self.fc(x["left"]) + x["right"]

    model = Sum()
    model({"left": np.zeros((2, 4)), "right": np.zeros((2, 3))})
    assert export(model, tmp_path / "m.tflite").max_relative_error < 1e-5
    assert export(model, tmp_path / "saved").max_relative_error < 1e-5


def test_result():
    result = ExportResult("m.tflite", 1234, 0.5, 0.25, "tflite", "int8")
    line = "m.tflite (tflite, int8): 1,234 bytes, largest difference 0.5 absolute, 0.25 relative"
    assert str(result) == line
    with pytest.raises(AttributeError):
        result.bytes = 3


def test_files_run_without_this_package(tmp_path):
    model = several()
    samples = draw_samples(model)
    np.savez(tmp_path / "in.npz", **samples)
    np.savez(tmp_path / "out.npz", **run_model(model, samples))
    export(model, tmp_path / "m.tflite")
    export(model, tmp_path / "saved")
    script = """
import sys, numpy as np, tensorflow as tf
samples, wanted = dict(np.load("in.npz")), dict(np.load("out.npz"))
loaded = tf.saved_model.load("saved")
signature = loaded.signatures["serving_default"]
runner = tf.lite.Interpreter("m.tflite").get_signature_runner()
for outputs in (signature(**{k: tf.constant(v) for k, v in samples.items()}), runner(**samples)):
    for name, value in wanted.items():
        np.testing.assert_allclose(outputs[name], value, atol=1e-5)
assert not [name for name in sys.modules if name.startswith("keras_dfprune")]
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_without_ai_edge_litert_the_interpreter_of_tensorflow_runs(tmp_path, monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "ai_edge_litert", types.ModuleType("ai_edge_litert"))
    monkeypatch.delitem(sys.modules, "ai_edge_litert.interpreter", raising=False)
    assert export(chain(), tmp_path / "m.tflite").max_relative_error < 1e-5
    assert "deprecated" not in capfd.readouterr().err


class OnlyPositive(layers.Layer):
    """Layer that fails on other inputs than the user's."""

    def call(self, x):
        if tf.executing_eagerly():
            tf.debugging.assert_positive(x)
        return x


def test_the_file_is_read_back_on_representative_data(tmp_path):
    model = keras.Sequential([keras.Input((4,)), OnlyPositive(), layers.Dense(3)])
    with pytest.raises(ValueError, match="fails on small random inputs"):
        export(model, tmp_path / "m")
    for name in ("m", "m.keras", "m.tflite"):
        export(model, tmp_path / name, representative_data=np.ones((1, 4)))


@pytest.mark.parametrize("last", ["softmax", "sigmoid"])
def test_a_file_is_compared_where_its_output_is_not_saturated(last):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, last, name="last")])
    kernel = 300 * np.random.default_rng(0).normal(size=(4, 3))
    model.get_layer("last").set_weights([kernel, np.zeros(3)])
    plain, clear = (draw(model) for draw in (draw_samples, draw_unsaturated))
    is_saturated = [
        np.all(np.minimum(y, 1 - y) < 1e-3)
        for y in (run_model(model, samples)["output_0"] for samples in (plain, clear))
    ]
    assert is_saturated == [True, False]
    model.get_layer("last").set_weights([kernel / 300, np.zeros(3)])
    for name, array in draw_unsaturated(model).items():
        np.testing.assert_array_equal(array, draw_samples(model)[name])
