"""The moment method on hand-made groups: predicted errors, lossless removals, centroids."""

import dataclasses
import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_dfprune as dfprune
from keras_dfprune.methods.base import Context
from keras_dfprune.methods.merge import CentroidMerge, LinearMerge
from keras_dfprune.methods.moments.activated_units import equal_components
from keras_dfprune.methods.moments.moments import Moments
from keras_dfprune.methods.moments.preactivations import group_preactivations
from keras_dfprune.methods.moments.prior import PREACTIVATION_STD, read_prior
from keras_dfprune.methods.moments.remaining_units import RIDGE
from keras_dfprune.methods.moments.unit_moments import Preactivations, sample_moments
from keras_dfprune.rules.activations import Activation
from tests.support.groups import a_group


def unit_values(group, inputs):
    return group.activation.values(inputs @ group.weights.T + group.biases)


def change(group, merge, values):
    """Change of the outputs by the merge, shape `(samples, outputs)`."""
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


def test_surgery_halves_the_expected_error():
    """Half of the error, at most, of removal without surgery."""
    group = a_group(seed=3, units=30, inputs=4)
    curve = Moments(prior="isotropic", prior_scale=1.0).curve(group, Context())
    merge = curve.merge(15)
    seen = group_preactivations(group, read_prior("isotropic", 1.0), Context())
    moments = seen.moments(group.activation)
    removed, kernel = merge.removed, group.outgoing_matrix()
    rest = moments.second.numpy()[np.ix_(removed, removed)]
    assert curve.error(15) < 0.5 * np.sum(kernel[removed] * (rest @ kernel[removed]))


def test_full_matrices_stay_where_tensorflow_has_them(monkeypatch):
    """Only some rows are copied to the host: on a GPU copies of whole matrices are slow."""
    eager, copied = type(tf.constant(0.0)).__base__, []
    numpy = eager.numpy

    def spy(tensor):
        copied.append(math.prod(tensor.shape))
        return numpy(tensor)

    monkeypatch.setattr(eager, "numpy", spy)
    group = a_group(seed=5, units=150, inputs=40)
    seen = group_preactivations(group, read_prior("weights", "auto"), Context())
    curve = Moments().curve(group, Context())
    assert 150 * 50 < max(copied) < 150 * 75  # the columns that the order reads ahead
    samples = sample_moments(np.ones((4, 3)))
    matrices = [seen.covariance, curve.moments(70).second, samples.covariance]
    assert all(isinstance(matrix, tf.Tensor) for matrix in matrices)


def test_linear_units_of_low_rank_cost_nothing():
    group = a_group(seed=4, units=10, inputs=3, activation="linear")
    curve = Moments().curve(group, Context())
    assert np.all(curve.costs[:7] <= 1e-5 * curve.scale)  # the ridge is 1e-6
    inputs = np.random.default_rng(0).normal(size=(50, 3))
    values = unit_values(group, inputs)
    outputs = values @ group.outgoing_matrix()
    assert np.abs(change(group, curve.merge(7), values)).max() <= 1e-3 * np.abs(outputs).max()


def test_copies_are_removed_first_and_exactly():
    """Scaled copies, whose survivors are rebuilt later, whatever the prior."""
    group = a_group(seed=5, units=10)
    for part in (group.weights, group.constants):
        part[7], part[4], part[9] = 2.5 * part[2], 0.5 * part[2], 0.0
    curve = Moments().curve(group, Context())
    assert curve.lossless == 3
    assert np.all(curve.costs[:3] == 0.0)
    values = unit_values(group, np.random.default_rng(1).normal(size=(100, group.inputs)))
    for count in (1, 2, 3):
        np.testing.assert_allclose(change(group, curve.merge(count), values), 0.0, atol=1e-9)
    # The same result without the copies, whose share is in the survivor's outgoing weights.
    kept = curve.merge(3).kept
    smaller = a_group(
        units=len(kept),
        weight_sets=group.weight_sets[kept],
        outgoing=(curve.merge(3).absorb(group.outgoing_matrix())[:, None, :],),
        can_survive=np.ones(len(kept), bool),
    )
    scale = PREACTIVATION_STD**2  # any fixed scale: the automatic one averages over the copies
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


