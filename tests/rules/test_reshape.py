"""Dense layers whose units a Reshape spreads over positions: one channel is one unit."""

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from keras_dfprune.graph.read_graph import read_graph
from keras_dfprune.locate.locate import locate
from tests.rules.test_transposed import built, check_equal_outputs, check_planted_copies
from tests.support import random_graphs

layers = keras.layers


def generator():
    """Build the generator of a DCGAN."""
    noise = keras.Input((7,))
    hidden = layers.Dense(2 * 3 * 6, use_bias=False, name="producer")(noise)
    hidden = layers.LeakyReLU(0.2)(layers.BatchNormalization()(hidden))
    hidden = layers.Reshape((2, 3, 6), name="channels")(hidden)
    for filters in (5, 4):
        layer = layers.Conv2DTranspose(filters, 5, strides=2, padding="same", use_bias=False)
        hidden = layers.LeakyReLU(0.2)(layers.BatchNormalization()(layer(hidden)))
    last = layers.Conv2DTranspose(1, 5, strides=2, padding="same", activation="tanh")
    return keras.Model(noise, last(hidden))


def test_a_generator_is_pruned_from_end_to_end():
    check_planted_copies(generator, lambda model: model.layers[-1].name)
    pruned = dfprune.apply(built(generator), sparsity={"producer": 0.5}, method="moments")
    assert pruned.get_layer("producer").units == 2 * 3 * 3
    assert pruned.get_layer("channels").output.shape[1:] == (2, 3, 3)


def test_filters_that_a_reshape_puts_at_several_positions_are_one_channel():
    def build():
        inputs = keras.Input((4, 2))
        hidden = layers.Conv1D(3 * 5, 2, padding="same", activation="tanh")(inputs)
        hidden = layers.Reshape((4 * 3, 5))(hidden)
        return keras.Model(inputs, layers.Conv1D(2, 3)(hidden))

    check_planted_copies(build, lambda model: model.layers[-1].name)


def spread(behind, activation="relu"):
    inputs = keras.Input((5,))
    hidden = layers.Dense(3 * 4, activation, name="producer")(inputs)
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(behind(hidden))))


def convolved(hidden):
    return layers.Conv1D(3, 2)(layers.Reshape((3, 4))(hidden))


@pytest.mark.parametrize(
    ("kernels", "biases", "removed"),
    [
        ([0, 0, 0], [2.0, 3.0, 2.0], 0),  # constant, but another constant at each position
        ([0, 0, 0], [2.0, 2.0, 2.0], 0),
        ([0, 0, 0], [-1.0, 0.0, -2.0], 1),  # 0 behind the activation, everywhere
        ([0, 0, 1], [-1.0, -1.0, -1.0], 0),
    ],
)
def test_a_channel_is_constant_only_if_it_is_at_all_positions(kernels, biases, removed):
    model = built(lambda: spread(convolved))
    kernel, bias = model.get_layer("producer").get_weights()
    kernel[:, 1::4] *= kernels
    bias[1::4] = biases
    model.get_layer("producer").set_weights([kernel, bias])
    plan = dfprune.plan(model, tolerance=0, layers=["producer"])
    assert len(plan.groups[0].removed) == removed
    check_equal_outputs(plan.apply(model), model)


@pytest.mark.parametrize(("equal_positions", "removed"), [(2, 0), (3, 1)])
def test_a_channel_is_a_copy_only_if_it_is_at_all_positions(equal_positions, removed):
    model = built(lambda: spread(convolved))
    kernel, bias = model.get_layer("producer").get_weights()
    for position in range(equal_positions):
        kernel[:, 4 * position + 3] = 2 * kernel[:, 4 * position]
        bias[4 * position + 3] = 2 * bias[4 * position]
    model.get_layer("producer").set_weights([kernel, bias])
    plan = dfprune.plan(model, tolerance=0, layers=["producer"])
    assert len(plan.groups[0].removed) == removed
    check_equal_outputs(plan.apply(model), model)


def summed_before(hidden):
    other = layers.Dense(12, name="other")(hidden)
    return convolved(layers.Add()([other, layers.Dense(12)(hidden)]))


@pytest.mark.parametrize(
    ("layer", "behind", "reason"),
    [
        ("other", summed_before, "of units that were joined or rearranged before"),
        (
            "producer",
            lambda x: layers.Concatenate()([layers.Flatten()(convolved(x)), x]),
            "a Reshape spreads its units over positions, but not on the way to dense",
        ),
        (
            "producer",
            lambda x: layers.Conv2D(3, 2)(layers.Reshape((3, 4, 1))(x)),
            "a Reshape makes one channel of its units",
        ),
    ],
)
def test_units_that_stay_whole_around_a_reshape(layer, behind, reason):
    layout = locate(read_graph(spread(behind)))
    reasons = {refusal.layer: refusal.reason for refusal in layout.refusals}
    assert layer not in layout.groups and reason in reasons[layer]


def test_rows_of_data_are_measured_at_every_position():
    model = built(generator)
    rows = np.random.default_rng(0).normal(size=(64, 7)).astype("float32")
    random_graphs.plant_copies(model)
    plan = dfprune.plan(model, data=rows, sparsity=0.5)
    assert plan.groups[0].units == 6 and len(plan.groups[0].removed) == 3
    plan.apply(model)
