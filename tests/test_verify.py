"""The wide twin: it catches what is wrong, and says when it can't tell."""

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from keras_dfprune import states
from keras_dfprune.merge import SurvivorMerge
from tests.models import dense_chain

layers = keras.layers


def test_a_wrong_surgery_is_caught(monkeypatch):
    model = dense_chain([10, 8, 3])
    original = SurvivorMerge.taken_over
    monkeypatch.setattr(SurvivorMerge, "taken_over", lambda self, k: 2 * original(self, k))
    with pytest.raises(dfprune.VerificationError, match="of the largest output from the original"):
        dfprune.apply(model, sparsity=0.5)
    dfprune.apply(model, sparsity=0.5, verify=False)
    plan = dfprune.plan(model, sparsity=0.5, verify=False)
    plan.apply(model)
    with pytest.raises(dfprune.VerificationError):
        plan.apply(model, verify=True)


def test_a_forgotten_offset_is_caught(monkeypatch):
    monkeypatch.setattr(states, "_place", lambda *args: None)
    with pytest.raises(dfprune.VerificationError):
        dfprune.apply(dense_chain([10, 3], "sigmoid"), sparsity=0.5, method="moments")


@keras.saving.register_keras_serializable("tests")
class Forgetful(layers.Layer):
    """Its config leaves the factor out."""

    def __init__(self, factor=1.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x):
        return self.factor * x

    def get_config(self):
        return {"name": self.name}


def test_a_layer_with_an_incomplete_config_is_caught():
    model = keras.Sequential(
        [keras.Input((4,)), Forgetful(3.0), layers.Dense(6, "relu"), layers.Dense(2)]
    )
    with pytest.raises(dfprune.VerificationError, match="plain copy.*`get_config"):
        dfprune.apply(model, sparsity=0.5)


def test_a_random_model_can_t_be_verified():
    inputs = keras.Input((4,))
    noisy = layers.Lambda(lambda x: x + keras.random.normal(keras.ops.shape(x)))(inputs)
    hidden = layers.Dense(6, "relu")(noisy)
    model = keras.Model(inputs, layers.Dense(2)(hidden))
    with pytest.warns(UserWarning, match="answers differently each time") as seen:
        dfprune.apply(model, sparsity=0.5)
    assert len(seen) == 1


def test_unknown_lengths_are_tried():
    inputs = keras.Input((None, None, 2))
    hidden = layers.Conv2D(5, 5, activation="relu")(inputs)
    hidden = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 5, activation="relu")(hidden))
    model = keras.Model(inputs, layers.Dense(2)(hidden))
    assert dfprune.apply(model, sparsity=0.5).count_params() < model.count_params()


def test_outputs_that_are_not_finite_are_compared_where_they_are():
    model = dense_chain([8, 3])
    bias = model.get_layer("fc2").bias
    bias.assign(np.array([np.inf, 0.0, 0.0]))
    with pytest.warns(UserWarning, match="nothing to prune.*not finite"):
        dfprune.apply(model, sparsity=0.5)
