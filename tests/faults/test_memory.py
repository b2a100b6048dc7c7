"""Memory that runs out while planning: a clear error, and the model as it was."""

import numpy as np
import pytest
import tensorflow as tf

import keras_dfprune as dfprune
from keras_dfprune.planning import cutting
from tests.support.models import call_history, dense_chain, operations_of

X = np.random.default_rng(0).normal(size=(16, 6)).astype("float32")


def of_numpy():
    return MemoryError("Unable to allocate 7.45 TiB")


def of_tensorflow():
    return tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")


@pytest.mark.parametrize("error", [of_numpy, of_tensorflow])
@pytest.mark.parametrize("method", ["moments", "saliency"])
@pytest.mark.parametrize("work", ["apply", "plan", "search"])
def test_the_error_is_clear_and_the_model_as_it_was(work, method, error, monkeypatch):
    model = dense_chain([8, 6, 3])
    weights, history = model.get_weights(), call_history(operations_of(model))

    def fail(*_, **__):
        raise error()

    monkeypatch.setattr(cutting.Cutter, "_start_pass", fail)
    arguments = {"sparsity": 0.5}
    if work == "search":
        arguments = {"evaluate": lambda narrow: 1.0, "max_drop": 0.0}
    with pytest.raises(MemoryError, match="memory"):
        getattr(dfprune, work)(model, method=method, **arguments)
    for before, now in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, now)
    assert call_history(operations_of(model)) == history
    monkeypatch.undo()
    dfprune.apply(model, method=method, sparsity=0.5)
