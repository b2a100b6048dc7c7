"""Distillation without data: its objective falls and never rises, and a seed repeats it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dfprune.refine import distill
from keras_dfprune.refine.distill import train_to_follow


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(distill, "BATCH", 64)
    monkeypatch.setattr(distill, "HELD_OUT", 512)


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
    result = train_to_follow(wide, narrow, narrow.trainable_variables, draw, steps=steps, seed=seed)
    return result, wide, narrow


@pytest.mark.parametrize("heads", [1, 2])
def test_the_objective_falls(heads):
    result, wide, narrow = run(steps=300, heads=heads)
    assert result.after < 0.3 * result.before
    # The objective by its definition, on the same held-out rows.
    inputs = draw(512, np.array([0, -1]))
    ratios = []
    for name, wanted in wide(inputs).items():
        change = np.sum(np.mean(np.square(wanted - narrow(inputs)[name]), axis=0))
        ratios.append(change / np.sum(np.var(wanted, axis=0)))
    assert result.after == pytest.approx(np.mean(ratios), rel=1e-4)


def test_a_seed_repeats_the_weights_and_another_seed_changes_them():
    first, again, other = (run(steps=20, seed=seed)[2].get_weights() for seed in (3, 3, 4))
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    # The training draws differ too: other held-out rows alone move the weights by 1e-6.
    assert max(np.max(np.abs(one - two)) for one, two in zip(first, other, strict=True)) > 1e-3


def test_the_start_is_kept_if_all_steps_are_worse(monkeypatch):
    monkeypatch.setattr(distill, "LEARNING_RATE", 1e3)
    _, narrow = models()
    start = narrow.get_weights()
    result, _, narrow = run(steps=30)
    assert (result.after, result.step) == (result.before, 0)
    for one, two in zip(start, narrow.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_no_steps_change_nothing():
    result, _, narrow = run(steps=0)
    assert result.before == result.after > 0
    for one, two in zip(models()[1].get_weights(), narrow.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_only_the_given_variables_move_and_progress_is_reported():
    wide, narrow = models()
    start, reports = narrow.get_weights(), []
    train_to_follow(
        wide,
        narrow,
        narrow.trainable_variables[2:],
        draw,
        steps=40,
        progress=lambda step, value: reports.append((step, value)),
    )
    moved = [np.any(a != b) for a, b in zip(start, narrow.get_weights(), strict=True)]
    assert moved == [False, False, True, True]
    assert [step for step, _ in reports] == list(range(2, 41, 2))
    assert all(value > 0 for _, value in reports)
