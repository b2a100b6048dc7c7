"""Closed-form moments of units against Monte Carlo, published formulas and each other."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dfprune.methods.moments import activated_units
from keras_dfprune.methods.moments.activated_units import Components, equal_components
from keras_dfprune.methods.moments.joined_units import joined_moments
from keras_dfprune.methods.moments.unit_moments import (
    Preactivations,
    UnitMoments,
    normal_moments,
    sample_moments,
)
from keras_dfprune.rules.activations import Activation, describe

NAMES = ["relu", "leaky_relu", "relu6", "hard_tanh", "hard_sigmoid", "linear"]
NAMES += ["gelu", "tanh", "sigmoid", "softplus", "selu", "hard_silu"]
DRAWS = 400_000


def activation(name):
    return describe(getattr(keras.activations, name))


def moments_of(activation, mean, covariance):
    """Return the moments of `phi(z)` for `z ~ N(mean, covariance)`."""
    components = equal_components(mean[None])
    return Preactivations(components, tf.constant(covariance, tf.float64)).moments(activation)


def a_normal(seed, units=9, inputs=4):
    """Correlated pre-activations: one pair of near-copies, a rare and a saturated unit."""
    generator = np.random.default_rng(seed)
    factor = generator.normal(size=(units, inputs))
    factor[1] = 1.001 * factor[0]
    mean = generator.normal(size=units)
    mean[2] = -2.5 * np.linalg.norm(factor[2])
    mean[3] = 3.0 * np.linalg.norm(factor[3])
    draws = mean + generator.normal(size=(DRAWS, inputs)) @ factor.T
    return mean, factor @ factor.T, draws


@pytest.mark.parametrize("name", NAMES)
def test_moments_agree_with_monte_carlo(name):
    """Within three standard errors, with a floor of 1e-3 of the units' variance."""
    mean, covariance, draws = a_normal(seed=3)
    moments = moments_of(activation(name), mean, covariance)
    values = activation(name).values(draws)
    sampled = sample_moments(values)
    spread = sample_moments(values**2).second - sampled.second**2
    deviation = values.std(axis=0)
    floor = 1e-3 * np.outer(deviation, deviation)
    allowed = 3.0 * np.sqrt(np.maximum(spread, 0.0) / DRAWS) + floor
    assert np.all(np.abs(moments.second - sampled.second) <= allowed)
    assert np.all(np.abs(moments.mean - sampled.mean) <= 3.0 * deviation / math.sqrt(DRAWS) + 1e-9)


