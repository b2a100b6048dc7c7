"""Units that are constant behind their activation: 0 goes anywhere, others where a bias takes them.

In each model unit 3 of the layer `units` has no incoming weights, or a BatchNormalization or a
depthwise convolution behind it multiplies it by 0.
"""

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from tests.support.models import inputs_of, outputs, relative_difference

layers = keras.layers
DEAD = 3


def chain(*steps, shape=(8, 8, 3)):
    inputs = keras.Input(shape)
    hidden = inputs
    for step in steps:
        hidden = step(hidden)
    return keras.Model(inputs, layers.GlobalAveragePooling2D()(hidden))


def units(**arguments):
    return layers.Conv2D(8, 3, name="units", **arguments)


def consumer(padding):
    return layers.Conv2D(4, 3, padding=padding)


def kill(model, bias):
    """Take the incoming weights from the unit."""
    layer = model.get_layer("units")
    kernel, *biases = layer.get_weights()
    kernel[..., DEAD] = 0
    for array in biases:
        array[DEAD] = bias
    layer.set_weights([kernel, *biases])
    return model


def normalize(model, gamma, beta):
    """Give the BatchNormalization a scale and shift for the unit, and others at random."""
    layer, random = model.get_layer("norm"), np.random.default_rng(0)
    arrays = [random.uniform(0.5, 1.5, 8), random.normal(size=8), random.normal(size=8),
              random.uniform(0.5, 1.5, 8)]  # fmt: skip
    arrays[0][DEAD], arrays[1][DEAD], arrays[2][DEAD] = gamma, beta, 0
    layer.set_weights(arrays)
    return model


def removed(model, **arguments):
    """Plan the lossless removals, check them, and return which units of the layer they are."""
    plan = dfprune.plan(model, tolerance=0, **arguments)
    x = inputs_of(model)
    assert relative_difference(outputs(plan.apply(model), x), outputs(model, x)) <= 1e-5
    return next(group for group in plan.groups if "units" in group.layers).removed.tolist()


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(
    "activation, bias, zero",
    [
        ("relu", -1.0, True),
        ("relu", 1.0, False),
        ("tanh", 0.0, True),
        ("gelu", 0.0, True),
        ("tanh", 0.5, False),
        ("sigmoid", 0.0, False),
    ],
)
def test_the_value_behind_the_activation_counts(padding, activation, bias, zero):
    model = kill(chain(units(activation=activation), consumer(padding)), bias)
    assert removed(model) == ([DEAD] if zero or padding == "valid" else [])


@pytest.mark.parametrize(
    "arguments, gone",
    [
        ({"method": "moments"}, [DEAD]),
        ({"method": dfprune.Saliency(surgery=False)}, [DEAD]),
    ],
)
def test_both_methods_remove_zeros(arguments, gone):
    model = kill(chain(units(activation="gelu"), consumer("same")), 0.0)
    assert removed(model, **arguments) == gone


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("gamma, beta, zero", [(0, -1, True), (1, -1, True), (0, 1, False)])
def test_a_normalization_makes_units_constant(padding, gamma, beta, zero):
    middle = [layers.BatchNormalization(name="norm"), layers.ReLU(), consumer(padding)]
    model = normalize(chain(units(use_bias=False), *middle), gamma, beta)
    if gamma:
        kill(model, 0.0)
    assert removed(model) == ([DEAD] if zero or padding == "valid" else [])


@pytest.mark.parametrize("first", ["relu", "sigmoid"])
def test_a_gamma_of_0_behind_an_activation_makes_any_unit_constant(first):
    middle = [layers.BatchNormalization(name="norm"), layers.ReLU(), consumer("same")]
    model = normalize(chain(units(activation=first), *middle), gamma=0, beta=-0.5)
    assert removed(model) == [DEAD]


@pytest.mark.parametrize("bias, gone", [(-1.0, [DEAD]), (1.0, [])])
@pytest.mark.parametrize("strides", [1, 2])
def test_depthwise_convolutions_keep_zeros_and_bend_other_constants_at_the_edges(
    bias, gone, strides
):
    depthwise = layers.DepthwiseConv2D(3, strides, padding="same")
    model = chain(units(activation="relu"), depthwise, layers.ReLU(), consumer("valid"))
    depthwise.bias.assign(np.linspace(0.1, 1, 8))
    assert removed(kill(model, bias)) == gone


def test_a_constant_of_a_depthwise_convolution_is_taken_where_nothing_is_padded():
    depthwise = layers.DepthwiseConv2D(3)
    model = chain(units(activation="relu"), depthwise, layers.ReLU(), consumer("valid"))
    assert removed(kill(model, 1.0)) == [DEAD]


def test_a_filter_of_zeros_makes_any_unit_constant():
    depthwise = layers.DepthwiseConv2D(3, padding="same")
    model = chain(units(), depthwise, layers.ReLU(), consumer("same"))
    kernel = np.array(depthwise.kernel)
    kernel[:, :, DEAD] = 0
    depthwise.kernel.assign(kernel)
    assert removed(model) == [DEAD]


@pytest.mark.parametrize("bias, beta, gone", [(-1, -1, [DEAD]), (-1, 1, [DEAD]), (2, -1, [])])
def test_zeros_that_were_padded_have_to_be_the_same_constant(bias, beta, gone):
    middle = [layers.ZeroPadding2D(1), layers.BatchNormalization(name="norm"), layers.ReLU()]
    model = chain(units(activation="relu"), *middle, consumer("valid"))
    assert removed(kill(normalize(model, gamma=1, beta=beta), bias)) == gone


@pytest.mark.parametrize("branch_bias, gone", [(0.0, [DEAD]), (1.0, [])])
def test_joined_units_go_where_all_parts_are_0(branch_bias, gone):
    inputs = keras.Input((8, 8, 3))
    hidden = units(activation="relu", padding="same")(inputs)
    inner = layers.Conv2D(5, 3, padding="same", activation="relu")(hidden)
    branch = layers.Conv2D(8, 3, padding="same", name="branch")(inner)
    joined = layers.ReLU()(layers.Add()([hidden, branch]))
    outputs_ = layers.GlobalAveragePooling2D()(consumer("same")(joined))
    model = kill(keras.Model(inputs, outputs_), -1.0)
    kernel, bias = model.get_layer("branch").get_weights()
    kernel[..., DEAD], bias[DEAD] = 0, branch_bias
    model.get_layer("branch").set_weights([kernel, bias])
    assert removed(model) == gone


@pytest.mark.parametrize("value, gone", [(0.0, [DEAD]), (-1.0, [])])
def test_slopes_that_differ_between_positions_keep_zeros_only(value, gone):
    bend = layers.PReLU()
    model = chain(units(), bend, consumer("valid"))
    bend.alpha.assign(np.random.default_rng(0).uniform(0.1, 0.9, bend.alpha.shape))
    assert removed(kill(model, value)) == gone


def test_a_function_that_hides_nan_makes_no_unit_constant():
    def threshold(x):
        return keras.ops.where(x > 0.1, x, keras.ops.zeros_like(x))

    model = kill(chain(units(activation=threshold), consumer("same")), -1.0)
    assert removed(model) == [DEAD]
