"""Refuse operations that touch the batch or the units, and follow units to other axes."""

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from tests.support.random_graphs import plant_copies, randomize

layers, ops = keras.layers, keras.ops


def behind(function, units=4):
    """Build a Dense layer on images, then a function, then a Dense layer."""
    inputs = keras.Input((2, 3, 5))
    hidden = layers.Dense(units, "relu", name="first")(inputs)
    return keras.Model(inputs, layers.Flatten()(layers.Dense(2)(function(hidden))))


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x: ops.mean(x, axis=(1, -1)), "works over the units' axis"),
        (lambda x: x - ops.sum(x, axis=-1, keepdims=True), "works over the units' axis"),
        (lambda x: ops.max(x, axis=1, initial=0.5), "compares with an initial value"),
        (lambda x: ops.squeeze(ops.mean(x, axis=1, keepdims=True)), "give `axis`"),
        (lambda x: layers.Permute((3, 2, 1))(x), "works along another axis"),
        (lambda x: ops.split(x, 2, axis=-1)[0], "splits the units"),
        (lambda x: ops.reshape(x, (-1, 3, 4)), "moves rows of the batch"),
        (lambda x: ops.pad(x, ((0, 0), (0, 0), (0, 0), (1, 0))), "pads the units' axis"),
        (
            lambda x: ops.pad(x, ((0, 0), (1, 0), (0, 0), (0, 0)), constant_values=1.0),
            "pads with something other than zeros",
        ),
    ],
)
def test_what_cannot_pass_says_why(function, reason):
    plan = dfprune.plan(behind(function), tolerance=0)
    assert reason in {refusal.layer: refusal.reason for refusal in plan.refusals}["first"]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: ops.transpose(ops.expand_dims(x, (1, -1)), (0, 2, 3, 5, 1, 4)),
        lambda x: layers.Permute((2, 3, 1))(layers.Permute((3, 1, 2))(x)),
        lambda x: ops.max(layers.Permute((3, 1, 2))(x), axis=(2, -1)),
        lambda x: ops.sum(ops.tanh(ops.sum(ops.transpose(x, (0, 3, 2, 1)), axis=-1)), axis=2),
        lambda x: ops.reshape(ops.pad(x, ((0, 0), (1, 0), (0, 1), (0, 0))), (-1, 48)),
        lambda x: ops.subtract(*(ops.relu(part) for part in ops.split(x, [1], axis=1))),
        lambda x: layers.GlobalAveragePooling1D()(ops.squeeze(x[:, :1], axis=-3)),
    ],
)
def test_units_are_followed_to_other_axes(function):
    model = behind(function)
    randomize(model, np.random.default_rng(0))
    plant_copies(model)
    pruned = dfprune.apply(model, tolerance=0)
    assert pruned.get_layer("first").units == 3
    samples = np.random.default_rng(1).normal(size=(4, 2, 3, 5))
    received, expected = (np.asarray(each(samples)) for each in (pruned, model))
    assert np.abs(received - expected).max() <= 1e-5 * np.abs(expected).max()


def test_a_constant_unit_counts_once_for_each_position_of_a_sum():
    model = behind(lambda x: ops.sum(x, axis=(1, 2)))
    randomize(model, np.random.default_rng(0))
    kernel, bias = model.get_layer("first").get_weights()
    kernel[:, 1], bias[1] = 0.0, 2.0
    model.get_layer("first").set_weights([kernel, bias])
    pruned = dfprune.apply(model, tolerance=0)
    assert pruned.get_layer("first").units == 3
    samples = np.random.default_rng(1).normal(size=(4, 2, 3, 5))
    np.testing.assert_allclose(pruned(samples), model(samples), rtol=1e-4)
