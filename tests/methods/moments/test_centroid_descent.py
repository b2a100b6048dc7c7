"""Descent of centroids: its closed form is the expected error, which falls."""

import keras
import numpy as np
import pytest

from keras_dfprune.methods.moments import centroid_descent
from keras_dfprune.methods.moments.centroid_descent import CentroidProblem, descend
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


def remaining_error(normal, activation, shares, bias, outgoing):
    """Expected squared change behind the best surgery, from the moments of all units."""
    old = normal.moments(activation)
    new, across = normal.moments_of_sums(activation, shares, bias)
    target = (across - np.outer(new.mean, old.mean)) @ outgoing
    best = np.linalg.solve(new.covariance, target)
    return float(np.sum(outgoing * (old.covariance @ outgoing)) - np.sum(target * best))


@pytest.mark.parametrize("name", NAMES)
def test_gain_is_what_the_best_surgery_saves(name):
    normal, activation, shares, outgoing = a_problem(name)
    covariance = normal.moments(activation).covariance
    bias = np.linspace(-0.3, 0.3, NEW)
    wanted = np.sum(outgoing * (covariance @ outgoing))
    wanted -= remaining_error(normal, activation, shares, bias, outgoing)
    problem = CentroidProblem(normal, activation, outgoing, offset_allowed=True, ridge=0.0)
    gain = problem.gain(problem.coordinates(shares), bias)
    assert float(gain) == pytest.approx(wanted, rel=2e-3)


@pytest.mark.parametrize("name", ["relu", "gelu"])
def test_the_error_falls(name):
    normal, activation, shares, outgoing = a_problem(name, seed=1)
    start = remaining_error(normal, activation, shares, np.zeros(NEW), outgoing)
    problem = CentroidProblem(normal, activation, outgoing, offset_allowed=True, ridge=1e-6)
    for with_bias in (True, False):
        moved, bias = descend(problem, shares, with_bias=with_bias, steps=30)
        assert np.any(bias) == with_bias
        assert remaining_error(normal, activation, moved, bias, outgoing) < 0.9 * start


def test_steps_that_only_worsen_the_start_are_not_taken(monkeypatch):
    monkeypatch.setattr(centroid_descent, "RATE", 1e6)
    normal, activation, shares, outgoing = a_problem("relu", seed=1)
    problem = CentroidProblem(normal, activation, outgoing, offset_allowed=True, ridge=1e-6)
    best, _ = descend(problem, shares, with_bias=False, steps=5)
    gains = [float(problem.gain(problem.coordinates(one))) for one in (shares, best)]
    assert gains[1] >= gains[0]


def test_two_runs_are_alike():
    normal, activation, shares, outgoing = a_problem("relu")
    problem = CentroidProblem(normal, activation, outgoing, offset_allowed=True, ridge=1e-6)
    first, second = (descend(problem, shares, with_bias=True, steps=10) for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
