"""Units beside zero padding: units that are equal inside an image may differ at its edges."""

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune

layers = keras.layers


def folded_copies(same_shift):
    """Build filters 0 and 1 that are equal once BatchNormalization is folded into them.

    The shifts that it adds behind the padding are equal too only if `same_shift`.
    """
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4, 4, 2))
    hidden = layers.Conv2D(4, 1, name="units")(inputs)
    hidden = layers.ZeroPadding2D(1)(hidden)
    hidden = layers.BatchNormalization(name="norm")(hidden)
    hidden = layers.Activation("relu")(hidden)
    model = keras.Model(inputs, layers.Conv2D(3, 2)(hidden))
    random = np.random.default_rng(0)
    kernel, bias = random.normal(size=(1, 1, 2, 4)), random.normal(size=4)
    kernel[..., 1] = 2 * kernel[..., 0]
    bias[1] = 2 * bias[0] + (0 if same_shift else 1)
    model.get_layer("units").set_weights([kernel, bias])
    gamma, beta = np.ones(4), np.array([0.4, 0.4, -0.2, 0.3])
    gamma[1], beta[1] = 0.5, 0.4 - (0 if same_shift else 0.5)
    spread = np.full(4, 1 - model.get_layer("norm").epsilon)
    model.get_layer("norm").set_weights([gamma, beta, np.zeros(4), spread])
    return model


@pytest.mark.parametrize("same_shift", [True, False])
def test_copies_have_to_agree_where_zeros_were_padded_before_an_addition(same_shift):
    model = folded_copies(same_shift)
    x = np.random.default_rng(1).normal(size=(5, 4, 4, 2)).astype("float32")
    before = np.asarray(model(x))
    plan = dfprune.plan(model, tolerance=0)
    assert [len(group.removed) for group in plan.groups] == [int(same_shift)]
    after = np.asarray(plan.apply(model)(x))
    assert np.abs(after - before).max() <= 1e-5 * np.abs(before).max()