def test_units_that_may_not_survive_take_nothing_over():
    group = a_group(seed=6, can_survive=np.arange(12) != 3)
    merges = [Moments().curve(group, Context()).merge(count) for count in range(1, 11)]
    merges = [merge for merge in merges if 3 in merge.kept]
    assert merges
    for merge in merges:
        assert not np.any(merge.coefficients[list(merge.kept).index(3)])
    none = a_group(seed=6, can_survive=np.zeros(12, bool))
    assert not np.any(Moments().curve(none, Context()).merge(5).coefficients)


def test_moments_of_the_kept_units_are_handed_on():
    group = a_group(seed=11)
    method = Moments(prior="isotropic", prior_scale=1.0)
    curve = method.curve(group, Context())
    handed = curve.moments(4)
    values = unit_values(group, np.random.default_rng(0).normal(size=(100_000, 6)))
    sampled = sample_moments(values[:, curve.merge(4).kept])
    np.testing.assert_allclose(handed.mean, sampled.mean, atol=0.05)
    np.testing.assert_allclose(handed.second, sampled.second, atol=0.4)


def test_many_rows_replace_the_prior():
    group = a_group(seed=13)
    values = unit_values(group, np.random.default_rng(1).uniform(0, 1, size=(300, 6)))
    curve = Moments().curve(group, Context(values={"fc1": values}, rows=10**9))
    squares = np.sum(change(group, curve.merge(6), values) ** 2, axis=1)
    assert curve.error(6) == pytest.approx(squares.mean(), rel=1e-4)


def test_the_prior_fades_with_the_number_of_rows():
    """With half as many rows as units both count the same; positions of a row don't count."""
    group = a_group(seed=13)
    values = unit_values(group, np.random.default_rng(1).uniform(0, 1, size=(300, 6)))
    samples = sample_moments(values).second.numpy()

    def distance(rows):
        context = Context(values={"fc1": values}, rows=rows)
        curve = Moments().curve(group, context)
        return np.linalg.norm(curve.moments(0).second - samples)

    alone, half, most = distance(0), distance(6), distance(600)
    assert half == pytest.approx(0.5 * alone)
    assert most < 0.02 * alone


def test_moments_that_are_not_finite_leave_lossless_removals():
    def steep(inputs):
        return keras.ops.exp(inputs**2)

    activation = Activation("steep", steep, math.inf, False, False, 1.0)
    group = a_group(seed=15, activation=activation)
    for part in (group.weights, group.constants):
        part[5] = part[2]
    curve = Moments(prior_scale=100.0).curve(group, Context())
    assert list(curve.order) == [2]
    assert "steep" in curve.note


def test_a_prior_that_overflows_leaves_lossless_removals():
    curve = Moments(prior_scale=1e308).curve(a_group(seed=15), Context())
    assert len(curve.order) == 0 and "the moments of relu are not finite" in curve.note


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
    ],
)
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ValueError, match="Received"):
        Moments(**arguments)


def test_the_configuration_makes_the_same_method():
    prior = {"x": (0.5, np.array([0.1, 0.2]))}
    config = Moments(prior=prior, prior_scale=2).get_config()
    again = Moments(**json.loads(json.dumps(config)))
    assert again.get_config() == config
    assert Moments().get_config()["prior_scale"] == "auto"


def test_centroids_are_chosen_where_their_error_is_smaller():
    """Compared with least squares on the moments of old and new units, computed here."""
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
    normal = Preactivations(equal_components(both[None, :, 30]), tf.constant(covariance))
    moments = normal.moments(group.activation)
    second = np.pad(moments.second, [(0, 1), (0, 1)], constant_values=1.0)
    second[:-1, -1] = second[-1, :-1] = moments.mean
    second[16:-1, 16:-1] += RIDGE * np.mean(np.diagonal(second)[16:-1]) * np.eye(4)
    solution = np.linalg.solve(second[16:, 16:], second[16:, :16])
    np.testing.assert_allclose(merge.coefficients, solution[:-1], atol=1e-4)
    np.testing.assert_allclose(merge.offset, solution[-1], atol=1e-4)
    np.testing.assert_allclose(curve.moments(12).mean, second[16:-1, -1], rtol=1e-6)


def test_kept_units_stay_as_they_are_where_centroids_are_worse():
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
