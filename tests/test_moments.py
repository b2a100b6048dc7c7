"""The moment method on hand-made groups: what it predicts is what happens, exact things first."""

import dataclasses
import json
import math

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from keras_dfprune.activations import Activation, describe
from keras_dfprune.merge import CentroidMerge, LinearMerge
from keras_dfprune.methods.base import Context, Feed, GroupView
from keras_dfprune.methods.fits import RIDGE
from keras_dfprune.methods.gaussian import UnitMoments, normal_moments, sample_moments
from keras_dfprune.methods.moments import Moments
from keras_dfprune.methods.preactivations import preactivations
from keras_dfprune.methods.prior import PREACTIVATION_STD, Prior, read_prior
from keras_dfprune.methods.sampler import input_sampler
from keras_dfprune.methods.surgery import DEFAULT_TOLERANCE


def a_group(seed=0, units=12, inputs=6, outputs=5, activation="relu", positions=1, **changes):
    generator = np.random.default_rng(seed)
    sets = generator.normal(size=(units, inputs + 1))
    sets = changes.pop("weight_sets", sets)
    values = dict(
        name="fc1",
        weights=sets[:, :inputs],
        constants=sets[:, inputs:],
        activation=activation,
        outgoing=(generator.normal(size=(units, positions, outputs)),),
        offset_allowed=True,
        can_survive=np.ones(units, bool),
        batch_mean=None,
        batch_std=None,
        parameters_per_unit=float(inputs + 1 + outputs),
    )
    values.update(changes)
    if isinstance(values["activation"], str):
        values["activation"] = describe(getattr(keras.activations, values["activation"]))
    return GroupView(**values)


def a_feed(columns, group=None, units=(), origin=None, scale=1.0, shift=0.0):
    columns, ones = np.asarray(columns), np.ones(len(columns))
    return Feed(columns, group, np.asarray(units, int), scale * ones, shift * ones, origin)


def unit_values(group, inputs):
    return group.activation.values(inputs @ group.weights.T + group.biases)


def change(group, merge, values):
    """What the merge does to the outputs, shape `(samples, outputs)`."""
    kernel = group.outgoing_matrix()
    return values[:, merge.kept] @ merge.absorb(kernel) + merge.shift(kernel) - values @ kernel


@pytest.mark.parametrize("offset_allowed", [True, False])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_the_predicted_error_is_the_one_on_draws_from_the_prior(activation, offset_allowed):
    group = a_group(seed=1, activation=activation, offset_allowed=offset_allowed)
    curve = Moments(prior="isotropic", prior_scale=1.0).curve(group, Context())
    values = unit_values(group, np.random.default_rng(2).normal(size=(200_000, group.inputs)))
    for count in (2, 5, 9):
        squares = np.sum(change(group, curve.merge(count), values) ** 2, axis=1)
        noise = 4.0 * squares.std() / math.sqrt(len(squares))
        assert abs(curve.error(count) - squares.mean()) <= noise
        assert np.sum(curve.costs[:count]) == pytest.approx(curve.error(count), rel=1e-3)
        assert np.any(curve.merge(count).offset) == offset_allowed
    if offset_allowed:
        variance = (values @ group.outgoing_matrix()).var(axis=0).sum()
        assert curve.scale == pytest.approx(variance, rel=0.02)


def test_it_beats_merging_pairs_on_its_own_terms():
    """Fewer units by least squares than the best single survivor for each."""
    group = a_group(seed=3, units=30, inputs=4)
    curve = Moments(prior="isotropic", prior_scale=1.0).curve(group, Context())
    merge = curve.merge(15)
    seen = preactivations(group, read_prior("isotropic", 1.0), Context())
    (mean,), covariance = seen.means, seen.covariance
    moments = normal_moments(group.activation, mean, covariance)
    removed, kernel = merge.removed, group.outgoing_matrix()
    rest = moments.second[np.ix_(removed, removed)]
    assert curve.error(15) < 0.5 * np.sum(kernel[removed] * (rest @ kernel[removed]))


