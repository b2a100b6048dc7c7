"""Rounds of pruning and training, and the callback that searches for the size."""

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from tests.support.models import dense_chain

X = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")


def compiled(seed=0):
    model = dense_chain([40, 30, 3], seed=seed)
    model.compile("adam", "mse")
    return model


Y = compiled().predict(X, verbose=0)


def fit(model):
    model.fit(X, Y, verbose=0, shuffle=False)


def test_each_round_keeps_the_same_fraction_and_the_optimizer_goes_on(capsys):
    model, sizes = compiled(), []

    def train(narrow):
        before = int(narrow.optimizer.iterations)
        fit(narrow)
        sizes.append((narrow.count_params(), before))

    fit(model)
    narrow = dfprune.prune_and_train(
        model, train, steps=3, final=0.2, evaluate=lambda m: m.count_params(), verbose=1
    )
    whole = model.count_params()
    for number, (size, _) in enumerate(sizes, 1):
        assert 0.9 * whole * 0.2 ** (number / 3) <= size <= whole * 0.2 ** (number / 3)
    assert [before for _, before in sizes] == [2, 4, 6]
    assert narrow.count_params() == sizes[-1][0]
    assert capsys.readouterr().out.count("round ") == 3


def test_it_goes_on_behind_the_last_finished_round(tmp_path):
    calls = []

    def train(model):
        calls.append(model.count_params())
        if len(calls) == 2:
            raise KeyboardInterrupt
        fit(model)

    arguments = {"steps": 3, "final": 0.3, "checkpoint": tmp_path / "rounds"}
    with pytest.raises(KeyboardInterrupt):
        dfprune.prune_and_train(compiled(), train, **arguments)
    narrow = dfprune.prune_and_train(compiled(), train, **arguments)
    assert len(calls) == 4 and calls[1] == calls[2]
    expected = dfprune.prune_and_train(compiled(), fit, steps=3, final=0.3)
    np.testing.assert_allclose(narrow.predict(X, verbose=0), expected.predict(X, verbose=0), 1e-4)
    with pytest.raises(ValueError, match="is of another run: final is 0.3 there and 0.2 here"):
        dfprune.prune_and_train(compiled(), train, **{**arguments, "final": 0.2})
    with pytest.raises(ValueError, match="is of another run: the model's weights are others"):
        dfprune.prune_and_train(compiled(seed=1), train, **arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"train": 3}, TypeError, "`train` must be a function"),
        ({"steps": 0}, ValueError, "`steps` must be an integer"),
        ({"final": 1.0}, ValueError, "`final` must be the fraction"),
        ({"final": 1e-6}, ValueError, "can't be reached"),
        ({"final": 0.15, "layers": ["fc2"]}, ValueError, "`final=0.15` can't be reached"),
        ({"sparsity": 0.5}, TypeError, "finds the budget itself"),
        ({"colour": 1}, TypeError, "Unknown argument 'colour'"),
    ],
)
def test_bad_arguments(arguments, error, words):
    with pytest.raises(error, match=words):
        dfprune.prune_and_train(compiled(), **{"train": fit, "final": 0.5, **arguments})


def test_the_callback_searches_for_the_size():
    labels = np.argmax(Y, axis=1)
    model = dense_chain([40, 30, 3])
    model.compile(
        "sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
    )
    callback = dfprune.PostTrainPrune(
        max_drop=0.3, validation_data=(X, labels), data=X, strict=True
    )
    model.fit(X, labels, verbose=0, callbacks=[callback])
    scores = {name: values["accuracy"] for name, values in callback.scores.items()}
    assert callback.pruned_model.count_params() < model.count_params()
    assert scores["pruned"] >= scores["trained"] - 0.3 - 1e-6
    for arguments in ({"max_drop": 0.1}, {"max_drop": -1, "validation_data": (X, labels)}):
        with pytest.raises(ValueError, match="`max_drop`"):
            dfprune.PostTrainPrune(**arguments)
    with pytest.raises(TypeError, match="finds the budget itself"):
        dfprune.PostTrainPrune(max_drop=0.1, validation_data=(X, labels), sparsity=0.5)
