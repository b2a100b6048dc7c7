"""Weighted sums of units moved downhill: the closed form is the expected error, and it falls."""

import keras
import numpy as np
import pytest

from keras_dfprune.methods.moments.centroid_descent import descend, gain_of
from keras_dfprune.methods.moments.unit_moments import Preactivations
from keras_dfprune.rules.activations import describe

NEW, UNITS, OUTPUTS = 4, 12, 5
NAMES = ["relu", "leaky_relu", "gelu", "tanh"]


def a_problem(name, seed=0):
    random = np.random.default_rng(seed)
    factor = random.normal(size=(UNITS, 7))  # of low rank: some directions never vary
    normal = Preactivations(0.5 * random.normal(size=(2, UNITS)), factor @ factor.T)
    shares = np.eye(UNITS)[:NEW] + 0.1 * random.normal(size=(NEW, UNITS))
    activation = describe(getattr(keras.activations, name))
    return normal, activation, shares, random.normal(size=(UNITS, OUTPUTS))


def left_over(normal, activation, shares, level, outgoing):
    """The expected squared change behind the best surgery, from the moments of all units."""
    old = normal.moments(activation)
    new, across = normal.with_sums(activation, shares, level)
    target = (across - np.outer(new.mean, old.mean)) @ outgoing
    best = np.linalg.solve(new.covariance, target)
    return float(np.sum(outgoing * (old.covariance @ outgoing)) - np.sum(target * best))


@pytest.mark.parametrize("name", NAMES)
def test_gain_is_what_the_best_surgery_saves(name):
    normal, activation, shares, outgoing = a_problem(name)
    covariance = normal.moments(activation).covariance
    level = np.linspace(-0.3, 0.3, NEW)
    wanted = np.sum(outgoing * (covariance @ outgoing))
    wanted -= left_over(normal, activation, shares, level, outgoing)
    found = gain_of(normal, activation, shares, level, outgoing, constant=True, ridge=0.0)
    assert found == pytest.approx(wanted, rel=2e-3)


@pytest.mark.parametrize("name", ["relu", "gelu"])
def test_the_error_falls_and_the_start_is_never_left_for_worse(name):
    normal, activation, shares, outgoing = a_problem(name, seed=1)
    start = left_over(normal, activation, shares, np.zeros(NEW), outgoing)
    settings = {"constant": True, "ridge": 1e-6, "steps": 30}
    moved, level = descend(normal, activation, shares, outgoing, level=True, **settings)
    free = left_over(normal, activation, moved, level, outgoing)
    moved, level = descend(normal, activation, shares, outgoing, level=False, **settings)
    assert not level.any()
    tied = left_over(normal, activation, moved, level, outgoing)
    assert max(free, tied) < 0.9 * start


def test_two_runs_are_alike():
    problem = a_problem("relu")
    settings = {"constant": True, "level": True, "ridge": 1e-6, "steps": 10}
    first, second = (descend(*problem, **settings) for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
