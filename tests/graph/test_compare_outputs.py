"""Differences between two outputs: numbers of all kinds, strings, NaN and infinities."""

import math

import numpy as np
import pytest
import tensorflow as tf

from keras_dfprune.graph.compare_outputs import compare_output

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
