"""Inputs are found that have the statistics of a model's BatchNormalizations."""

import keras
import numpy as np
import pytest

from keras_dfprune.graph.fingerprint import layer_digests
from keras_dfprune.inputs import found_inputs as module
from keras_dfprune.inputs.found_inputs import can_find_inputs, found_inputs
from keras_dfprune.inputs.smooth_noise import smooth_noise
from keras_dfprune.inputs.user_rows import read_rows
from keras_dfprune.locate.locate import locate_model
from tests.support.models import call_history, operations_of

layers = keras.layers
IMAGE, SERIES, VECTOR = (8, 8, 2), (12, 3), (5,)


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setattr(module, "_MOST_STEPS", 80)


def measured(model, scale=1.0, shift=0.0, seed=1):
    """Give a model random weights, and its normalizations the statistics of random inputs."""
    random = np.random.default_rng(seed)
    rows = [
        (shift + scale * smooth_noise(tensor.shape[1:], 256, random)).astype("float32")
        for tensor in model.inputs
    ]
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            value = np.asarray(keras.Model(model.inputs, layer.input)(rows))
            axes = tuple(range(value.ndim - 1))
            layer.moving_mean.assign(value.mean(axes))
            layer.moving_variance.assign(value.var(axes))
    return model


def convolutional(shape=IMAGE, front=()):
    keras.utils.set_random_seed(0)
    kind = layers.Conv1D if len(shape) == 2 else layers.Conv2D
    return keras.Sequential(
        [
            keras.Input(shape, name="x"),
            *front,
            kind(6, 3, name="first"),
            layers.BatchNormalization(name="b1"),
            layers.ReLU(),
            kind(8, 3, name="second"),
            layers.BatchNormalization(name="b2"),
            layers.ReLU(),
            layers.Flatten(),
            layers.Dense(3, name="head"),
        ]
    )


def dense(*front, shape=VECTOR):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input(shape, name="x"),
            *front,
            layers.Dense(7, name="first"),
            layers.BatchNormalization(name="b1"),
            layers.ReLU(),
            layers.Dense(3, name="head"),
        ]
    )


def misfit(model, samples, name):
    """Return the mean squared difference of a normalization's outputs from mean 0, variance 1."""
    layer = model.get_layer(name)
    value = np.asarray(keras.Model(model.inputs, layer.output)(list(samples.values())))
    axes = tuple(range(value.ndim - 1))
    return np.mean(value.mean(axes) ** 2 + (value.std(axes) - 1.0) ** 2)


@pytest.mark.parametrize("shape", [IMAGE, SERIES])
def test_statistics_are_met(shape):
    model = measured(convolutional(shape), scale=2.0, shift=1.0)
    result = found_inputs(locate_model(model), count=64)
    assert result.samples["x"].shape == (64, *shape) and result.samples["x"].dtype == np.float32
    assert result.layers == 2
    assert result.after < 0.1 * result.before and result.after < 0.01
    reached = [misfit(model, result.samples, name) for name in ("b1", "b2")]
    assert np.mean(reached) == pytest.approx(result.after, rel=0.05)


def test_one_seed_gives_one_result_and_another_seed_another():
    located = locate_model(measured(dense()))
    first, again, other = (found_inputs(located, count=64, seed=s).samples["x"] for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1


@pytest.mark.parametrize(
    ("front", "scale", "shift"),
    [
        ((layers.Rescaling(1 / 255),), 60.0, 128.0),
        ((layers.Rescaling(1 / 127.5, -1.0),), 60.0, 128.0),
        ((layers.Normalization(mean=[500.0, -3.0], variance=[1e4, 1e-2]),), [100, 0.1], [500, -3]),
        ((), 0.01, 0.02),
    ],
)
def test_start_suits_the_scale_of_the_inputs(front, scale, shift):
    scale, shift = np.array(scale), np.array(shift)
    model = measured(convolutional(front=front), scale, shift)
    result = found_inputs(locate_model(model), count=64)
    assert result.before < 2.0 and result.after < 0.01
    deviation = result.samples["x"].std((0, 1, 2)) / scale
    offset = (result.samples["x"].mean((0, 1, 2)) - shift) / scale
    assert (deviation > 0.5).all() and (deviation < 2.0).all() and (np.abs(offset) < 0.7).all()


def test_inputs_of_one_model_may_have_different_scales():
    keras.utils.set_random_seed(0)
    image, vector = keras.Input(IMAGE, name="image"), keras.Input(VECTOR, name="vector")
    unused = keras.Input((2,), name="unused")
    left = layers.BatchNormalization(name="b1")(layers.Conv2D(4, 3)(image))
    right = layers.BatchNormalization(name="b2")(layers.Dense(4)(vector))
    pooled = layers.GlobalAveragePooling2D()(left)
    outputs = [layers.Dense(3)(layers.Add()([pooled, right])), unused]
    model = keras.Model([image, vector, unused], outputs)
    model.get_layer("b1").moving_variance.assign([100.0] * 4)
    model.get_layer("b2").moving_variance.assign([0.01] * 4)
    result = found_inputs(locate_model(model), count=64)
    assert list(result.samples) == ["image", "vector", "unused"]
    assert result.after < 0.01
    assert result.samples["image"].std() > 30 * result.samples["vector"].std()
    rows = read_rows(model, result.samples, "calibration_data")
    assert rows["image"].shape == (64, *IMAGE)


def test_nested_models_and_shared_layers():
    keras.utils.set_random_seed(0)
    inner = dense(layers.Normalization(mean=[50.0] * 5, variance=[4.0] * 5))
    x, y = keras.Input(VECTOR, name="x"), keras.Input(VECTOR, name="y")
    model = keras.Model([x, y], layers.Add()([inner(x), inner(y)]))
    kernel = np.array(inner.get_layer("first").kernel)
    inner.get_layer("b1").moving_variance.assign(9.0 * (kernel**2).sum(0))  # inputs thrice as wide
    result = found_inputs(locate_model(model), count=100)
    assert result.layers == 2 and result.after < 0.02
    for name in "xy":
        assert 45 < result.samples[name].mean() < 55 and 4 < result.samples[name].std() < 8


@pytest.mark.parametrize("bad", [0.0, np.nan])
def test_channels_without_a_variance_do_not_count(bad):
    model = measured(convolutional())
    variance = model.get_layer("b2").moving_variance
    variance.assign([bad, *variance.numpy()[1:]])
    result = found_inputs(locate_model(model), count=64)
    assert result.layers == 2 and result.after < 0.01
    assert np.isfinite(result.samples["x"]).all()


def test_layers_behind_nan_do_not_count():
    model = measured(convolutional())
    variance = model.get_layer("b1").moving_variance
    variance.assign([np.nan, *variance.numpy()[1:]])
    result = found_inputs(locate_model(model), count=64)
    assert result.layers == 1 and result.after < 0.01
    assert np.isfinite(result.samples["x"]).all()


def test_nan_everywhere_is_told():
    model = convolutional()
    model.get_layer("first").kernel.assign(np.full((3, 3, 2, 6), np.nan))
    with pytest.raises(ValueError, match="NaN or infinity"):
        found_inputs(locate_model(model), count=64)


def test_model_is_not_changed():
    model = measured(convolutional())
    located = locate_model(model)
    before, history = layer_digests(located.graph), call_history(operations_of(model))
    found_inputs(located, count=64)
    assert layer_digests(locate_model(model).graph) == before
    assert call_history(operations_of(model)) == history


class Counter(layers.Layer):
    """Count its calls."""

    def build(self, input_shape):
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, inputs):
        self.count.assign(self.count + 1.0)
        return inputs


