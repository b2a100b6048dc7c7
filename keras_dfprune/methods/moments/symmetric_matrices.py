"""Symmetric matrices: products and inverses that compute each half once, as large products.

`tf.linalg.inv` of 2,048 rows takes three times as long as this on two CPU cores. Halves of halves,
in TensorFlow, so on the GPU where there is one.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

# Where halving begins, for smaller matrices are no faster in parts: bytes in a row of a product,
# and rows of an inverse.
_WHOLE_PRODUCT = 8192
_WHOLE_INVERSE = 512
# Eigenvalues below this share of the largest one are 0 to a pseudo-inverse.
_NOTHING = 1e-15


def gram(rows: tf.Tensor) -> tf.Tensor:
    """`rows @ rows.T`, shape `(n, n)`."""
    return product(rows, rows)


def product(left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    """`left @ right.T`, shape `(n, n)`, where that is known to be symmetric."""

    def block(rows: slice, columns: slice) -> tf.Tensor:
        return tf.matmul(left[rows], right[columns], transpose_b=True)

    return by_halves(block, slice(0, left.shape[0]), _WHOLE_PRODUCT // left.dtype.size)


def by_halves(block: Callable[[slice, slice], tf.Tensor], part: slice, whole: int) -> tf.Tensor:
    """A symmetric matrix from blocks on the diagonal and below it.

    Args:
        block: From rows and columns to that block, shape `(rows, columns)`.
        part: Which rows, and columns, the matrix has.
        whole: Rows from which on it is halved.
    """
    if part.stop - part.start < whole:
        return block(part, part)
    middle = (part.start + part.stop) // 2
    first, last = slice(part.start, middle), slice(middle, part.stop)
    upper, lower = (by_halves(block, one, whole) for one in (first, last))
    return _symmetric(upper, block(last, first), lower)


def with_ridge(matrix: tf.Tensor, ridge: float) -> tf.Tensor:
    """The matrix with a ridge added to its diagonal."""
    return tf.linalg.set_diag(matrix, tf.linalg.diag_part(matrix) + ridge)


def select(matrix: tf.Tensor, rows: np.ndarray, columns: np.ndarray) -> tf.Tensor:
    """Some rows and columns, in the order given."""
    return tf.gather(tf.gather(matrix, rows), columns, axis=1)


def is_finite(matrix: tf.Tensor) -> bool:
    """Whether all entries are."""
    return bool(tf.reduce_all(tf.math.is_finite(matrix)))


def inverse(matrix: tf.Tensor) -> tf.Tensor:
    """The inverse of a positive definite matrix, or the pseudo-inverse of any symmetric one.

    By Cholesky factors, in halves. Without the factors, by the halves' inverses alone, the error
    grows with the square of the condition number and more: nothing is left of it at 1e8. Of a
    matrix that is not finite it isn't, either.
    """
    _, found = _factor_and_inverse(matrix, joined=False)
    if is_finite(found) or not is_finite(matrix):
        return found
    values, vectors = tf.linalg.eigh(matrix)
    size = tf.abs(values)
    known = size > _NOTHING * tf.reduce_max(size)
    return tf.matmul(vectors * tf.where(known, 1.0 / values, 0.0), vectors, transpose_b=True)


def _factor_and_inverse(
    matrix: tf.Tensor, joined: bool = True
) -> tuple[tf.Tensor | None, tf.Tensor]:
    """The inverse of the lower Cholesky factor (None if not `joined`), and that of the matrix."""
    half = matrix.shape[0] // 2
    if half < _WHOLE_INVERSE // 2:
        identity = tf.eye(matrix.shape[0], dtype=matrix.dtype)
        factor = tf.linalg.triangular_solve(tf.linalg.cholesky(matrix), identity)
        return factor, tf.matmul(factor, factor, transpose_a=True)
    upper, upper_inverse = _factor_and_inverse(matrix[:half, :half])
    across = tf.matmul(matrix[half:, :half], upper, transpose_b=True)
    lower, lower_inverse = _factor_and_inverse(matrix[half:, half:] - gram(across))
    corner = -tf.matmul(lower, tf.matmul(across, upper))
    found = _symmetric(
        upper_inverse + gram(tf.transpose(corner)),
        tf.matmul(lower, corner, transpose_a=True),
        lower_inverse,
    )
    factor = _blocks(upper, tf.zeros_like(tf.transpose(across)), corner, lower) if joined else None
    return factor, found


def _symmetric(upper: tf.Tensor, corner: tf.Tensor, lower: tf.Tensor) -> tf.Tensor:
    return _blocks(upper, tf.transpose(corner), corner, lower)


def _blocks(a: tf.Tensor, b: tf.Tensor, c: tf.Tensor, d: tf.Tensor) -> tf.Tensor:
    return tf.concat([tf.concat([a, b], axis=1), tf.concat([c, d], axis=1)], axis=0)
