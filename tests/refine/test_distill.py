"""Distillation without data: gets nearer by its own measure, never further, same with a seed."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dfprune.refine import distill as refinement
from keras_dfprune.refine.distill import refine


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(refinement, "BATCH", 64)
    monkeypatch.setattr(refinement, "HELD_OUT", 512)


def draw(rows, seed):
    return tf.random.stateless_normal((rows, 6), seed)


def models(heads=1, seed=0):
    """A wide and a narrow network on six inputs."""
    keras.utils.set_random_seed(seed)

    def make(units):
        inputs = keras.Input((6,))
        hidden = keras.layers.Dense(units, activation="relu")(inputs)
        outputs = {f"head{k}": keras.layers.Dense(3)(hidden) for k in range(heads)}
        return keras.Model(inputs, outputs)

    return make(16), make(6)


def run(steps, seed=0, **arguments):
    wide, narrow = models(**arguments)
    found = refine(wide, narrow, narrow.trainable_variables, draw, steps=steps, seed=seed)
    return found, wide, narrow


@pytest.mark.parametrize("heads", [1, 2])
def test_it_gets_nearer_to_the_wide_model(heads):
    found, wide, narrow = run(steps=300, heads=heads)
    assert found.after < 0.3 * found.before
    # The objective, recomputed from its definition on the same held-out rows.
    inputs = draw(512, np.array([0, -1]))
    ratios = []
    for name, one in wide(inputs).items():
        other = narrow(inputs)[name]
        change = np.sum(np.mean(np.square(one - other), axis=0))
        ratios.append(change / np.sum(np.var(one, axis=0)))
    assert found.after == pytest.approx(np.mean(ratios), rel=1e-4)


def test_one_seed_gives_the_same_weights_and_another_others():
    first, again, other = (run(steps=20, seed=seed)[2].get_weights() for seed in (3, 3, 4))
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    # Other draws, not only another held-out part: that alone moves the weights by 1e-6.
    assert max(np.max(np.abs(one - two)) for one, two in zip(first, other, strict=True)) > 1e-3


def test_it_keeps_its_start_when_nothing_better_is_found(monkeypatch):
    monkeypatch.setattr(refinement, "LEARNING_RATE", 1e3)
    _, narrow = models()
    start = narrow.get_weights()
    found, _, narrow = run(steps=30)
    assert (found.after, found.step) == (found.before, 0)
    for one, two in zip(start, narrow.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_no_steps_change_nothing():
    found, _, narrow = run(steps=0)
    assert found.before == found.after > 0
    for one, two in zip(models()[1].get_weights(), narrow.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_only_the_given_variables_move_and_progress_is_told():
    wide, narrow = models()
    start, told = narrow.get_weights(), []
    refine(
        wide,
        narrow,
        narrow.trainable_variables[2:],
        draw,
        steps=40,
        progress=lambda step, value: told.append((step, value)),
    )
    moved = [np.any(a != b) for a, b in zip(start, narrow.get_weights(), strict=True)]
    assert moved == [False, False, True, True]
    assert [step for step, _ in told] == list(range(2, 41, 2))
    assert all(value > 0 for _, value in told)
