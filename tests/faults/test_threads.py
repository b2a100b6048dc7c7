"""Threads that prune at the same time, other models or one and the same."""

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from tests.support.models import call_history, operations_of

layers = keras.layers
THREADS = 4


class Doubled(layers.Layer):
    """Layer without a rule, which is called symbolically to see what is inside."""

    def __init__(self, **rest):
        super().__init__(**rest)
        self.inner = layers.Dense(6, "relu")

    def build(self, shape):
        self.inner.build(shape)

    def call(self, inputs, training=None):
        return 2 * self.inner(inputs)


def build(seed=0):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((6,))
    hidden = layers.Dropout(0.1)(layers.Dense(12, "relu")(inputs))
    hidden = layers.Dense(5)(Doubled()(layers.Lambda(lambda x: x + 1)(hidden)))
    return keras.Model(inputs, hidden)


def prune(model):
    pruned = dfprune.apply(model, max_params=0.7)
    return [weight.copy() for weight in pruned.get_weights()]


@pytest.mark.parametrize("same", [True, False], ids=["one model", "several models"])
def test_the_results_are_those_of_one_thread(same):
    seeds = [0] * THREADS if same else range(THREADS)
    made = {seed: build(seed) for seed in seeds}
    expected = {seed: prune(model) for seed, model in made.items()}
    before = [call_history(operations_of(model)) for model in made.values()]
    settings = [list(vars(layer)) for model in made.values() for layer in operations_of(model)]
    filters, alive = list(warnings.filters), set(threading.enumerate())
    with ThreadPoolExecutor(THREADS) as pool:
        results = list(pool.map(lambda seed: prune(made[seed]), seeds))
    for seed, weights in zip(seeds, results, strict=True):
        for one, other in zip(weights, expected[seed], strict=True):
            np.testing.assert_array_equal(one, other)
    assert [call_history(operations_of(model)) for model in made.values()] == before
    after = [list(vars(layer)) for model in made.values() for layer in operations_of(model)]
    assert after == settings
    assert warnings.filters == filters
    assert set(threading.enumerate()) == alive


def test_two_threads_change_a_layer_one_after_the_other():
    from keras_dfprune.graph.keras_private import replaced

    layer, both = layers.Dense(3), threading.Barrier(2, timeout=5)

    def replace(value):
        both.wait()
        with replaced(layer, marker=value):
            for _ in range(1000):
                assert vars(layer)["marker"] == value

    vars(layer)["marker"] = "own"
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(replace, "ab"))
    assert layer.marker == "own"