def test_normal_moments_take_the_moments_of_the_values_in_front():
    mean, covariance, _ = a_normal(seed=6)
    joined = UnitMoments(mean, tf.constant(covariance + np.outer(mean, mean)), scale_known=True)
    wanted = moments_of(activation("relu"), mean, covariance)
    found = normal_moments(activation("relu"), joined)
    assert found.scale_known
    np.testing.assert_allclose(found.mean, wanted.mean, rtol=1e-9)
    np.testing.assert_allclose(found.second, wanted.second, rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_second_moments_are_positive_semidefinite(name):
    mean, covariance, _ = a_normal(seed=5, units=20)
    eigenvalues = np.linalg.eigvalsh(moments_of(activation(name), mean, covariance).covariance)
    assert eigenvalues[0] >= -1e-12 * eigenvalues[-1]


def test_relu_without_means_is_the_arc_cosine_kernel():
    """Cho & Saul 2009, order 1: s s' (sin t + (pi - t) cos t) / 2 pi."""
    generator = np.random.default_rng(0)
    factor = generator.normal(size=(8, 3))
    factor[1], factor[2] = 2.0 * factor[0], -factor[0]  # correlation 1 and -1
    covariance = factor @ factor.T
    std = np.sqrt(np.diagonal(covariance))
    angle = np.arccos(np.clip(covariance / np.outer(std, std), -1.0, 1.0))
    kernel = np.sin(angle) + (math.pi - angle) * np.cos(angle)
    expected = np.outer(std, std) * kernel / (2.0 * math.pi)
    moments = moments_of(activation("relu"), np.zeros(8), covariance)
    np.testing.assert_allclose(moments.second, expected, rtol=0, atol=1e-8 * expected.max())
    np.testing.assert_allclose(moments.mean, std / math.sqrt(2.0 * math.pi), rtol=1e-12)


@pytest.mark.parametrize("ratio", [0.0, -1.0, -3.0, -6.0])
def test_a_rarely_active_relu_is_exact(ratio):
    """E[relu] and E[relu^2] of N(ratio, 1): Gauss-Hermite quadrature is off by percents here."""
    density = math.exp(-0.5 * ratio**2) / math.sqrt(2.0 * math.pi)
    mass = 0.5 * math.erfc(-ratio / math.sqrt(2.0))
    moments = moments_of(activation("relu"), np.array([ratio]), np.eye(1))
    assert moments.mean[0] == pytest.approx(ratio * mass + density, rel=1e-6)
    assert float(moments.second[0, 0]) == pytest.approx(
        (1 + ratio**2) * mass + ratio * density, rel=1e-6
    )


@pytest.mark.parametrize("name", ["relu", "relu6", "hard_sigmoid"])
def test_the_expansion_agrees_with_the_closed_form(name):
    """The same activation, once declared to be curved: quadrature split at the kinks."""
    known = activation(name)
    curved = Activation(name, known.function, 1.0, True, False, known.at_zero, known.kinks)
    mean, covariance, _ = a_normal(seed=7)
    closed, expanded = (moments_of(a, mean, covariance) for a in (known, curved))
    np.testing.assert_allclose(expanded.mean, closed.mean, atol=1e-6)
    size = np.diagonal(closed.second).max()
    np.testing.assert_allclose(np.diagonal(expanded.second), np.diagonal(closed.second), atol=1e-6)
    np.testing.assert_allclose(expanded.second, closed.second, atol=1e-3 * size)


@pytest.mark.parametrize("std", [1e-3, 1.0, 30.0])
def test_tanh_at_any_scale(std):
    """E[tanh^2] by a fine sum, from almost linear to almost a step."""
    nodes = np.linspace(-9.0, 9.0, 400_001)
    weights = np.exp(-0.5 * nodes**2)
    weights /= weights.sum()
    expected = weights @ np.tanh(0.3 * std + std * nodes) ** 2
    moments = moments_of(activation("tanh"), np.array([0.3 * std]), np.array([[std**2]]))
    assert float(moments.second[0, 0]) == pytest.approx(expected, rel=1e-6)


def test_small_units_are_as_exact_as_large_ones():
    mean, covariance, _ = a_normal(seed=4)
    wanted = moments_of(activation("relu"), mean, covariance).second
    found = moments_of(activation("relu"), 1e-4 * mean, 1e-8 * covariance).second
    np.testing.assert_allclose(found, 1e-8 * wanted.numpy(), rtol=1e-9)


@pytest.mark.parametrize("name", ["relu", "gelu"])
def test_nan_in_the_covariance_stays_nan(name):
    mean, covariance, _ = a_normal(seed=4)
    covariance[0, 5] = covariance[5, 0] = np.nan
    second = moments_of(activation(name), mean, covariance).second.numpy()
    assert np.isnan(second[0, 5]) and np.isnan(second[5, 0])


def test_units_that_never_vary_are_constant():
    mean = np.array([2.0, -1.0, 0.5])
    for name in ("relu", "gelu"):
        moments = moments_of(activation(name), mean, np.diag([0.0, 0.0, 1.0]))
        values = activation(name).values(mean)
        np.testing.assert_allclose(moments.mean[:2], values[:2], atol=1e-6)
        np.testing.assert_allclose(moments.covariance[:2], 0.0, atol=1e-6)


def test_units_may_have_their_own_slopes():
    """A PReLU's function takes `(..., units)`: units are the last axis."""
    slopes = np.array([0.1, 0.9], np.float64)

    def prelu(inputs):
        return keras.ops.relu(inputs) - slopes * keras.ops.relu(-inputs)

    several = Activation("prelu", prelu, 1.0, True, False, 0.0, (0.0,))
    moments = moments_of(several, np.zeros(2), np.eye(2))
    expected = (1.0 - slopes) / math.sqrt(2.0 * math.pi)
    np.testing.assert_allclose(moments.mean, expected, atol=1e-6)


@pytest.mark.parametrize("name", ["relu", "gelu"])
def test_moments_of_sums_are_those_of_all_units_side_by_side(name):
    random = np.random.default_rng(6)
    factor = random.normal(size=(5, 9))
    means, shares = random.normal(size=(2, 5)), random.uniform(0, 1, (3, 5))
    both = np.concatenate([np.eye(5), shares])
    activation = describe(getattr(keras.activations, name))
    components = Components(means, np.array([0.5, 2.0]), np.array([0.3, 0.7]))
    normal = Preactivations(components, tf.constant(factor @ factor.T))
    stacked = Preactivations(
        components.with_means(means @ both.T), tf.constant(both @ factor @ factor.T @ both.T)
    )
    wanted = stacked.moments(activation)
    new, across = normal.moments_of_sums(activation, shares)
    np.testing.assert_allclose(new.mean, wanted.mean[5:], rtol=1e-7)
    np.testing.assert_allclose(new.second, wanted.second[5:, 5:], rtol=1e-7)
    np.testing.assert_allclose(across, wanted.second[5:, :5], rtol=1e-7)


@pytest.mark.parametrize("name", ["relu", "relu6", "leaky_relu"])
def test_powers_and_the_integral_over_an_angle_agree(name, monkeypatch):
    """Where the powers end, at 0.68, nothing jumps, however many powers a block takes."""
    random = np.random.default_rng(2)
    means, r = random.normal(size=(2, 40)), np.linspace(-0.999, 0.999, 40)
    both = [
        activated_units.activate(activation(name), equal_components(3.0 * side), np.ones(40))
        for side in (means, -means)
    ]
    found = both[0].cross_moments(both[1], np.tile(r, (40, 1)))
    columns = [
        both[0].cross_moments(both[1], np.full((40, 40), value))[:, k] for k, value in enumerate(r)
    ]
    monkeypatch.setattr(activated_units, "_SERIES_REACH", 0.0)
    wanted = both[0].cross_moments(both[1], np.tile(r, (40, 1)))
    assert np.any(found != wanted)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-8)
    np.testing.assert_allclose(np.stack(columns, axis=1), wanted, rtol=0, atol=1e-8)


@pytest.mark.parametrize("kind", ["sum", "product", "extreme"])
def test_moments_of_joined_units_are_those_of_all_pairs_of_values(kind):
    random = np.random.default_rng(8)
    first, second = random.normal(size=(4, 3)), 1.0 + random.normal(size=(5, 3))
    pairs = {
        "sum": 2.0 * first[:, None] - 0.5 * second,
        "product": first[:, None] * second,
        "extreme": np.stack([np.repeat(first, 5, axis=0), np.tile(second, (4, 1))]),
    }
    wanted = sample_moments(pairs[kind].reshape(-1, 3))
    parts = [sample_moments(first), sample_moments(second)]
    found = joined_moments(kind, parts, [2.0, -0.5])
    np.testing.assert_allclose(found.mean, wanted.mean)
    np.testing.assert_allclose(found.second, wanted.second)
