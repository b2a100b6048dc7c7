"""Smooth noise varies slowly over positions, has unit variance, and may be long."""

import numpy as np
import pytest

from keras_dfprune.inputs.smooth_noise import smooth_noise


def correlation(noise, axis, steps):
    first, second = (
        np.take(noise, np.arange(start, noise.shape[axis] - steps + start), axis)
        for start in (0, steps)
    )
    return np.corrcoef(first.ravel(), second.ravel())[0, 1]


@pytest.mark.parametrize("shape", [(60, 2), (24, 28, 3), (9, 12, 10, 1)])
def test_neighbours_are_alike_and_distant_positions_independent(shape):
    noise = smooth_noise(shape, 200, np.random.default_rng(0))
    assert noise.shape == (200, *shape) and noise.dtype == np.float32
    assert noise.std() == pytest.approx(1.0, rel=1e-4) and abs(noise.mean()) < 0.1
    for axis in range(1, len(shape)):
        assert correlation(noise, axis, 1) > 0.8
        assert abs(correlation(noise, axis, 8)) < 0.2
    assert np.abs(np.corrcoef(noise.reshape(200, -1)[:20]) - np.eye(20)).max() < 0.9


def test_the_features_of_a_vector_are_independent():
    noise = smooth_noise((50,), 400, np.random.default_rng(1))
    assert abs(correlation(noise, 1, 1)) < 0.05


def test_long_recordings_take_memory_in_proportion_to_their_length():
    """Ten seconds of sound: a matrix of lengths by lengths would have 25 gigabytes."""
    noise = smooth_noise((160_000, 1), 2, np.random.default_rng(2))
    assert noise.shape == (2, 160_000, 1) and correlation(noise, 1, 1) > 0.8
