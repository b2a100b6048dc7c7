"""The assumed distribution of a layer's inputs, in closed form and in draws."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_dfprune as dfprune
from keras_dfprune.inputs.draws import input_sampler
from keras_dfprune.methods.base import Context
from keras_dfprune.methods.moments.moments import Moments
from keras_dfprune.methods.moments.preactivations import group_preactivations
from keras_dfprune.methods.moments.prior import KnownInput, Prior, assumed_stds, read_prior
from keras_dfprune.methods.moments.unit_moments import UnitMoments
from tests.support.groups import a_feed, a_group


def test_the_automatic_scale_does_not_depend_on_the_inputs_unit_of_measure():
    group = a_group(seed=7)
    scaled = a_group(seed=7)
    scaled.weights[:] *= 255.0
    first, second = (Moments().curve(g, Context()) for g in (group, scaled))
    np.testing.assert_array_equal(first.order, second.order)
    np.testing.assert_allclose(first.costs, second.costs, rtol=1e-6)


def test_automatic_scales_are_multiples_of_the_biases_and_at_least_one_half():
    stds, shares = assumed_stds(np.full(12, 0.2))
    np.testing.assert_allclose(stds, [0.5, 0.6, 1.4, 2.8])  # 0.7 and 1.5 of 0.2 are below 0.5
    np.testing.assert_allclose(shares, [0.4, 0.2, 0.2, 0.2])
    group = a_group(seed=7)
    group.biases[:] = 0.2
    seen = group_preactivations(group, read_prior("isotropic", "auto"), Context())
    std = np.sqrt(np.mean(np.diagonal(seen.covariance)))
    np.testing.assert_allclose(seen.components.scales * std, stds)
    np.testing.assert_allclose(np.sum(seen.components.shares), 1.0)
    assert not seen.scale_known
    assert assumed_stds(np.zeros(3)) == ([0.5], [1.0])


def test_each_automatic_scale_moves_the_mean_as_far_as_it_spreads():
    """In units of the deviation the mean lies at the same two places at each scale."""
    group = a_group(seed=7)
    seen = group_preactivations(group, read_prior("weights", "auto"), Context())
    moved = (seen.components.means - group.biases) / seen.components.scales[:, None]
    scales = len(np.unique(seen.components.scales))
    assert len(moved) == 2 * scales > 2
    np.testing.assert_allclose(moved, np.tile(moved[:2], (scales, 1)))


def test_half_of_the_weights_prior_is_the_weights_correlations():
    """Each feature has the same variance, and the mean lies at -0.25 to 0.75 deviations."""
    group = a_group(seed=8)
    weights = group.weights.T
    unit = weights / np.linalg.norm(weights, axis=1, keepdims=True)
    covariance = 3.0 * (0.5 * np.eye(6) + 0.5 * unit @ unit.T)
    seen = group_preactivations(group, read_prior("weights", 3.0), Context())
    means, found = seen.components.means, seen.covariance
    np.testing.assert_allclose(found, weights.T @ covariance @ weights, rtol=1e-6)
    moved = means - group.biases
    energy = np.sum(weights**2, axis=1)
    direction = weights.T @ (1.0 / (energy + energy.mean()))
    for shift in moved:
        assert abs(np.corrcoef(shift, direction)[0, 1]) > 0.999
    std = np.sqrt(np.mean(np.diagonal(found)))
    sizes = moved @ direction / (np.linalg.norm(direction) * std * np.sqrt(len(direction)))
    np.testing.assert_allclose([sizes.mean(), sizes.std()], [0.25, 1 / np.sqrt(12)], rtol=1e-6)


def test_batch_statistics_replace_the_priors():
    beta, gamma = np.linspace(-1, 1, 12), np.linspace(0.5, 2, 12)
    group = a_group(seed=9, batch_mean=beta, batch_std=gamma)
    plain = group_preactivations(
        a_group(seed=9), read_prior("weights", "auto"), Context()
    ).covariance
    seen = group_preactivations(group, read_prior("weights", "auto"), Context())
    (mean,), covariance = seen.components.means, seen.covariance
    np.testing.assert_allclose(mean, beta)
    np.testing.assert_allclose(np.sqrt(np.diagonal(covariance)), gamma)
    assert float(covariance[0, 1]) / (gamma[0] * gamma[1]) == pytest.approx(
        plain[0, 1] / np.sqrt(plain[0, 0] * plain[1, 1])
    )


@pytest.mark.parametrize("positions", [1, 2])
def test_earlier_groups_hand_on_their_moments(positions):
    """Scale and shift of the carriers included; the weights correlate several positions."""
    generator = np.random.default_rng(10)
    factor = generator.normal(size=(6 // positions, 6 // positions))
    second = tf.constant(factor @ factor.T + 20.0)
    moments = UnitMoments(generator.normal(size=len(factor)), second, scale_known=True)
    units = np.tile(np.arange(len(factor)), positions)
    feeds = (a_feed(np.arange(6), "before", units, scale=0.5, shift=0.25),)
    group = a_group(seed=10, feeds=feeds, taps=(positions,) if positions > 1 else ())
    context = Context(moments={"before": moments})
    seen = group_preactivations(group, read_prior("weights", "auto"), context)
    (mean,), covariance = seen.components.means, seen.covariance
    weights = group.weights
    expected = np.kron(np.eye(positions), 0.25 * moments.covariance)
    if positions > 1:
        std = np.sqrt(np.diagonal(expected))
        unit = weights / np.linalg.norm(weights, axis=0)
        expected = 0.5 * expected + 0.5 * np.outer(std, std) * (unit.T @ unit)
    np.testing.assert_allclose(covariance, weights @ expected @ weights.T)
    inputs = 0.5 * moments.mean[units] + 0.25
    np.testing.assert_allclose(mean, weights @ inputs + group.biases)


def test_moments_whose_scale_is_not_known_tell_correlations_only():
    """Moments a thousand times as large change nothing."""
    random = np.random.default_rng(10)
    factor, mean = random.normal(size=(6, 6)), random.normal(size=6)
    group = a_group(seed=10, feeds=(a_feed(np.arange(6), "before", np.arange(6)),))
    seen = []
    for scale in (1.0, 1e3):
        before = UnitMoments(scale * mean, tf.constant(scale**2 * (factor @ factor.T + 20.0)))
        context = Context(moments={"before": before})
        seen.append(group_preactivations(group, read_prior("weights", "auto"), context))
    assert len(seen[0].components.scales) > 1 and not seen[0].scale_known
    first, second = (one.moments(group.activation) for one in seen)
    np.testing.assert_allclose(first.mean, second.mean)
    np.testing.assert_allclose(first.second, second.second)


def test_flattened_positions_and_convolutions_have_a_local_prior_each():
    moments = UnitMoments(np.ones(3), 5.0 * np.eye(3))
    feeds = (a_feed(np.arange(6), "before", np.tile(np.arange(3), 2)),)
    context, prior = Context(moments={"before": moments}), read_prior("weights", "auto")
    fed = group_preactivations(a_group(seed=10, feeds=feeds), prior, context)
    unfed = group_preactivations(a_group(seed=10), prior, context)
    np.testing.assert_array_equal(fed.components.means, unfed.components.means)
    np.testing.assert_array_equal(fed.covariance, unfed.covariance)
    means = group_preactivations(a_group(seed=10, taps=(2,)), prior, Context()).components.means
    assert np.all(means == a_group(seed=10).weight_sets[:, 6])


def test_known_inputs_have_the_given_moments():
    columns = np.arange(4)
    group = a_group(seed=12, feeds=(a_feed(columns, origin="pixels"),))
    std = np.array([1.0, 2.0, 0.0, 0.5])
    prior = read_prior({"pixels": (0.3, std)}, 1.0)
    seen = group_preactivations(group, prior, Context())
    means, covariance = seen.components.means, seen.covariance
    weights = group.weight_sets[:, :4]
    rest = a_group(seed=12, inputs=2, weight_sets=group.weight_sets[:, [4, 5, 6]])
    unfed = group_preactivations(rest, read_prior("weights", 1.0), Context())
    others, unknown = unfed.components.means, unfed.covariance
    unit = weights / np.linalg.norm(weights, axis=0)
    correlation = 0.2 * np.eye(4) + 0.8 * unit.T @ unit  # unit diagonal: the deviations are kept
    known = np.outer(std, std) * correlation
    np.testing.assert_allclose(covariance, weights @ known @ weights.T + unknown)
    np.testing.assert_allclose(means, 0.3 * weights.sum(axis=1) + others)
    full = read_prior({"pixels": (0.3, known)}, 1.0)
    np.testing.assert_allclose(group_preactivations(group, full, Context()).covariance, covariance)
    wrong = read_prior({"pixels": (0.3, np.ones(3))}, 1.0)
    with pytest.raises(ValueError, match=r"'pixels' must fit its 4 features.*\(3,\)"):
        group_preactivations(group, wrong, Context())
    wrong = read_prior({"pixels": (0.3, known + np.triu(np.ones((4, 4)), 1))}, 1.0)
    with pytest.raises(ValueError, match="'pixels'.* covariance, which is symmetric"):
        group_preactivations(group, wrong, Context())


class Recorder(dfprune.Method):
    """A method that keeps the group it gets."""

    def curve(self, group, context):
        self.group = group
        return dfprune.Saliency().curve(group, context)


@pytest.mark.parametrize("flatten", [False, True])
def test_behind_a_layer_normalization_the_inputs_are_known(flatten):
    random, layers = np.random.default_rng(0), keras.layers
    norm = layers.LayerNormalization()
    steps = [keras.Input((2, 7)), norm, layers.Dropout(0.1)] + [layers.Flatten()] * flatten
    model = keras.Sequential([*steps, layers.Dense(9, "tanh"), layers.Dense(2)])
    for variable in model.weights:
        variable.assign(random.normal(0, 1, variable.shape))
    recorder = Recorder()
    dfprune.plan(model, method=recorder, sparsity=0.5)
    feeds = [feed for feed in recorder.group.feeds if feed.normalized]
    assert len(feeds) == (not flatten)  # flattened, each position has been normalized by itself
    if flatten:
        return
    prior = read_prior("isotropic", "auto")
    before = group_preactivations(recorder.group, prior, Context())
    means, covariance = before.components.means, before.covariance
    kernel, bias = model.layers[-2].get_weights()
    np.testing.assert_allclose(means[0], norm.beta.numpy() @ kernel + bias, rtol=1e-5)
    scaled = norm.gamma.numpy()[:, None] * kernel
    np.testing.assert_allclose(covariance, scaled.T @ scaled, rtol=1e-5, atol=1e-5)
    draws = norm(random.normal(3, 2, (20_000, 2, 7))).numpy().reshape(-1, 7) @ kernel + bias
    np.testing.assert_allclose(draws.mean(axis=0), means[0], atol=0.1)
    assert np.trace(np.cov(draws.T)) == pytest.approx(np.trace(covariance), rel=0.3)


def test_draws_in_front_of_a_batch_normalization_have_its_statistics():
    """Means are exact but for a ridge of 1 %, deviations in the mean over the units."""
    truth = np.random.default_rng(17).normal(size=6)
    group = a_group(seed=17, units=5)
    weights, bias = group.weights, group.biases
    beta, gamma = weights @ truth + bias, np.linspace(0.5, 2.0, 5)
    group = a_group(seed=17, units=5, batch_mean=beta, batch_std=gamma)
    inputs = input_sampler(group, read_prior("weights", "auto"))(200_000, np.array([1, 2]))
    draws = inputs.numpy() @ weights.T + bias
    assert np.linalg.norm(draws.mean(axis=0) - beta) < 0.1 * np.linalg.norm(beta - bias)
    assert np.mean(draws.var(axis=0)) == pytest.approx(np.mean(gamma**2), rel=0.02)


@pytest.mark.parametrize("kind", ["weights", "isotropic"])
def test_draws_of_the_inputs_have_the_prior_s_moments(kind):
    """One known input and four unknown features, against the closed forms."""
    std = np.array([0.5, 1.5])
    group = a_group(seed=16, units=3, feeds=(a_feed([0, 1], origin="x", scale=2.0, shift=1.0),))
    prior = Prior(kind, 0.7, {"x": KnownInput(np.array([0.3, -0.2]), std)})
    inputs = input_sampler(group, prior)(200_000, np.array([1, 2])).numpy().astype(np.float64)
    draws = inputs @ group.weights.T + group.biases
    seen = group_preactivations(group, prior, Context())
    means, covariance = seen.components.means, seen.covariance
    covariance = covariance + np.cov(means.T, bias=True)
    assert len(means) == (2 if kind == "weights" else 1)
    spread = np.sqrt(np.diagonal(covariance))
    np.testing.assert_allclose(draws.mean(axis=0), means.mean(axis=0), atol=0.02 * spread.max())
    np.testing.assert_allclose(np.cov(draws.T), covariance, atol=0.02 * spread.max() ** 2)
    again = input_sampler(group, prior)(200_000, np.array([1, 2])).numpy()
    np.testing.assert_array_equal(inputs.astype(np.float32), again)
