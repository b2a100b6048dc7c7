"""What tells two models apart: weights, settings and wiring, but no names that Keras makes up."""

import concurrent.futures.thread
import json

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from keras_dfprune.graph import fingerprint
from keras_dfprune.graph.fingerprint import difference, layer_digests, weights_digest
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
    """The merges would be wrong there, and nothing else would tell."""
    plan = dfprune.plan(branched(), sparsity=0.5)
    message = f"made for another model.*layer {layer}, or one before it, is set or connected diff"
    with pytest.raises(ValueError, match=message):
        plan.apply(branched(**changes))


def test_the_same_model_from_code_and_from_a_file(tmp_path):
    model = branched()
    plan = dfprune.plan(model, sparsity=0.5)
    plan.save(tmp_path / "plan.npz")
    plan = dfprune.PruningPlan.load(tmp_path / "plan.npz")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    loaded.get_layer("one").trainable = False
    x = inputs_of(model)
    for same in (branched(), loaded):  # layers without a name are numbered anew
        np.testing.assert_array_equal(outputs(plan.apply(same), x), outputs(plan.apply(model), x))


def test_settings_that_json_can_t_hold():
    class Silent(layers.Layer):
        def __init__(self, function):
            super().__init__()
            self.function = function

        def call(self, x):
            return self.function(x)

    odd = [Silent(keras.ops.sin), layers.Lambda(lambda x: x)]
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(5, keras.ops.abs), *odd, layers.Dense(2)]
    )
    digests = layer_digests(read_graph(model))
    assert json.loads(json.dumps(digests)) == digests
    assert difference(digests, layer_digests(read_graph(model))) is None


def test_one_digest_of_all_weights():
    model = dense_chain([4, 2])
    before = weights_digest(model)
    assert weights_digest(model) == before
    model.get_layer("fc2").bias.assign_add([0.0, 1e-6])
    assert weights_digest(model) != before


def test_a_training_that_outlives_the_main_thread_can_still_be_planned_for(monkeypatch):
    monkeypatch.setattr(concurrent.futures.thread, "_shutdown", True)  # set when that ends
    assert layer_digests(read_graph(branched()))


def test_what_goes_wrong_beside_the_search_is_raised(monkeypatch):
    def broken(variable):
        raise OSError(f"{variable.name} is gone")

    monkeypatch.setattr(fingerprint, "_digest", broken)
    with pytest.raises(OSError, match="kernel is gone"):
        dfprune.plan(branched(), sparsity=0.5)