def test_linear_units_of_low_rank_go_for_nothing():
    group = a_group(seed=4, units=10, inputs=3, activation="linear")
    curve = Moments().curve(group, Context())
    assert np.all(curve.costs[:7] <= 1e-5 * curve.scale)  # the ridge is 1e-6
    inputs = np.random.default_rng(0).normal(size=(50, 3))
    values = unit_values(group, inputs)
    outputs = values @ group.outgoing_matrix()
    assert np.abs(change(group, curve.merge(7), values)).max() <= 1e-3 * np.abs(outputs).max()


def test_copies_come_out_exactly_before_anything_else():
    """Scaled copies, whose survivors are rebuilt later on, whatever the prior."""
    group = a_group(seed=5, units=10)
    for part in (group.weights, group.constants):
        part[7], part[4], part[9] = 2.5 * part[2], 0.5 * part[2], 0.0
    curve = Moments().curve(group, Context())
    assert curve.lossless == 3
    assert np.all(curve.costs[:3] == 0.0)
    values = unit_values(group, np.random.default_rng(1).normal(size=(100, group.inputs)))
    for count in (1, 2, 3):
        np.testing.assert_allclose(change(group, curve.merge(count), values), 0.0, atol=1e-9)
    # Without the copies, their share in the survivor's outgoing weights: the same answer.
    kept = curve.merge(3).kept
    smaller = a_group(
        units=len(kept),
        weight_sets=group.weight_sets[kept],
        outgoing=(curve.merge(3).absorb(group.outgoing_matrix())[:, None, :],),
        can_survive=np.ones(len(kept), bool),
    )
    scale = PREACTIVATION_STD**2  # any fixed one: the automatic one averages over the copies
    whole = Moments(prior="isotropic", prior_scale=scale).curve(group, Context())
    other = Moments(prior="isotropic", prior_scale=scale).curve(smaller, Context())
    np.testing.assert_array_equal(whole.order[3:], kept[other.order])
    for count in range(1, 7):
        assert whole.error(3 + count) == pytest.approx(other.error(count), rel=1e-9)
        np.testing.assert_allclose(
            whole.merge(3 + count).absorb(group.outgoing_matrix()),
            other.merge(count).absorb(smaller.outgoing_matrix()),
            atol=1e-8,
        )
        np.testing.assert_allclose(
            whole.merge(3 + count).shift(group.outgoing_matrix()),
            other.merge(count).shift(smaller.outgoing_matrix()),
            atol=1e-8,
        )


def test_what_may_not_survive_takes_nothing_over():
    group = a_group(seed=6, can_survive=np.arange(12) != 3)
    merges = [Moments().curve(group, Context()).merge(count) for count in range(1, 11)]
    merges = [merge for merge in merges if 3 in merge.kept]
    assert merges
    for merge in merges:
        assert not np.any(merge.coefficients[list(merge.kept).index(3)])
    nobody = a_group(seed=6, can_survive=np.zeros(12, bool))
    assert not np.any(Moments().curve(nobody, Context()).merge(5).coefficients)


def test_the_automatic_scale_does_not_depend_on_the_inputs_unit_of_measure():
    group = a_group(seed=7)
    scaled = a_group(seed=7)
    scaled.weights[:] *= 255.0
    first, second = (Moments().curve(g, Context()) for g in (group, scaled))
    np.testing.assert_array_equal(first.order, second.order)
    np.testing.assert_allclose(first.costs, second.costs, rtol=1e-6)


def test_the_automatic_scale_is_ten_times_the_biases_but_half_a_unit_at_least():
    for bias, expected in ((0.2, 2.0), (0.01, 0.5)):
        group = a_group(seed=7)
        group.biases[:] = bias
        covariance = preactivations(group, read_prior("weights", "auto"), Context()).covariance
        assert np.sqrt(np.mean(np.diagonal(covariance))) == pytest.approx(expected)


