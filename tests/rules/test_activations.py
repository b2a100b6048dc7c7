"""Activations: their properties by the table and by measurement, and what is refused."""

import functools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dfprune.rules.activations import LINEAR, NotElementwise, compose, describe

MIXING = ["glu", "log_softmax", "softmax", "sparsemax"]
NOT_ACTIVATIONS = ["deserialize", "get", "serialize"]
NAMES = sorted(
    name
    for name in vars(keras.activations)
    if callable(getattr(keras.activations, name))
    and name not in [*MIXING, *NOT_ACTIVATIONS, "threshold"]  # threshold needs two more arguments
)


def known(name):
    return describe(keras.activations.get(name))


def hidden(name):
    """Describe a Keras activation inside a lambda, whose properties have to be measured."""
    function = keras.activations.get(name)
    return describe(lambda x: function(x))


def published(x):
    return keras.activations.relu(x, 0.1, max_value=20)


@pytest.mark.parametrize("name", NAMES)
def test_every_keras_activation_is_known(name):
    assert known(name).name in (name, {"swish": "silu", "hard_swish": "hard_silu"}.get(name))
    assert known(name).function is keras.activations.get(name)


@pytest.mark.parametrize("name", NAMES)
def test_the_known_properties_are_those_that_are_measured(name):
    table, measured = known(name), hidden(name)
    assert measured.name == "<lambda>"
    if measured.linear_pieces is None and math.isfinite(measured.slope):
        assert measured.slope / 1.01 == pytest.approx(table.slope, rel=0.003)
        assert measured.slope >= table.slope
    else:
        assert measured.slope == pytest.approx(table.slope, rel=1e-6)
    assert measured.monotone == table.monotone
    assert measured.homogeneous == table.homogeneous
    assert measured.at_zero == pytest.approx(table.at_zero, abs=1e-6)
    assert measured.kinks == pytest.approx(table.kinks, abs=1e-4)
    assert (measured.linear_pieces is None) == (table.linear_pieces is None)
    if table.linear_pieces is not None:
        np.testing.assert_allclose(measured.linear_pieces, table.linear_pieces, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in NAMES if math.isfinite(known(name).slope)])
@pytest.mark.parametrize("properties", [known, hidden], ids=["known", "measured"])
def test_no_pair_of_values_is_further_apart_than_the_slope_allows(name, properties):
    activation = properties(name)
    generator = np.random.default_rng(1)
    a = generator.normal(0, generator.choice([0.3, 3.0, 30.0], 20000))
    b = a + generator.normal(0, generator.choice([1e-3, 0.1, 10.0], 20000))
    moved = activation.values(a[:, None]) - activation.values(b[:, None])
    slack = 1e-7 * np.maximum(1, np.abs(a))  # some Keras functions are float32 inside
    assert np.all(np.abs(moved[:, 0]) <= activation.slope * np.abs(a - b) + slack)


@pytest.mark.parametrize("name", ["gelu", "silu", "mish", "selu", "hard_silu", "hard_sigmoid"])
def test_a_known_slope_is_reached_to_a_thousandth(name):
    x = np.linspace(-8, 8, 160_001)[:, None]
    steepest = np.abs(np.diff(known(name).values(x), axis=0)).max() / 1e-4
    assert known(name).slope == pytest.approx(steepest, rel=1e-3)


@pytest.mark.parametrize("name", MIXING)
def test_keras_functions_that_mix_units_are_refused(name):
    with pytest.raises(NotElementwise, match=name):
        describe(keras.activations.get(name))


VECTOR = np.linspace(0.5, 1.0, 8).astype(np.float32)


def by_position(x):
    if len(x.shape) == 2:
        return x
    positions = tf.range(1.0, x.shape[1] + 1.0)
    return x * tf.reshape(positions, (-1, *[1] * (len(x.shape) - 2)))