def test_states_are_not_changed():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input(SERIES),
            Counter(),
            layers.LSTM(4, return_sequences=True),
            layers.BatchNormalization(name="b1"),
            layers.Dropout(0.5),
            layers.Dense(2),
        ]
    )
    before = [np.array(variable) for variable in model.variables]
    result = found_inputs(locate_model(model), count=64)
    assert result.after < result.before
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(np.array(variable), value)


def mixed():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        return dense()
    finally:
        keras.config.set_dtype_policy("float32")


def test_half_precision():
    result = found_inputs(locate_model(mixed()), count=64)
    assert result.after < 0.05 and result.samples["x"].dtype == np.float32


def in_training():
    x = keras.Input(VECTOR)
    return keras.Model(x, layers.BatchNormalization()(layers.Dense(4)(x), training=True))


def without_variance():
    model = dense()
    model.get_layer("b1").moving_variance.assign(np.zeros(7))
    return model


def fixed_rows():
    x = keras.Input(batch_shape=(2, 5))
    return keras.Model(x, layers.BatchNormalization()(layers.Dense(4)(x)))


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda: keras.Sequential([keras.Input((4,)), layers.Dense(2)]), "no BatchNormalization"),
        (without_variance, "no BatchNormalization"),
        (in_training, "no BatchNormalization"),
        (fixed_rows, "fixed number of rows"),
        (
            lambda: keras.Sequential(
                [keras.Input((None, 3)), layers.Conv1D(4, 3), layers.BatchNormalization()]
            ),
            "unknown shape",
        ),
        (
            lambda: keras.Sequential(
                [
                    keras.Input((6,), dtype="int32", name="words"),
                    layers.Embedding(9, 4),
                    layers.BatchNormalization(),
                ]
            ),
            "not floats .*words.*int32",
        ),
        (
            lambda: keras.Sequential(
                [
                    keras.Input((512, 512, 64)),
                    layers.Conv2D(64, 3),
                    layers.BatchNormalization(),
                ]
            ),
            "too large",
        ),
    ],
)
def test_reasons(build, reason):
    located = locate_model(build())
    with pytest.raises(ValueError, match=reason):
        found_inputs(located)
    assert can_find_inputs(located) in str(pytest.raises(ValueError, found_inputs, located).value)


def test_models_that_can():
    assert can_find_inputs(locate_model(dense())) is None


@pytest.mark.parametrize(
    ("cost", "rows_at_least", "rows_at_most"),
    [(1, 768, 768), (10**7, 300, 768), (10**8, 64, 300)],
)
def test_work_is_limited(cost, rows_at_least, rows_at_most):
    rows, steps = module._rows_and_steps(cost, None)
    assert rows_at_least <= rows <= rows_at_most and 60 <= steps <= 80
    assert 3 * cost * rows * steps <= 1.01 * module.MOST_WORK


def test_number_of_rows_and_batches(monkeypatch):
    monkeypatch.setattr(module, "_BATCH", 64)
    model = measured(dense())
    result = found_inputs(locate_model(model), count=150)
    assert result.samples["x"].shape == (150, 5)
    for start in (0, 50, 100):  # each batch has the statistics by itself
        part = {"x": result.samples["x"][start : start + 50]}
        assert misfit(model, part, "b1") < 0.05
