"""Nothing is held on to: neither the user's layers nor memory grow with each call."""

import gc
import weakref

import keras

import keras_dfprune as dfprune
from tests import zoo


def nodes(model):
    return [
        len(layer._inbound_nodes) + len(layer._outbound_nodes) for layer in model._flatten_layers()
    ]


def test_twenty_calls_leave_nothing_behind():
    model = zoo.EXACT["python Lambda upstream"][0]()
    before = nodes(model)
    results = []
    for call in range(20):
        method = ("saliency", "moments")[call % 2]
        results.append(weakref.ref(dfprune.apply(model, sparsity=0.5, method=method)))
    gc.collect()
    assert nodes(model) == before
    assert not [result for result in results if result() is not None]


def test_a_result_doesn_t_keep_the_original_alive():
    model = zoo.EXACT["nested twice, equal names"][0]()
    pruned = dfprune.apply(model, sparsity=0.5)
    watched = weakref.ref(model)
    del model
    keras.backend.clear_session()
    gc.collect()
    assert watched() is None
    assert pruned.count_params() > 0
