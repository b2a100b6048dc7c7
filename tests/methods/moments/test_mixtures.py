"""Moments of units of uncertain scale, and of samples mixed with the prior's moments."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dfprune.methods.moments.activated_units import Components, equal_components
from keras_dfprune.methods.moments.unit_moments import (
    Preactivations,
    UnitMoments,
    mixed_moments,
    sample_moments,
)
from keras_dfprune.rules.activations import describe

DRAWS = 200_000


def activation(name):
    return describe(getattr(keras.activations, name))


@pytest.mark.parametrize("name", ["relu", "relu6", "gelu"])
def test_mixtures_of_several_means_and_scales_agree_with_monte_carlo(name):
    """Within four standard errors, with a floor for rare values. Copies take the integral."""
    random = np.random.default_rng(4)
    factor = random.normal(size=(9, 4))
    factor[1], factor[2], factor[3] = 1.001 * factor[0], -factor[0], factor[4]
    means = random.normal(size=(3, 9))
    components = Components(means, np.array([0.2, 1.0, 6.0]), np.array([0.5, 0.3, 0.2]))
    moments = Preactivations(components, tf.constant(factor @ factor.T)).moments(activation(name))
    which = random.choice(3, DRAWS, p=components.shares)
    z = means[which] + components.scales[which, None] * (random.normal(size=(DRAWS, 4)) @ factor.T)
    values = activation(name).values(z)
    sampled, squares = sample_moments(values), sample_moments(values**2)
    spread, deviation = squares.second - sampled.second**2, values.std(axis=0)
    floor = 1e-3 * np.outer(deviation, deviation)
    allowed = 4.0 * np.sqrt(np.maximum(spread, 0.0) / DRAWS) + floor
    assert np.all(np.abs(moments.second - sampled.second) <= allowed)
    assert np.all(np.abs(moments.mean - sampled.mean) <= 4.0 * deviation / math.sqrt(DRAWS))


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "relu6"])
def test_the_angle_integral_of_a_mixture_is_the_sum_over_its_components(name):
    """At correlations near 1 and -1, where the powers of each component would not suffice."""
    random = np.random.default_rng(9)
    factor = np.repeat(random.normal(size=(3, 4)), 2, axis=0) + 1e-3 * random.normal(size=(6, 4))
    factor[5] *= -1.0
    covariance, function = tf.constant(factor @ factor.T), activation(name)
    components = Components(random.normal(size=(2, 6)), np.array([0.3, 4.0]), np.array([0.9, 0.1]))
    found = Preactivations(components, covariance).moments(function)
    parts = [
        Preactivations(equal_components(mean[None]), scale**2 * covariance).moments(function)
        for mean, scale in zip(components.means, components.scales, strict=True)
    ]
    np.testing.assert_allclose(found.mean, 0.9 * parts[0].mean + 0.1 * parts[1].mean, rtol=1e-12)
    wanted = 0.9 * parts[0].second + 0.1 * parts[1].second
    np.testing.assert_allclose(found.second, wanted, rtol=0, atol=2e-7 * np.max(wanted))


def test_balanced_components_count_with_one_over_their_mean_square():
    components = Components(np.zeros((2, 3)), np.array([1.0, 10.0]), np.array([0.5, 0.5]))
    covariance = tf.eye(3, dtype=tf.float64)
    shares = Preactivations(components, covariance).balanced(activation("relu")).components.shares
    np.testing.assert_allclose(shares, [100 / 101, 1 / 101])


def samples_and_prior():
    random = np.random.default_rng(12)
    return [sample_moments(random.normal(1.0, 1.0, size=(20, 4))) for _ in range(2)]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_the_scale_of_the_prior_does_not_matter_where_there_are_samples(scale):
    samples, prior = samples_and_prior()
    scaled = UnitMoments(scale * prior.mean, scale**2 * prior.second)
    mixed, other = mixed_moments(samples, prior, 0.4), mixed_moments(samples, scaled, 0.4)
    np.testing.assert_allclose(mixed.mean, other.mean)
    np.testing.assert_allclose(mixed.second, other.second)
    assert mixed.scale_known
    trace = [np.trace(moments.second) for moments in (mixed, samples)]
    assert trace[0] == pytest.approx(trace[1])


def test_the_share_of_the_prior_runs_from_none_to_all():
    samples, prior = samples_and_prior()
    np.testing.assert_allclose(mixed_moments(samples, prior, 0.0).second, samples.second)
    ratio = np.trace(samples.second) / np.trace(prior.second)
    whole = mixed_moments(samples, prior, 1.0)
    np.testing.assert_allclose(whole.second, ratio * prior.second)
    np.testing.assert_allclose(whole.mean, np.sqrt(ratio) * prior.mean)
    half = mixed_moments(samples, prior, 0.5)
    np.testing.assert_allclose(half.second, 0.5 * (samples.second + whole.second))


@pytest.mark.parametrize("bad", [0.0, math.inf, math.nan])
def test_a_prior_without_a_scale_is_left_out(bad):
    samples, prior = samples_and_prior()
    unusable = UnitMoments(prior.mean, prior.second * bad)
    assert mixed_moments(samples, unusable, 0.5) is samples
