"""Digests tell models apart by weights, settings and wiring, not by names that Keras makes up."""

import json

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from keras_dfprune.graph.fingerprint import find_digest_mismatch, layer_digests, weights_digest
from keras_dfprune.graph.read_graph import read_graph
from tests.support.models import dense_chain, inputs_of, outputs

layers = keras.layers


def branched(activation="relu", slope=0.1, swapped=False, factor=2.0, leaky_behind=False):
    """Two branches of equal shapes; the weights don't depend on the arguments."""
    keras.utils.set_random_seed(5)
    inputs = keras.Input((6,))
    one = layers.Dense(8, activation, name="one")(inputs)
    two = layers.Dense(8, name="two")(inputs) * factor
    leaky = layers.LeakyReLU(slope)
    one, two = (leaky(one), two) if leaky_behind else (one, leaky(two))
    both = layers.Concatenate()([two, one] if swapped else [one, two])
    return keras.Model(inputs, layers.Dense(3, name="head")(layers.Dropout(0.2)(both)))


@pytest.mark.parametrize(
    ("changes", "layer"),
    [
        ({"activation": "tanh"}, "one"),
        ({"slope": 0.3}, "head"),
        ({"swapped": True}, "head"),
        ({"factor": 3.0}, "head"),
        ({"leaky_behind": True}, "head"),
    ],
)
def test_equal_weights_in_another_model(changes, layer):
    """The plan's merges would be wrong there, and the weights alone don't show it."""
    plan = dfprune.plan(branched(), sparsity=0.5)
    message = f"made for another model.*layer {layer}, or one before it, is set or connected diff"
    with pytest.raises(ValueError, match=message):
        plan.apply(branched(**changes))


def test_the_same_model_from_code_and_from_a_file(tmp_path):
    model = branched()
    plan = dfprune.plan(model, sparsity=0.5, method="saliency")
    plan.save(tmp_path / "plan.npz")
    plan = dfprune.PruningPlan.load(tmp_path / "plan.npz")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    loaded.get_layer("one").trainable = False
    x = inputs_of(model)
    for same in (branched(), loaded):  # layers without a name are numbered anew
        np.testing.assert_array_equal(outputs(plan.apply(same), x), outputs(plan.apply(model), x))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([4, 2], "it has no layer fc3"),
        ([4, 3, 3, 2], "it has further layers fc4"),
        ([4, 5, 2], r"the weights of layer fc2 have shapes \[\[4, 5\], \[5\]\] instead of"),
        ([4, 3, 2], "the weights of layer fc1, fc2, fc3 differ"),
    ],
)
def test_mismatches(sizes, message):
    expected = layer_digests(read_graph(dense_chain([4, 3, 2], seed=0)))
    assert find_digest_mismatch(expected, expected) is None
    received = layer_digests(read_graph(dense_chain(sizes, seed=1)))
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(find_digest_mismatch(expected, received))


def test_settings_that_json_can_t_hold():
    class NoConfig(layers.Layer):
        def __init__(self, function):
            super().__init__()
            self.function = function

        def call(self, x):
            return self.function(x)

    odd = [NoConfig(keras.ops.sin), layers.Lambda(lambda x: x)]
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(5, keras.ops.abs), *odd, layers.Dense(2)]
    )
    digests = layer_digests(read_graph(model))
    assert json.loads(json.dumps(digests)) == digests
    assert find_digest_mismatch(digests, layer_digests(read_graph(model))) is None


def test_one_digest_of_all_weights():
    model = dense_chain([4, 2])
    before = weights_digest(model)
    assert weights_digest(model) == before
    model.get_layer("fc2").bias.assign_add([0.0, 1e-6])
    assert weights_digest(model) != before
