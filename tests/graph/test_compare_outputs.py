"""Differences between two outputs: numbers of all kinds, strings, NaN and infinities."""

import math

import numpy as np
import pytest
import tensorflow as tf

from keras_dfprune.graph.compare_outputs import change_at_most, compare_output

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("expected", "received", "absolute", "relative"),
    [
        ([1.0, -200.0], [1.0, -201.0], 1.0, 0.005),
        ([0.0, 0.0], [0.0, 0.5], 0.5, 0.5),  # no scale
        ([3, 4], [3, 2], 2.0, 0.5),
        ([True], [False], 1.0, 1.0),
        ([], [], 0.0, 0.0),
        ([[1.0, 2.0]], [1.0, 2.0], INF, INF),
        ([NAN, INF, 2.0], [NAN, INF, 3.0], 1.0, 0.5),
        ([1.0, INF], [1.0, -INF], INF, INF),
        ([1.0, INF], [1.0, NAN], INF, INF),
        ([1.0, 2.0], [1.0, NAN], INF, INF),
        (["a", "ä"], [b"a", "ä".encode()], 0.0, 0.0),
        (["a", "b"], ["a", "c"], INF, INF),
        (["a"], [1.0], INF, INF),
    ],
)
def test_differences(expected, received, absolute, relative):
    expected, received = (
        np.array(values, object if values and isinstance(values[0], str | bytes) else None)
        for values in (expected, received)
    )
    difference = compare_output(expected, received)
    assert difference.absolute == absolute
    assert difference.relative == pytest.approx(relative)


def test_differences_of_half_precision_are_taken_in_float64():
    expected = tf.constant([6e4, 1.0], "float16").numpy()
    assert compare_output(expected, -expected).absolute == 2 * float(expected[0])
    expected = tf.constant([2.0, 1.0], "bfloat16").numpy()
    assert compare_output(expected, expected + expected).relative == 1.0


def test_values_that_are_not_finite_may_count_as_equal():
    expected, received = np.array([NAN, INF, 2.0]), np.array([INF, -INF, 3.0])
    assert compare_output(expected, received, strict_nonfinite=False).absolute == 1.0
    received[0] = 0.0
    assert compare_output(expected, received, strict_nonfinite=False).absolute == INF


def test_the_bound_counts_rare_rows_and_entries_that_vary_little():
    random = np.random.default_rng(0)
    wide = random.normal(size=(400, 3)) * [10.0, 1.0, 0.1]
    variances = wide.var(axis=0)
    alike = wide + 0.1 * wide.std(axis=0) * random.choice([-1, 1], wide.shape)
    assert change_at_most(wide, alike, variances) == pytest.approx(0.01, rel=1e-3)
    # 1 % of all rows change a hundred times more: that a few rows don't show them is allowed for.
    rare = np.where(np.arange(400)[:, None] % 100 == 0, wide + 10 * (alike - wide), alike)
    mean = float(np.mean((rare - wide) ** 2 / variances))
    assert mean == pytest.approx(0.0199) and change_at_most(wide, rare, variances) > 1.5 * mean
    # The least entry changes entirely: it is 0.003 % of the variance, and a third of the entries.
    lost = wide * [1.0, 1.0, 0.0]
    assert 0.3 < change_at_most(wide, lost, variances) < 0.5
    assert change_at_most(wide, np.where(wide > 0, NAN, wide), variances) == INF
    constant = np.ones((4, 1))
    assert change_at_most(constant, constant, np.zeros(1)) == 0.0
    assert change_at_most(constant, constant + 1, np.zeros(1)) == INF
    assert change_at_most(constant * NAN, constant, np.zeros(1)) is None
