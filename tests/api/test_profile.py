"""Profiles of small models, counted by hand, and of their files."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_dfprune as dfprune
from keras_dfprune.measure.latency import Latency

layers = keras.layers


def chain():
    """Build a model of 4 -> 6 -> 3 units: 51 parameters, 42 multiply-adds."""
    return keras.Sequential(
        [keras.Input((4,), name="x"), layers.Dense(6, "relu"), layers.Dense(3)], name="chain"
    )


def residual():
    inputs = keras.Input((8, 8, 2))
    first = layers.Conv2D(4, 3, padding="same")(inputs)
    second = layers.Conv2D(4, 3, padding="same")(first)
    return keras.Model(inputs, layers.Flatten()(layers.Dropout(0.5)(layers.Add()([first, second]))))


def test_a_dense_chain():
    result = dfprune.profile(chain())
    assert (result.name, result.format) == ("chain", "model")
    assert (result.parameters, result.multiply_adds, result.bytes) == (51, 42, 204)
    assert result.peak_activation_bytes == 4 * (4 + 6)  # input and output of the first layer
    assert result.latency is None and set(result.notes) == {"latency"}


def test_a_skip_connection_stays_in_memory():
    result = dfprune.profile(residual())
    assert result.multiply_adds == 64 * 9 * (2 * 4 + 4 * 4)
    # The sum: both of its inputs and its output. Dropout and Flatten hand their input on.
    assert result.peak_activation_bytes == 4 * 64 * (4 + 4 + 4)


def test_an_output_stays_in_memory_to_the_end():
    inputs = keras.Input((2,))
    early = layers.Dense(10)(inputs)
    late = layers.Dense(7)(layers.Dense(5)(early))
    peak = dfprune.profile(keras.Model(inputs, [early, late])).peak_activation_bytes
    assert peak == 4 * (10 + 5 + 7)


def test_bytes_of_a_row_follow_the_dtype():
    model = keras.Sequential([keras.Input((4,), dtype="float16"), layers.Dense(6, dtype="float16")])
    result = dfprune.profile(model)
    assert (result.bytes, result.peak_activation_bytes) == (2 * 30, 2 * 10)


def test_nested_models_count_their_inputs_once():
    inner = keras.Sequential([keras.Input((6,)), layers.Dense(2)])
    model = keras.Sequential([keras.Input((4,)), layers.Dense(6), inner])
    assert dfprune.profile(model).peak_activation_bytes == 4 * (4 + 6)


def test_files(tmp_path):
    model = chain()
    for name in ("m.keras", "m.tflite", "saved"):
        dfprune.export(model, tmp_path / name)
    loaded = dfprune.profile(tmp_path / "m.keras")
    assert (loaded.format, loaded.parameters, loaded.multiply_adds) == ("keras", 51, 42)
    assert loaded.bytes == (tmp_path / "m.keras").stat().st_size
    saved = dfprune.profile(tmp_path / "saved")
    assert (saved.parameters, saved.multiply_adds, saved.latency) == (51, None, None)
    assert saved.bytes == sum(f.stat().st_size for f in (tmp_path / "saved").rglob("*.*"))
    lite = dfprune.profile(str(tmp_path / "m.tflite"))
    assert lite.parameters is lite.multiply_adds is lite.peak_activation_bytes is None
    assert lite.bytes == (tmp_path / "m.tflite").stat().st_size
    assert str(lite).count("unknown: the file doesn't hold the layers") == 3
    low, high = lite.latency.quartiles
    assert 0 < low <= lite.latency.median <= high < 1000 and lite.latency.rows == 1
    assert dfprune.profile(tmp_path / "m.tflite", latency=False).latency is None


def test_a_frozen_saved_model_has_no_variables_to_count(tmp_path):
    module = tf.Module()
    module.serve = tf.function(
        lambda x: {"y": 2.0 * x}, input_signature=[tf.TensorSpec((None, 3), name="x")]
    )
    tf.saved_model.save(module, tmp_path / "m", signatures={"serving_default": module.serve})
    result = dfprune.profile(tmp_path / "m")
    assert result.parameters is None and "constants" in result.notes["parameters"]


@pytest.mark.parametrize("io_dtype", ["float32", "int8"])
def test_latency_of_quantized_files_with_a_fixed_batch(tmp_path, io_dtype):
    rows = np.random.default_rng(0).normal(size=(20, 4)).astype("float32")
    path = tmp_path / "q.tflite"
    dfprune.export(chain(), path, "int8", rows, io_dtype, batch_size=3)
    latency = dfprune.profile(path).latency
    assert latency.rows == 3 and "for 3 rows" in str(latency)


def test_latency_of_a_keras_model_is_measured_on_demand():
    assert dfprune.profile(chain(), latency=True).latency.median > 0


def test_a_model_that_litert_cannot_hold_has_no_latency():
    text = keras.Sequential(
        [keras.Input((1,), dtype="string"), layers.StringLookup(vocabulary=["a"])]
    )
    result = dfprune.profile(text, latency=True)
    assert result.latency is None and "no string operations" in result.notes["latency"]
    assert result.peak_activation_bytes is None


def test_unknown_lengths():
    result = dfprune.profile(keras.Sequential([keras.Input((None, 6)), layers.Dense(5)]))
    assert result.multiply_adds is result.peak_activation_bytes is None
    assert str(result).count("unknown: Expected axes of known length") == 2


@keras.saving.register_keras_serializable("test_profile")
class Own(layers.Layer):
    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 5))

    def call(self, inputs):
        return keras.ops.matmul(inputs, self.kernel)


def test_an_estimate_is_called_one():
    result = dfprune.profile(keras.Sequential([keras.Input((4,)), Own(name="own")]))
    assert result.multiply_adds == 20
    assert "20 (an estimate, because no rule counts 'own')" in str(result)


@pytest.mark.parametrize(
    ("build", "is_exact"),
    [
        (lambda x: layers.Dense(3)(x), True),
        (lambda x: layers.Embedding(9, 3)(layers.Flatten()(x)), True),
        (lambda x: layers.PReLU()(x), True),
        (lambda x: layers.LayerNormalization()(x), True),
        (lambda x: layers.Bidirectional(layers.LSTM(3))(x), True),
        (lambda x: layers.SeparableConv1D(3, 2)(x), True),
        (lambda x: layers.TimeDistributed(layers.Dense(3))(x), True),
        (lambda x: layers.TimeDistributed(layers.LayerNormalization())(x), False),
        (lambda x: layers.Conv1DTranspose(3, 2)(x), True),
        (lambda x: layers.Lambda(lambda v: v @ np.ones((4, 2)))(x), False),
    ],
)
def test_which_counts_are_exact(build, is_exact):
    inputs = keras.Input((6, 4))
    notes = dfprune.profile(keras.Model(inputs, build(inputs))).notes
    assert ("multiply_adds" not in notes) == is_exact


def test_products_of_tensors_are_left_out_and_named():
    inputs = keras.Input((6, 4))
    model = keras.Model(inputs, layers.MultiHeadAttention(2, 4, name="heads")(inputs, inputs))
    assert "products of two tensors in 'heads'" in dfprune.profile(model).notes["multiply_adds"]


def test_a_subclassed_model_has_parameters_and_bytes():
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3)

        def call(self, inputs):
            return self.dense(inputs)

    model = Subclassed()
    model(np.zeros((1, 4)))
    result = dfprune.profile(model)
    assert (result.parameters, result.bytes, result.multiply_adds) == (15, 60, None)
    assert "functionalize" in result.notes["multiply_adds"]


def test_the_dict_is_ready_for_json():
    result = dfprune.Profile("a", "tflite", 1, None, 2, 3, Latency(1.0, (0.5, 2.0), 9, 1), {})
    content = json.loads(json.dumps(result.to_dict()))
    assert content["latency"] == {"median": 1.0, "quartiles": [0.5, 2.0], "calls": 9, "rows": 1}
    assert content["multiply_adds"] is None


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("missing.keras", FileNotFoundError, "No such file or folder.*missing.keras"),
        ("notes.txt", ValueError, "ends in .keras or .tflite, or a SavedModel folder"),
        ("text.keras", ValueError, "Keras can't load"),
        ("text.tflite", ValueError, "LiteRT can't read"),
        ("folder", ValueError, "has no saved_model.pb"),
        ("damaged", ValueError, "TensorFlow can't load the SavedModel"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, error, message):
    for file in ("notes.txt", "text.keras", "text.tflite"):
        (tmp_path / file).write_text("not a model")
    for folder in ("folder", "damaged"):
        (tmp_path / folder).mkdir()
    (tmp_path / "damaged" / "saved_model.pb").write_text("not a model")
    with pytest.raises(error, match=message) as caught:
        dfprune.profile(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_what_is_no_model():
    with pytest.raises(TypeError, match="Received: model_or_file=3"):
        dfprune.profile(3)
    with pytest.raises(ValueError, match="Expected a built model"):
        dfprune.profile(keras.Sequential([layers.Dense(3)]))


def flops_of_kernels(model):
    """Count the flops of matrix products and convolutions with TensorFlow's profiler."""
    signature = tf.TensorSpec((1, *model.input_shape[1:]))
    function = tf.function(lambda x: model(x, training=False)).get_concrete_function(signature)
    options = (
        tf.compat.v1.profiler.ProfileOptionBuilder(
            tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
        )
        .with_empty_output()
        .build()
    )
    root = tf.compat.v1.profiler.profile(function.graph, cmd="op", options=options)
    flops = {}
    while root.children:  # each is the child of the one before
        (root,) = root.children
        flops[root.name] = root.float_ops
    return flops["MatMul"] + flops["Conv2D"] + flops.get("DepthwiseConv2dNative", 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("MobileNetV2", 96),
        ("ResNet50", 64),
        ("VGG16", 32),
        ("DenseNet121", 64),
        ("EfficientNetB0", 64),
    ],
)
def test_multiply_adds_are_half_of_tensorflows_flops(name, size):
    build = getattr(keras.applications, name)
    model = build(weights=None, input_shape=(size, size, 3), classes=10)
    result = dfprune.profile(model)
    assert "multiply_adds" not in result.notes
    assert 2 * result.multiply_adds == flops_of_kernels(model)
