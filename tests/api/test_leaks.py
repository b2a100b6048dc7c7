"""Pruning a model many times doesn't change it and keeps no memory."""

import gc
import weakref

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from keras_dfprune.methods.saliency import saliency
from keras_dfprune.methods.saliency.neighbours import Neighbours
from tests.support.models import call_history, dense_chain, operations_of

layers = keras.layers
TIMES = 20


class WithoutConfig(layers.Layer):
    def call(self, inputs):
        return 2 * inputs

    def get_config(self):
        raise NotImplementedError


def functional():
    inputs = keras.Input((6,))
    shared = layers.Dense(7, "relu")
    nested = keras.Sequential([keras.Input((7,)), layers.Dense(6, "tanh"), layers.Dropout(0.1)])
    hidden = layers.Concatenate()([nested(shared(inputs)), keras.ops.relu(shared(inputs))])
    return keras.Model(inputs, layers.Dense(2)(layers.BatchNormalization()(hidden)))


def sequential():
    return keras.Sequential([keras.Input((6,)), layers.Dense(7, "relu"), layers.Dense(2)])


def reused():
    """Build a model with layers that can't be re-created, so that both models share them."""
    lookup = layers.StringLookup(vocabulary=["a", "b"])
    inputs = keras.Input((2,), dtype="string")
    hidden = layers.Flatten()(layers.Embedding(4, 3)(lookup(inputs)))
    hidden = WithoutConfig()(layers.Lambda(lambda x: x + 1, output_shape=(6,))(hidden))
    return keras.Model(inputs, layers.Dense(2)(layers.Dense(7, "relu")(hidden)))


def compiled():
    model = sequential()
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(np.ones((4, 6)), np.ones((4, 2)), verbose=0)
    return model


def count_alive(references):
    return sum(reference() is not None for reference in references)


@pytest.mark.parametrize("build", [functional, sequential, reused, compiled])
@pytest.mark.parametrize("method", ["saliency", "moments"])
def test_the_call_history_stays_and_results_are_freed(build, method):
    keras.utils.set_random_seed(0)
    model = build()
    before = call_history(operations_of(model))
    results = []
    for _ in range(TIMES):
        pruned = dfprune.apply(model, method=method, sparsity=0.5)
        results += [weakref.ref(pruned), weakref.ref(pruned.layers[-1])]
    del pruned
    gc.collect()
    assert call_history(operations_of(model)) == before
    assert len(results) == 2 * TIMES and count_alive(results) == 0


def test_the_original_is_freed_while_the_result_is_in_use():
    model = functional()
    pruned = dfprune.apply(model, sparsity=0.5)
    reference = weakref.ref(model)
    del model
    gc.collect()
    assert reference() is None
    assert pruned(np.ones((2, 6))).shape == (2, 2)


def test_neighbours_are_freed_before_the_next_layer(monkeypatch):
    """A budget needs the curves of all layers at once, but not their lists of neighbours."""
    made = []

    class Watched(Neighbours):
        def __init__(self, *rest):
            assert count_alive(made) == 0
            super().__init__(*rest)
            made.append(weakref.ref(self))

    monkeypatch.setattr(saliency, "Neighbours", Watched)
    model = dense_chain((9, 8, 7, 3))
    gc.disable()  # they must be freed without it
    try:
        dfprune.plan(model, method="saliency", max_params=0.5)
        assert len(made) == 3
    finally:
        gc.enable()


@pytest.mark.parametrize("layers", [None, ["fc2"]])
def test_a_curve_is_freed_before_the_next_layer(layers):
    made = []

    class Whole(dfprune.Method):
        predicts_error = True  # so that it scores groups that stay whole too

        def curve(self, group, context):
            assert count_alive(made) == 0
            curve = dfprune.Saliency().curve(group, context)
            made.append(weakref.ref(curve))
            return curve

    model = dense_chain((9, 8, 7, 3))
    dfprune.plan(model, method=Whole(), sparsity=0.5, layers=layers)
    assert len(made) == 3