def test_the_weights_prior_is_half_theirs():
    """Unit variance for each feature; the mean between -0.25 and 0.75 deviations."""
    group = a_group(seed=8)
    weights = group.weights.T
    unit = weights / np.linalg.norm(weights, axis=1, keepdims=True)
    covariance = 3.0 * (0.5 * np.eye(6) + 0.5 * unit @ unit.T)
    seen = preactivations(group, read_prior("weights", 3.0), Context())
    means, found = seen.means, seen.covariance
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
    plain = preactivations(a_group(seed=9), read_prior("weights", "auto"), Context()).covariance
    seen = preactivations(group, read_prior("weights", "auto"), Context())
    (mean,), covariance = seen.means, seen.covariance
    np.testing.assert_allclose(mean, beta)
    np.testing.assert_allclose(np.sqrt(np.diagonal(covariance)), gamma)
    assert covariance[0, 1] / (gamma[0] * gamma[1]) == pytest.approx(
        plain[0, 1] / np.sqrt(plain[0, 0] * plain[1, 1])
    )


@pytest.mark.parametrize("positions", [1, 2])
def test_earlier_groups_hand_on_their_moments(positions):
    """Scale and shift of the carriers included; the weights correlate several positions."""
    generator = np.random.default_rng(10)
    factor = generator.normal(size=(6 // positions, 6 // positions))
    moments = UnitMoments(generator.normal(size=len(factor)), factor @ factor.T + 20.0)
    units = np.tile(np.arange(len(factor)), positions)
    feeds = (a_feed(np.arange(6), "before", units, scale=0.5, shift=0.25),)
    group = a_group(seed=10, feeds=feeds, taps=(positions,) if positions > 1 else ())
    context = Context(moments={"before": moments})
    seen = preactivations(group, read_prior("weights", "auto"), context)
    (mean,), covariance = seen.means, seen.covariance
    weights = group.weights
    expected = np.kron(np.eye(positions), 0.25 * moments.covariance)
    if positions > 1:
        std = np.sqrt(np.diagonal(expected))
        unit = weights / np.linalg.norm(weights, axis=0)
        expected = 0.5 * expected + 0.5 * np.outer(std, std) * (unit.T @ unit)
    np.testing.assert_allclose(covariance, weights @ expected @ weights.T)
    inputs = 0.5 * moments.mean[units] + 0.25
    np.testing.assert_allclose(mean, weights @ inputs + group.biases)


def test_flattened_positions_and_convolutions_have_a_local_prior_each():
    moments = UnitMoments(np.ones(3), 5.0 * np.eye(3))
    feeds = (a_feed(np.arange(6), "before", np.tile(np.arange(3), 2)),)
    context, prior = Context(moments={"before": moments}), read_prior("weights", "auto")
    fed = preactivations(a_group(seed=10, feeds=feeds), prior, context)
    unfed = preactivations(a_group(seed=10), prior, context)
    np.testing.assert_array_equal(fed.means, unfed.means)
    np.testing.assert_array_equal(fed.covariance, unfed.covariance)
    means = preactivations(a_group(seed=10, taps=(2,)), prior, Context()).means
    np.testing.assert_array_equal(means, a_group(seed=10).weight_sets[None, :, 6])


def test_a_chain_knows_the_kept_units_of_the_layer_before():
    group = a_group(seed=11)
    method = Moments(prior="isotropic", prior_scale=1.0)
    curve = method.curve(group, Context())
    handed = curve.moments(4)
    values = unit_values(group, np.random.default_rng(0).normal(size=(100_000, 6)))
    sampled = sample_moments(values[:, curve.merge(4).kept])
    np.testing.assert_allclose(handed.mean, sampled.mean, atol=0.05)
    np.testing.assert_allclose(handed.second, sampled.second, atol=0.4)


def test_known_inputs_are_believed():
    columns = np.arange(4)
    group = a_group(seed=12, feeds=(a_feed(columns, origin="pixels"),))
    std = np.array([1.0, 2.0, 0.0, 0.5])
    prior = read_prior({"pixels": (0.3, std)}, 1.0)
    seen = preactivations(group, prior, Context())
    means, covariance = seen.means, seen.covariance
    weights = group.weight_sets[:, :4]
    rest = a_group(seed=12, inputs=2, weight_sets=group.weight_sets[:, [4, 5, 6]])
    unfed = preactivations(rest, read_prior("weights", 1.0), Context())
    others, unknown = unfed.means, unfed.covariance
    unit = weights / np.linalg.norm(weights, axis=0)
    correlation = 0.2 * np.eye(4) + 0.8 * unit.T @ unit  # unit diagonal: the deviations are kept
    known = np.outer(std, std) * correlation
    np.testing.assert_allclose(covariance, weights @ known @ weights.T + unknown)
    np.testing.assert_allclose(means, 0.3 * weights.sum(axis=1) + others)
    full = read_prior({"pixels": (0.3, known)}, 1.0)
    np.testing.assert_allclose(preactivations(group, full, Context()).covariance, covariance)
    wrong = read_prior({"pixels": (0.3, np.ones(3))}, 1.0)
    with pytest.raises(ValueError, match=r"'pixels' must fit its 4 features.*\(3,\)"):
        preactivations(group, wrong, Context())


class Look(dfprune.Method):
    """Keeps what it was shown."""

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
    look = Look()
    dfprune.plan(model, method=look, sparsity=0.5)
    feeds = [feed for feed in look.group.feeds if feed.normalized]
    assert len(feeds) == (not flatten)  # flattened, each position has been normalized by itself
    if flatten:
        return
    prior = read_prior("isotropic", "auto")
    before = preactivations(look.group, prior, Context())
    means, covariance = before.means, before.covariance
    kernel, bias = model.layers[-2].get_weights()
    np.testing.assert_allclose(means[0], norm.beta.numpy() @ kernel + bias, rtol=1e-5)
    scaled = norm.gamma.numpy()[:, None] * kernel
    np.testing.assert_allclose(covariance, scaled.T @ scaled, rtol=1e-5, atol=1e-5)
    draws = norm(random.normal(3, 2, (20_000, 2, 7))).numpy().reshape(-1, 7) @ kernel + bias
    np.testing.assert_allclose(draws.mean(axis=0), means[0], atol=0.1)
    assert np.trace(np.cov(draws.T)) == pytest.approx(np.trace(covariance), rel=0.3)


def test_samples_take_the_place_of_the_prior():
    group = a_group(seed=13)
    values = unit_values(group, np.random.default_rng(1).uniform(0, 1, size=(300, 6)))
    curve = Moments().curve(group, Context(values={"fc1": values}))
    squares = np.sum(change(group, curve.merge(6), values) ** 2, axis=1)
    assert curve.error(6) == pytest.approx(squares.mean(), rel=1e-6)


def test_the_automatic_count_is_the_largest_within_the_tolerance():
    curve = Moments().curve(a_group(seed=14, units=60), Context())
    total = np.cumsum(curve.costs) / curve.scale
    assert 0 < curve.automatic < 59
    assert total[curve.automatic - 1] <= DEFAULT_TOLERANCE < total[curve.automatic]


def test_moments_that_are_not_finite_leave_exact_removals():
    def steep(inputs):
        return keras.ops.exp(inputs**2)

    activation = Activation("steep", steep, math.inf, False, False, 1.0)
    group = a_group(seed=15, activation=activation)
    for part in (group.weights, group.constants):
        part[5] = part[2]
    curve = Moments(prior_scale=100.0).curve(group, Context())
    assert list(curve.order) == [2]
    assert "steep" in curve.note


@pytest.mark.parametrize(
    "arguments",
    [
        {"prior": "normal"},
        {"prior": {"x": 3.0}},
        {"prior": {"x": (0.0, -1.0)}},
        {"prior": {"x": (0.0, math.nan)}},
        {"prior_scale": 0.0},
        {"prior_scale": True},
        {"prior_scale": "big"},
        {"refine_steps": -1},
        {"refine_steps": 1.5},
        {"seed": -1},
    ],
)
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ValueError, match="Received"):
        Moments(**arguments)


def test_the_configuration_makes_the_same_method():
    prior = {"x": (0.5, np.array([0.1, 0.2]))}
    config = Moments(prior=prior, prior_scale=2, refine_steps=7, seed=3).get_config()
    again = Moments(**json.loads(json.dumps(config)))
    assert again.get_config() == config
    assert Moments().get_config()["prior_scale"] == "auto"


def test_draws_in_front_of_a_batch_normalization_have_its_statistics():
    """Measured means exactly, but for a ridge of 1 %; deviations in the mean over the units."""
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
    """One known input, four features that nothing is known of; against the closed forms."""
    std = np.array([0.5, 1.5])
    group = a_group(seed=16, units=3, feeds=(a_feed([0, 1], origin="x", scale=2.0, shift=1.0),))
    prior = Prior(kind, 0.7, {"x": (np.array([0.3, -0.2]), std)})
    inputs = input_sampler(group, prior)(200_000, np.array([1, 2])).numpy().astype(np.float64)
    draws = inputs @ group.weights.T + group.biases
    seen = preactivations(group, prior, Context())
    means, covariance = seen.means, seen.covariance
    covariance = covariance + np.cov(means.T, bias=True)
    assert len(means) == (2 if kind == "weights" else 1)
    spread = np.sqrt(np.diagonal(covariance))
    np.testing.assert_allclose(draws.mean(axis=0), means.mean(axis=0), atol=0.02 * spread.max())
    np.testing.assert_allclose(np.cov(draws.T), covariance, atol=0.02 * spread.max() ** 2)
    again = input_sampler(group, prior)(200_000, np.array([1, 2])).numpy()
    np.testing.assert_array_equal(inputs.astype(np.float32), again)


def test_mean_weight_sets_are_fitted_and_taken_where_they_are_better():
    """Against least squares on the moments of old and new units, written out once more."""
    random = np.random.default_rng(21)
    near = np.repeat(random.normal(size=(4, 31)), 4, axis=0) + 0.2 * random.normal(size=(16, 31))
    group = a_group(units=16, inputs=30, weight_sets=near, averages=True)
    method = Moments(prior="isotropic", prior_scale=1.0)
    curve, plain = (
        method.curve(one, Context()) for one in (group, dataclasses.replace(group, averages=False))
    )
    merge = curve.merge(12)
    assert isinstance(merge, CentroidMerge)
    assert curve.error(12) < plain.error(12)
    kept = merge.kept
    unit = near / np.linalg.norm(near, axis=1, keepdims=True)
    cluster = np.argmax(unit @ unit[kept].T, axis=1)
    np.testing.assert_array_equal(cluster, np.argmax(merge.shares, axis=0))
    new = np.stack([near[cluster == place].sum(axis=0) for place in range(4)])
    new *= (np.linalg.norm(near[kept], axis=1) / np.linalg.norm(new, axis=1))[:, None]
    np.testing.assert_allclose(merge.shares @ near, new)
    both = np.concatenate([near, new])
    covariance = both[:, :30] @ both[:, :30].T
    moments = normal_moments(group.activation, both[:, 30], covariance)
    second = np.pad(moments.second, [(0, 1), (0, 1)], constant_values=1.0)
    second[:-1, -1] = second[-1, :-1] = moments.mean
    second[16:-1, 16:-1] += RIDGE * np.mean(np.diagonal(second)[16:-1]) * np.eye(4)
    solution = np.linalg.solve(second[16:, 16:], second[16:, :16])
    np.testing.assert_allclose(merge.coefficients, solution[:-1], atol=1e-4)
    np.testing.assert_allclose(merge.offset, solution[-1], atol=1e-4)
    np.testing.assert_allclose(curve.moments(12).mean, second[16:-1, -1], rtol=1e-6)


def test_kept_units_stay_as_they_are_where_their_means_are_worse():
    group = a_group(units=6, inputs=40, averages=True, activation="tanh")
    group = dataclasses.replace(group, weights=group.weights * np.arange(1, 7)[:, None])
    curve = Moments(prior="isotropic", prior_scale=1.0).curve(group, Context())
    assert isinstance(curve.merge(1), LinearMerge)


def test_units_without_any_inputs_are_constants():
    layers = [keras.layers.Dense(4, "softplus", bias_initializer="normal"), keras.layers.Dense(2)]
    model = keras.Sequential([keras.Input((0,)), *layers])
    plan = dfprune.plan(model, method="moments", sparsity=0.5)
    assert plan.groups[0].predicted_error == 0.0
    nothing = np.zeros((1, 0))
    np.testing.assert_allclose(plan.apply(model)(nothing), model(nothing), rtol=1e-5)
