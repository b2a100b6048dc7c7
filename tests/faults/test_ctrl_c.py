"""Ctrl-C at random moments: the model stays as it was, and the work can be done again.

Python raises KeyboardInterrupt between two lines of the main thread. Here it is raised at a random
line of the package.
"""

import contextlib
import os
import pathlib
import sys
import warnings

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from tests.support.models import call_history, dense_chain, operations_of

PACKAGE = str(pathlib.Path(dfprune.__file__).parent)
MOMENTS = 2
X = np.random.default_rng(0).normal(size=(16, 6)).astype("float32")


@contextlib.contextmanager
def traced(at=None):
    """Count the lines of the package that run, and raise KeyboardInterrupt at one of them."""
    lines = [0]

    def trace(frame, event, argument):
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event == "line":
            lines[0] += 1
            if lines[0] == at:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield lines
    finally:
        sys.settrace(before)


def compiled():
    model = dense_chain([8, 6, 3])
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(X, np.ones((16, 3)), verbose=0)
    return model


def state_of(model):
    """Return all that a caller can see of a model, and of the process."""
    arrays = [*model.get_weights(), *(v.numpy() for v in model.optimizer.variables)]
    arrays += [v.numpy() for v in model.metrics_variables]
    attributes = [sorted(vars(layer)) for layer in operations_of(model)]
    process = [list(warnings.filters), len(os.listdir("/proc/self/fd")), sys.stdout, sys.stderr]
    return (
        [array.tobytes() for array in arrays],
        model.predict_on_batch(X).tobytes(),
        call_history(operations_of(model)),
        attributes,
        process,
    )


def apply(model, folder):
    return dfprune.apply(model, sparsity=0.5, refine_steps=2)


def search(model, folder):
    return dfprune.search(
        model, lambda narrow: 1.0, max_drop=0.1, steps=2, checkpoint=folder / "search.json"
    )


def export(model, folder):
    return dfprune.export(model, folder / "model.keras")


@pytest.mark.parametrize("work", [apply, search, export])
def test_the_model_is_as_it_was(work, tmp_path):
    model = compiled()
    folder = tmp_path / "folder"
    folder.mkdir()
    work(model, folder)  # so that what is made once is there
    for file in folder.iterdir():
        file.unlink()
    before = state_of(model)
    with traced() as lines:
        work(model, folder)
    moments = np.random.default_rng(0).integers(1, lines[0], MOMENTS)
    interrupted = 0
    for moment in moments:
        try:
            with warnings.catch_warnings(), traced(at=moment):
                warnings.simplefilter("ignore")
                work(model, folder)
        except KeyboardInterrupt:
            interrupted += 1
        assert state_of(model) == before
        assert all(not path.name.startswith(".") for path in folder.iterdir())
    assert interrupted or work is search  # which returns the best so far
    work(model, folder)


def test_the_training_is_kept_if_the_callback_is_interrupted():
    model, prune = compiled(), dfprune.PostTrainPrune(sparsity=0.5, method="saliency")

    def fit():
        model.fit(X, np.ones((16, 3)), verbose=0, callbacks=[prune])

    fit()
    with traced() as lines:
        fit()
    for moment in np.random.default_rng(1).integers(1, lines[0], MOMENTS):
        steps, history = int(model.optimizer.iterations), call_history(operations_of(model))
        with pytest.raises(KeyboardInterrupt), traced(at=moment):
            fit()
        assert int(model.optimizer.iterations) - steps in (0, 1)  # before or after the training
        assert call_history(operations_of(model)) == history
    fit()
    assert prune.error is None
    narrow = keras.models.clone_model(prune.pruned_model)
    assert narrow.count_params() < model.count_params()
