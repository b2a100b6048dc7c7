import os
import pathlib
import subprocess
import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dfprune.export import ExportError, ExportResult, export, keras_file, litert
from keras_dfprune.export.cast import cast_to_float32
from keras_dfprune.export.result import ERROR_BOUNDS, compare
from keras_dfprune.representative import read_representative
from keras_dfprune.samples import draw_samples, hand_over, run_model

layers = keras.layers


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(7)


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
    """Dict inputs whose order isn't the alphabet's, one of them an index, and dict outputs."""
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
    details = litert._interpreter(tmp_path / "m.tflite").get_tensor_details()
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
    got = run_model(cast, hand_over(samples, cast))["output_0"]
    assert got.dtype == np.float32
    assert {str(w.dtype) for w in cast.weights} == {"float32"}
    assert {str(w.dtype) for w in model.weights} == {"float16", "float32"}
    np.testing.assert_allclose(got, run_model(model, samples)["output_0"], atol=2e-2)
    assert cast_to_float32(cast) is cast


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


def test_bad_arguments(tmp_path):
    model = chain()
    for arguments, message in [
        (("m.tflite", "int8"), "needs `representative_data`"),
        (("m.keras", "dynamic"), "Only .tflite"),
        (("m", "float16"), "format saved_model"),
        (("m.tflite", "int4"), "quantize='int4'"),
        (("m.tflite", "dynamic", np.zeros((1, 16))), "for quantize='int8' alone"),
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


def test_places_that_are_taken(tmp_path):
    model = chain()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("mine")
    (tmp_path / "m.keras").mkdir()
    with pytest.raises(ValueError, match="a file is in its place"):
        export(model, tmp_path / "file")
    with pytest.raises(ValueError, match="notes.txt"):
        export(model, tmp_path / "folder")
    with pytest.raises(ValueError, match="folder is in the place of the file"):
        export(model, tmp_path / "m.keras")
    export(model, tmp_path / "saved")
    (tmp_path / "saved" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="notes.txt"):
        export(model, tmp_path / "saved")
    assert (tmp_path / "file").read_text() == "mine"


def content(path: pathlib.Path):
    return {f.name: f.read_bytes() for f in sorted(path.rglob("*")) if f.is_file()}


@pytest.mark.parametrize("name", ["m.tflite", "m.keras", "saved"])
def test_failure_leaves_the_old_file(name, tmp_path, monkeypatch):
    export(chain(8), tmp_path / name)
    before = content(tmp_path)

    def fail(*_, **__):
        raise RuntimeError("planted")

    # Each format fails after it has written something.
    monkeypatch.setattr(litert, "_converter", fail)
    monkeypatch.setattr(keras.saving, "load_model", fail)
    monkeypatch.setattr(tf.saved_model, "load", fail)
    with pytest.raises(ExportError, match="planted"):
        export(chain(16), tmp_path / name)
    assert content(tmp_path) == before
    assert os.listdir(tmp_path) == [name]


def test_failing_move_brings_the_old_folder_back(tmp_path, monkeypatch):
    export(chain(8), tmp_path / "saved")
    before = content(tmp_path)
    replace = os.replace

    def fail(source, target):
        if pathlib.Path(source).name == "saved" and ".saved-" in str(source):
            raise OSError("planted")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="planted"):
        export(chain(16), tmp_path / "saved")
    assert content(tmp_path) == before and os.listdir(tmp_path) == ["saved"]


def test_old_saved_model_is_replaced(tmp_path):
    export(chain(8), tmp_path / "saved")
    result = export(chain(128), tmp_path / "saved")
    assert sum(map(len, content(tmp_path / "saved").values())) == result.bytes
    assert os.listdir(tmp_path) == ["saved"]


def test_wrong_file_is_refused(tmp_path, monkeypatch):
    other, write = chain(), keras_file.write
    monkeypatch.setattr(keras_file, "write", lambda model, path: write(other, path))
    with pytest.raises(ExportError, match="doesn't compute what the model computes"):
        export(chain(), tmp_path / "m.keras")
    assert os.listdir(tmp_path) == []


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


def test_onnx(tmp_path, capfd):
    pytest.importorskip("tf2onnx")
    pytest.importorskip("onnxruntime")
    for build in (chain, several):
        result = export(build(), tmp_path / "m.onnx")
        assert result.max_relative_error < 1e-5 and result.format == "onnx"
    gelu = keras.Sequential([keras.Input((3,)), layers.Dense(4, "gelu")])
    before = content(tmp_path)
    with pytest.raises(ExportError, match="gelu"):
        export(gelu, tmp_path / "m.onnx")
    assert content(tmp_path) == before
    assert capfd.readouterr().out == ""


def test_onnx_that_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'pip install "keras_dfprune\[onnx\]"'):
        export(chain(), tmp_path / "m.onnx")


def test_interpreter_of_tensorflow_serves_too(tmp_path, monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "ai_edge_litert", types.ModuleType("ai_edge_litert"))
    monkeypatch.delitem(sys.modules, "ai_edge_litert.interpreter", raising=False)
    assert export(chain(), tmp_path / "m.tflite").max_relative_error < 1e-5
    assert "deprecated" not in capfd.readouterr().err


def test_onnx_files_that_ask_for_more_inputs(tmp_path):
    pytest.importorskip("tf2onnx")
    pytest.importorskip("onnxruntime")
    scale = keras.layers.Normalization(mean=[0.0, 1.0], variance=[1.0, 2.0])
    model = keras.Sequential([keras.Input((2,)), scale, keras.layers.Dense(3)])
    with pytest.raises(ExportError, match=r"inputs that the model doesn't have.*as Normalization"):
        export(model, tmp_path / "m.onnx")
