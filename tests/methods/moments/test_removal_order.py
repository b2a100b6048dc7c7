"""The removal order against a refit for every candidate, and least squares with its ridge."""

import numpy as np
import pytest

from keras_dfprune.methods.moments import removal_order
from keras_dfprune.methods.moments.least_squares import LeastSquares, ridge_of
from keras_dfprune.methods.moments.outgoing_weights import OutgoingWeights

UNITS_PER_OUTPUT = "keras_dfprune.methods.moments.outgoing_weights._UNITS_PER_OUTPUT"


def a_layer(seed, units=9, outputs=4, samples=60):
    """Second moments of `(h, 1)` and outgoing weights."""
    generator = np.random.default_rng(seed)
    mixing = np.eye(units) + 0.4 * generator.normal(size=(units, units))
    values = np.maximum(generator.normal(size=(samples, units)) @ mixing, 0.0)
    values = np.concatenate([values, np.ones((samples, 1))], axis=1)
    return values.T @ values / samples, generator.normal(size=(units, outputs)), values


def spread(second):
    """Second moments that remain when the constant, the last feature, takes over the means."""
    return second[:-1, :-1] - np.outer(second[:-1, -1], second[-1, :-1])


def refit_error(second, removed, outgoing):
    """Expected squared change when all other features take over by least squares."""
    left = [k for k in range(len(second)) if k not in removed]
    cross = second[np.ix_(left, removed)]
    rest = second[np.ix_(removed, removed)]
    rest = rest - cross.T @ np.linalg.solve(second[np.ix_(left, left)], cross)
    return np.sum(outgoing[removed] * (rest @ outgoing[removed]))


def brute_force(second, outgoing):
    """Order and costs with a refit for every candidate at every step."""
    left, order, errors = list(range(len(outgoing))), [], [0.0]
    while len(left) > 1:
        trials = [refit_error(second, order + [unit], outgoing) for unit in left]
        order.append(left.pop(int(np.argmin(trials))))
        errors.append(min(trials))
    return order, np.diff(errors)


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("block", [1, 3, 64])
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("units_per_output", [0, 16])
def test_the_order_is_that_of_a_refit_for_every_candidate(
    units_per_output, seed, block, constant, monkeypatch
):
    monkeypatch.setattr(
        UNITS_PER_OUTPUT, units_per_output
    )  # the outgoing weights or their products
    second, outgoing, _ = a_layer(seed)
    second, left = (second, spread(second)) if constant else (second[:-1, :-1],) * 2
    greedy = removal_order.greedy_order(left, OutgoingWeights(outgoing), ridge=0.0, block=block)
    order, costs = brute_force(second, outgoing)
    assert list(greedy.units) == order
    np.testing.assert_allclose(greedy.costs, costs, rtol=1e-7, atol=1e-10)


def test_block_size_and_columns_read_ahead_do_not_change_the_order(monkeypatch):
    second, outgoing, _ = a_layer(seed=4, units=150, outputs=20, samples=400)
    orders = []
    for block, ahead in [(1, 64), (7, 1), (64, 5), (64, 1000)]:
        monkeypatch.setattr(removal_order, "_AHEAD", ahead)
        found = removal_order.greedy_order(
            spread(second), OutgoingWeights(outgoing), ridge=1e-6, block=block
        )
        orders.append(found)
    for other in orders[1:]:
        np.testing.assert_array_equal(orders[0].units, other.units)
        np.testing.assert_allclose(orders[0].costs, other.costs, rtol=1e-6)


