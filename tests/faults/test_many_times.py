"""Twenty trainings with the callback and fifty cuts in one process: nothing grows."""

import gc
import os
import pathlib
import threading

import keras
import numpy as np

import keras_dfprune as dfprune
from tests.support.models import call_history, dense_chain, operations_of

X = np.random.default_rng(0).normal(size=(16, 6)).astype("float32")


def memory():
    """Return the resident memory of this process in MB."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def native_threads():
    return len(os.listdir("/proc/self/task"))


def objects():
    """Count the Keras objects that are alive."""
    gc.collect()
    kinds = (keras.Operation, keras.Variable, keras.KerasTensor)
    return sum(isinstance(item, kinds) for item in gc.get_objects())


def grows_by(action, times, warm_up):
    """Return by how much objects, memory, threads and open files grow."""
    for _ in range(warm_up):
        action()

    def state():
        return [objects(), native_threads(), threading.active_count(),
                len(os.listdir("/proc/self/fd"))]  # fmt: skip

    before, used = state(), memory()
    for _ in range(times):
        action()
    return [now - then for now, then in zip(state(), before, strict=True)], memory() - used


def test_fifty_cuts():
    model = dense_chain([8, 3])
    model.compile("adam", "mse")
    model.fit(X, np.ones((16, 3)), verbose=0)
    before = call_history(operations_of(model))
    plan = dfprune.plan(model, sparsity=0.5)
    grown, used = grows_by(lambda: plan.apply(model), times=50, warm_up=3)
    assert grown == [0, 0, 0, 0]
    assert used < 20
    assert call_history(operations_of(model)) == before


def test_twenty_trainings():
    model = dense_chain([8, 3])
    model.compile("adam", "mse")

    def fit():
        prune = dfprune.PostTrainPrune(sparsity=0.5, method="saliency")
        model.fit(X, np.ones((16, 3)), verbose=0, callbacks=[prune])
        assert prune.error is None and prune.pruned_model is not None

    before = call_history(operations_of(model))
    grown, used = grows_by(fit, times=20, warm_up=3)
    assert grown == [0, 0, 0, 0]
    assert used < 40
    assert call_history(operations_of(model)) == before
