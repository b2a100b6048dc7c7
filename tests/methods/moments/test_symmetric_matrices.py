"""Products and inverses in halves against those of whole matrices, also near singularity."""

import numpy as np
import pytest
import tensorflow as tf

from keras_dfprune.methods.moments import symmetric_matrices


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(symmetric_matrices, "_WHOLE_PRODUCT", 4 * 8)  # four rows of float64
    monkeypatch.setattr(symmetric_matrices, "_WHOLE_INVERSE", 4)


@pytest.mark.parametrize("units", [0, 1, 3, 17, 40])
def test_product_and_inverse_are_those_of_the_whole_matrix(units):
    rows = np.random.default_rng(units).normal(size=(units, 50))
    found = symmetric_matrices.gram(tf.constant(rows)).numpy()
    np.testing.assert_allclose(found, rows @ rows.T, atol=1e-13)
    inverse = symmetric_matrices.inverse(tf.constant(found)).numpy()
    np.testing.assert_allclose(inverse @ found, np.eye(units), atol=1e-9)


def test_a_badly_conditioned_inverse_is_as_good_as_elimination():
    """Second moments of 60 units that 5 directions drive, with the surgery's ridge."""
    random = np.random.default_rng(0)
    values = np.maximum(random.normal(size=(60, 5)) @ random.normal(size=(5, 40)), 0.0)
    second = values @ values.T / 40
    second += 1e-6 * np.mean(np.diagonal(second)) * np.eye(60)
    found = symmetric_matrices.inverse(tf.constant(second)).numpy()
    wanted = np.linalg.inv(second)
    assert np.linalg.norm(found - wanted) < 1e-7 * np.linalg.norm(wanted)


@pytest.mark.parametrize("odd", [-2.0, 0.0])
def test_other_symmetric_matrices_have_a_pseudo_inverse(odd):
    matrix = np.diag([1.0, odd, 3.0, 4.0, 5.0, 6.0])
    wanted = np.diag([1.0, odd and 1.0 / odd, 1.0 / 3.0, 0.25, 0.2, 1.0 / 6.0])
    np.testing.assert_allclose(symmetric_matrices.inverse(tf.constant(matrix)), wanted, atol=1e-15)


def test_the_inverse_of_a_matrix_that_is_not_finite_is_not_finite():
    matrix = np.diag([1.0, np.nan, 3.0])
    assert not np.all(np.isfinite(symmetric_matrices.inverse(tf.constant(matrix))))