@pytest.mark.parametrize("units_per_output", [0, 16])
def test_the_reported_error_is_that_on_the_samples(units_per_output, monkeypatch):
    monkeypatch.setattr(UNITS_PER_OUTPUT, units_per_output)
    second, outgoing, values = a_layer(seed=5)
    removed, features = np.array([4, 0, 7]), np.array([1, 2, 3, 5, 6, 8, 9])  # 9 is the constant
    within, across = second[np.ix_(features, features)], second[np.ix_(features, removed)]
    free = {"nearest": np.zeros(3, int), "scale": np.zeros(3), "ridge": 0.0}
    squares = LeastSquares(within, across, **free)
    rebuilt = values[:, features] @ squares.coefficients
    change = (values[:, removed] - rebuilt) @ outgoing[removed]
    square = np.mean(np.sum((values[:, removed] @ outgoing[removed]) ** 2, axis=1))
    assert OutgoingWeights(outgoing).expected_square(second[:-1, :-1], removed) == pytest.approx(
        square
    )
    error = squares.error(square, OutgoingWeights(outgoing), removed)
    square = np.mean((values[:, removed] @ outgoing[removed, 0]) ** 2)
    alone = squares.error(square, OutgoingWeights(outgoing[:, :1]), removed)  # fewer outputs
    assert alone == pytest.approx(np.mean(change[:, 0] ** 2), abs=1e-9)
    assert error == pytest.approx(np.mean(np.sum(change**2, axis=1)))
    assert error == pytest.approx(refit_error(second, list(removed), outgoing))


def test_the_ridge_pulls_towards_its_centre():
    second, _, _ = a_layer(seed=6)
    ridge = ridge_of(second[:9, :9], 1e9)
    assert ridge == pytest.approx(1e9 * np.mean(np.diagonal(second)[:9]))
    within, across = second[np.ix_([3, 5], [3, 5])], second[[3, 5], :1]
    merge = {"nearest": np.array([1]), "scale": np.array([2.0])}
    pulled = LeastSquares(within, across.copy(), **merge, ridge=ridge)
    np.testing.assert_allclose(pulled.coefficients, [[0.0], [2.0]], atol=1e-6)
    outgoing = OutgoingWeights([[1.0, -3.0]])  # the error is that of the moments, without the ridge
    left = second[0, 0] - 4.0 * across[1, 0] + 4.0 * within[1, 1]
    assert pulled.error(10.0 * second[0, 0], outgoing, np.array([0])) == pytest.approx(10.0 * left)
    few = LeastSquares(within, np.tile(across, 3), nearest=np.ones(3, int),
                               scale=np.full(3, 2.0), ridge=ridge)  # fmt: skip
    ones = OutgoingWeights(np.ones((3, 1)))
    assert few.error(9.0 * second[0, 0], ones, np.arange(3)) == pytest.approx(9.0 * left)


def test_copies_in_the_moments_do_not_blow_the_coefficients_up():
    """Two identical features make `second` singular; the ridge keeps the paper's merge."""
    _, _, values = a_layer(seed=8)
    values[:, 2] = values[:, 1]
    values[:, 3] = values[:, 1] * (1 + 1e-9)
    second = spread(values.T @ values / len(values))
    merge = {"nearest": np.array([0]), "scale": np.array([1.0])}
    features, ridge = np.array([1, 2, 4, 5, 6, 7, 8, 0]), ridge_of(second, 1e-6)
    within = second[np.ix_(features, features)]
    across = second[features, 3:4]
    solution = LeastSquares(within, across, **merge, ridge=ridge).coefficients
    assert np.max(np.abs(solution)) <= 1.0 + 1e-6
    greedy = removal_order.greedy_order(second, OutgoingWeights(np.eye(9)), ridge=ridge)
    assert np.all(np.isfinite(greedy.costs))
    assert set(greedy.units[:2]) <= {1, 2, 3}  # two of the three copies go first
    np.testing.assert_allclose(greedy.costs[:2], 0.0, atol=1e-5)


def test_units_that_are_zero_under_the_prior_have_an_order():
    for second in (np.zeros((3, 3)), np.diag([1e-300] * 3)):
        found = removal_order.greedy_order(
            second, OutgoingWeights(np.eye(3)), ridge=ridge_of(second, 1e-6)
        )
        assert sorted(found.units) == [0, 1] and np.all(found.costs < 1e-5)
