"""Pruning again and again leaves the user's model as it was, and nothing behind."""

import gc
import weakref

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from keras_dfprune.methods.saliency import saliency
from keras_dfprune.methods.saliency.neighbours import Neighbours
from tests.support.models import dense_chain

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
    """Layers that can't be re-made, so that both models share what is in them."""
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


def operations_of(model):
    """Every operation of a model and of the models in it, and the models themselves."""
    found = [model]
    inner = model.layers if isinstance(model, keras.Sequential) else model.operations
    for operation in inner:
        found += operations_of(operation) if isinstance(operation, keras.Model) else [operation]
    return found


def history(model):
    """How often each operation has been called, and what was done with its outputs."""
    return [
        (operation.name, len(operation._inbound_nodes), len(operation._outbound_nodes))
        for operation in operations_of(model)
    ]


@pytest.mark.parametrize("build", [functional, sequential, reused, compiled])
@pytest.mark.parametrize("method", ["saliency", "moments"])
def test_model_keeps_its_history_and_results_die(build, method):
    keras.utils.set_random_seed(0)
    model = build()
    before = history(model)
    results = []
    for _ in range(TIMES):
        pruned = dfprune.apply(model, method=method, sparsity=0.5)
        results += [weakref.ref(pruned), weakref.ref(pruned.layers[-1])]
    del pruned
    gc.collect()
    assert history(model) == before
    assert sum(result() is not None for result in results) == 0


def test_original_dies_while_the_result_lives():
    model = functional()
    pruned = dfprune.apply(model, sparsity=0.5)
    reference = weakref.ref(model)
    del model
    gc.collect()
    assert reference() is None
    assert pruned(np.ones((2, 6))).shape == (2, 2)


def test_weight_sets_and_lists_die_before_the_next_layer(monkeypatch):
    """Sharing a budget out needs the curves of all layers at once."""
    made = []

    class Watched(Neighbours):
        def __init__(self, *rest):
            assert sum(reference() is not None for reference in made) == 0
            super().__init__(*rest)
            made.append(weakref.ref(self))

    monkeypatch.setattr(saliency, "Neighbours", Watched)
    model = dense_chain((9, 8, 7, 3))
    gc.disable()  # they must go by themselves
    try:
        dfprune.plan(model, max_params=model.count_params() // 2)
        assert len(made) == 6
    finally:
        gc.enable()


@pytest.mark.parametrize("layers", [None, ["fc2"]])
def test_a_curve_dies_before_the_next_layer(layers):
    made = []

    class Whole(dfprune.Method):
        predicts_error = True  # so that it sees groups that stay whole, too

        def curve(self, group, context):
            assert sum(reference() is not None for reference in made) == 0
            curve = dfprune.Saliency().curve(group, context)
            made.append(weakref.ref(curve))
            return curve

    model = dense_chain((9, 8, 7, 3))
    dfprune.plan(model, method=Whole(), sparsity=0.5, layers=layers)
    assert len(made) == 3