REFUSED = {
    "softmax": (lambda x: keras.activations.softmax(x), "depends on the other units .softmax-like"),
    "gate": (lambda x: x * keras.ops.sigmoid(keras.ops.roll(x, 1, -1)), "on the other units"),
    "batch mean": (lambda x: x - tf.reduce_mean(x, 0, keepdims=True), "other rows of the batch"),
    "random": (lambda x: x + keras.random.normal(x.shape), "two calls on the same input differ"),
    "vector": (lambda x: x * VECTOR, "each unit has a function of its own"),
    "rows": (
        lambda x: x * np.linspace(0.5, 1, x.shape[0], dtype="f")[:, None],
        "row of the batch has a function of its own",
    ),
    "constant vector": (
        lambda x: x * np.full(8, 0.5, np.float32),
        r"on shape \(\d+, 4\) it raised",
    ),
    "width": (lambda x: x / x.shape[-1], "depend on the number of units"),
    "position": (by_position, "depend on the position at rank 3"),
    "halved": (lambda x: x[:, ::2], r"turns shape \(128, 8\) into \(128, 4\)"),
    "mask": (lambda x: x > 0, "turns float32 into bool"),
    "overflow": (lambda x: tf.exp(x * x), r"not finite on \[-16, 16\]"),
    "not a number": (lambda x: tf.sqrt(x), r"not finite on \[-16, 16\]"),
    "raises": (lambda x: keras.activations.threshold(x), "raised TypeError: threshold"),
    "variables": (keras.layers.PReLU(), "variables of its own"),
    "layer that mixes": (keras.layers.Softmax(), "depends on the other units"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_the_error_says_why_a_function_is_not_elementwise(case):
    function, words = REFUSED[case]
    with pytest.raises(NotElementwise, match=words):
        describe(function)


def test_mixing_is_found_between_distant_units_of_a_wide_layer():
    with pytest.raises(NotElementwise, match="other units"):
        describe(lambda x: x + 0.1 * tf.roll(x, 64, axis=-1), units=256)


def test_mixing_is_found_even_for_a_layer_of_one_unit():
    with pytest.raises(NotElementwise, match="depends on the other units"):
        describe(lambda x: keras.activations.softmax(x), units=1)


def test_a_staircase_of_many_steps_has_no_useful_kinks():
    assert describe(lambda x: tf.cast(x, tf.float16)).kinks == ()


def test_measuring_a_layer_builds_nothing_in_it():
    layer = keras.layers.PReLU()
    with pytest.raises(NotElementwise):
        describe(layer)
    assert not layer.built and not layer.variables


@pytest.mark.parametrize(
    "function",
    [
        tf.exp,
        tf.square,
        tf.sign,
        tf.round,
        lambda x: keras.activations.threshold(x, 1.0, 0.0),
        lambda x: keras.activations.hard_shrink(x),
        lambda x: tf.where(x > 1.2345, x + 0.01, x),
        lambda x: tf.sign(x) * tf.sqrt(tf.abs(x)),
        lambda x: tf.sign(x) * tf.abs(x) ** 1.02,
        lambda x: x * tf.math.log1p(tf.abs(x)),
        lambda x: tf.sign(x) * tf.abs(x) ** 0.95,
        lambda x: 10 * tf.nn.relu(-x) + tf.where(x > 1.2345, 0.01, 0.0),
        lambda x: tf.where(  # a saw that is x on any grid of spacing 2**-9
            (x > 6) & (x < 7), x + 1e-3 * tf.math.floormod(512 * x, 1.0), x
        ),
        lambda x: tf.cast(tf.cast(x, tf.float16), tf.float32),
    ],
    ids="exp square sign round threshold shrink jump sqrt power root xlog step saw half".split(),
)
def test_an_unbounded_or_jumping_slope_is_infinite_and_no_refusal(function):
    assert describe(function).slope == math.inf


@pytest.mark.parametrize(
    ("function", "steepest"),
    [(tf.sin, 1.0), (lambda x: tf.tanh(30 * x), 30.0), (lambda x: 100 + tf.tanh(x), 1.0)],
    ids=["sin", "steep", "high"],
)
def test_a_steep_or_wavy_slope_is_bounded(function, steepest):
    assert steepest <= describe(function).slope <= 1.02 * steepest


def test_the_clipped_leaky_relu_of_published_models():
    activation = describe(published)
    assert activation.name == "published"
    assert (activation.slope, activation.monotone, activation.homogeneous) == (1.0, True, False)
    assert activation.kinks == (0.0, 20.0)
    assert activation.linear_pieces == ((0.1, 0.0), (1.0, 0.0), (0.0, 20.0))


def test_a_clip_beyond_the_grid_is_not_taken_for_a_relu():
    activation = describe(lambda x: keras.ops.clip(x, 0, 100))
    assert not activation.homogeneous and activation.linear_pieces is None


def test_falling_and_non_monotone_functions():
    assert describe(lambda x: -keras.ops.relu(x)).monotone
    assert not describe(tf.abs).monotone
    assert describe(tf.abs).homogeneous


@pytest.mark.parametrize(
    ("function", "name", "pieces"),
    [
        (keras.layers.LeakyReLU(), "LeakyReLU", ((0.3, 0.0), (1.0, 0.0))),
        (keras.layers.LeakyReLU(dtype="mixed_float16"), "LeakyReLU", ((0.3, 0.0), (1.0, 0.0))),
        (
            functools.partial(keras.activations.relu, negative_slope=0.25),
            "relu",
            ((0.25, 0.0), (1.0, 0.0)),
        ),
        (lambda x: 2 * x + 1, "<lambda>", ((2.0, 1.0),)),
    ],
    ids=["layer", "half layer", "partial", "affine"],
)
def test_callable_objects_are_measured(function, name, pieces):
    activation = describe(function)
    assert activation.name == name
    assert activation.linear_pieces == pieces
    assert activation.slope == max(slope for slope, _ in pieces)


@pytest.mark.parametrize("units", [1, 2, 3, 500])
def test_any_width_gives_the_same_properties(units):
    activation = describe(published, units=units)
    assert activation.linear_pieces == describe(published).linear_pieces


def test_none_is_linear():
    assert describe(None) is LINEAR
    assert describe(keras.activations.linear) is LINEAR


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_values_keep_shape_and_dtype(dtype):
    x = np.linspace(-2, 2, 24, dtype=dtype).reshape(2, 3, 4)
    values = known("softplus").values(x)
    assert values.shape == x.shape and values.dtype == x.dtype
    precision = {"float16": 2e-3, "float32": 1e-6, "float64": 1e-12}[dtype]
    np.testing.assert_allclose(values, np.log1p(np.exp(x)), rtol=precision)


def test_values_of_a_float32_function_in_float64():
    activation = describe(lambda x: x * tf.constant(0.5))
    values = activation.values(np.ones((1, 2)))
    assert values.dtype == np.float64
    np.testing.assert_array_equal(values, np.full((1, 2), 0.5))


def test_composition_with_linear_is_the_other_activation():
    relu = known("relu")
    assert compose(LINEAR, relu) is relu
    assert compose(relu, LINEAR) is relu


def test_composition_is_conservative():
    selu_then_silu = compose(known("selu"), known("silu"))
    assert selu_then_silu.name == "selu then silu"
    assert selu_then_silu.slope == pytest.approx(known("selu").slope * known("silu").slope)
    assert not selu_then_silu.monotone and not selu_then_silu.homogeneous
    assert compose(known("relu"), known("leaky_relu")).homogeneous
    assert not compose(known("relu"), known("tanh")).homogeneous
    assert not compose(known("tanh"), known("relu")).homogeneous
    assert compose(known("tanh"), known("exponential")).slope == math.inf
    x = np.linspace(-3, 3, 12).reshape(3, 4)
    expected = known("silu").values(known("selu").values(x))
    np.testing.assert_allclose(selu_then_silu.values(x), expected)


def test_composition_of_straight_pieces():
    both = compose(known("leaky_relu"), known("hard_tanh"))
    assert both.kinks == (-5.0, 0.0, 1.0)
    assert both.linear_pieces == ((0.0, -1.0), (0.2, 0.0), (1.0, 0.0), (0.0, 1.0))
    assert compose(known("softplus"), known("sigmoid")).at_zero == pytest.approx(2 / 3)


def test_composition_that_overflows_has_properties():
    both = compose(known("exponential"), known("exponential"))
    assert both.slope == math.inf and both.monotone
    assert both.at_zero == pytest.approx(math.e, rel=1e-6)
