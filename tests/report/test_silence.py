"""Warnings of Keras while a model is pruned, and on the user's own calls."""

import warnings

import keras
import numpy as np

import keras_dfprune as dfprune

layers = keras.layers


def mask_warnings(function):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        function()
    return sum("does not support masking" in str(warning.message) for warning in seen)


def masked_model():
    """Build a model in which a layer destroys the mask, which Keras warns of."""
    inputs = keras.Input((5,), dtype="int32")
    hidden = layers.Embedding(9, 6, mask_zero=True)(inputs)
    hidden = layers.Dense(8, "relu")(layers.Flatten()(hidden))
    return keras.Model(inputs, layers.Dense(2)(hidden))


def test_keras_warns_on_the_user_s_own_calls_only(tmp_path):
    model = masked_model()
    x = np.zeros((2, 5), "int32")
    assert mask_warnings(lambda: model(x)) == 1
    assert mask_warnings(lambda: dfprune.apply(model, sparsity=0.5)) == 0
    assert mask_warnings(lambda: dfprune.plan(model, sparsity=0.5).apply(model)) == 0
    assert mask_warnings(lambda: dfprune.export(model, tmp_path / "m")) == 0
    pruned = dfprune.apply(model, sparsity=0.5)
    assert mask_warnings(lambda: dfprune.distill(pruned, model, steps=2)) == 0
    assert mask_warnings(lambda: pruned(x)) == 1
