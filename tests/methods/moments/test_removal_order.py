"""The greedy order against a refit for every candidate, and least squares with its ridge."""

import numpy as np
import pytest

from keras_dfprune.methods.moments import removal_order
from keras_dfprune.methods.moments.least_squares import LeastSquares, ridge_of
from keras_dfprune.methods.moments.outgoing_weights import Outgoing

FEW_OUTPUTS = "keras_dfprune.methods.moments.outgoing_weights._FEW_OUTPUTS"


def a_layer(seed, units=9, outputs=4, samples=60):
    """Second moments of `(h, 1)` and outgoing weights."""
    generator = np.random.default_rng(seed)
    mixing = np.eye(units) + 0.4 * generator.normal(size=(units, units))
    values = np.maximum(generator.normal(size=(samples, units)) @ mixing, 0.0)
    values = np.concatenate([values, np.ones((samples, 1))], axis=1)
    return values.T @ values / samples, generator.normal(size=(units, outputs)), values


def spread(second):
    """What is left to explain once the constant, the last feature, has taken its part."""
    return second[:-1, :-1] - np.outer(second[:-1, -1], second[-1, :-1])


def refit_error(second, removed, outgoing):
    """Expected squared change when all that is left takes over by least squares."""
    left = [k for k in range(len(second)) if k not in removed]
    cross = second[np.ix_(left, removed)]
    rest = second[np.ix_(removed, removed)]
    rest = rest - cross.T @ np.linalg.solve(second[np.ix_(left, left)], cross)
    return np.sum(outgoing[removed] * (rest @ outgoing[removed]))


def brute_force(second, outgoing):
    """Every candidate refitted at every step."""
    left, order, errors = list(range(len(outgoing))), [], [0.0]
    while len(left) > 1:
        trials = [refit_error(second, order + [unit], outgoing) for unit in left]
        order.append(left.pop(int(np.argmin(trials))))
        errors.append(min(trials))
    return order, np.diff(errors)


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("block", [1, 3, 64])
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("few", [0, 16])
def test_the_order_is_that_of_a_refit_for_every_candidate(few, seed, block, constant, monkeypatch):
    monkeypatch.setattr(FEW_OUTPUTS, few)  # the outgoing weights or their products
    second, outgoing, _ = a_layer(seed)
    second, left = (second, spread(second)) if constant else (second[:-1, :-1],) * 2
    greedy = removal_order.greedy_order(left, Outgoing(outgoing), ridge=0.0, block=block)
    order, costs = brute_force(second, outgoing)
    assert list(greedy.order) == order
    np.testing.assert_allclose(greedy.costs, costs, rtol=1e-7, atol=1e-10)


def test_neither_blocks_nor_columns_read_ahead_change_the_order(monkeypatch):
    second, outgoing, _ = a_layer(seed=4, units=150, outputs=20, samples=400)
    orders = []
    for block, ahead in [(1, 64), (7, 1), (64, 5), (64, 1000)]:
        monkeypatch.setattr(removal_order, "_AHEAD", ahead)
        found = removal_order.greedy_order(
            spread(second), Outgoing(outgoing), ridge=1e-6, block=block
        )
        orders.append(found)
    for other in orders[1:]:
        np.testing.assert_array_equal(orders[0].order, other.order)
        np.testing.assert_allclose(orders[0].costs, other.costs, rtol=1e-6)


@pytest.mark.parametrize("few", [0, 16])
def test_the_reported_error_is_what_happens(few, monkeypatch):
    monkeypatch.setattr(FEW_OUTPUTS, few)
    second, outgoing, values = a_layer(seed=5)
    removed, features = np.array([4, 0, 7]), np.array([1, 2, 3, 5, 6, 8, 9])  # 9 is the constant
    within, across = second[np.ix_(features, features)], second[np.ix_(features, removed)]
    free = {"nearest": np.zeros(3, int), "scale": np.zeros(3), "ridge": 0.0}
    squares = LeastSquares(within, across, **free)
    rebuilt = values[:, features] @ squares.coefficients
    change = (values[:, removed] - rebuilt) @ outgoing[removed]
    square = np.mean(np.sum((values[:, removed] @ outgoing[removed]) ** 2, axis=1))
    assert Outgoing(outgoing).square(second[:-1, :-1], removed) == pytest.approx(square)
    error = squares.error(square, Outgoing(outgoing), removed)
    square = np.mean((values[:, removed] @ outgoing[removed, 0]) ** 2)
    alone = squares.error(square, Outgoing(outgoing[:, :1]), removed)  # fewer outputs
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
    outgoing = Outgoing([[1.0, -3.0]])  # the error is that of the moments, without the ridge
    left = second[0, 0] - 4.0 * across[1, 0] + 4.0 * within[1, 1]
    assert pulled.error(10.0 * second[0, 0], outgoing, np.array([0])) == pytest.approx(10.0 * left)
    few = LeastSquares(within, np.tile(across, 3), nearest=np.ones(3, int),
                               scale=np.full(3, 2.0), ridge=ridge)  # fmt: skip
    ones = Outgoing(np.ones((3, 1)))
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
    greedy = removal_order.greedy_order(second, Outgoing(np.eye(9)), ridge=ridge)
    assert np.all(np.isfinite(greedy.costs))
    assert set(greedy.order[:2]) <= {1, 2, 3}  # two of the three copies go first
    np.testing.assert_allclose(greedy.costs[:2], 0.0, atol=1e-5)


def test_units_that_are_nothing_under_the_prior_have_an_order_too():
    for second in (np.zeros((3, 3)), np.diag([1e-300] * 3)):
        found = removal_order.greedy_order(
            second, Outgoing(np.eye(3)), ridge=ridge_of(second, 1e-6)
        )
        assert sorted(found.order) == [0, 1] and np.all(found.costs < 1e-5)
