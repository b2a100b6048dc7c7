"""Multiply and invert symmetric matrices, computing each half only once.

A matrix is halved again and again, so that nearly all of the work is in large products. TensorFlow
computes them, on the GPU where there is one.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

# Smaller matrices are not halved, because they are no faster in parts: bytes in a row of a product,
# and rows of an inverse.
_WHOLE_PRODUCT = 8192
_WHOLE_INVERSE = 512
# A pseudo-inverse takes eigenvalues below this share of the largest one as 0.
_NEGLIGIBLE = 1e-15


def gram(rows: tf.Tensor) -> tf.Tensor:
    """Return `rows @ rows.T`, shape `(n, n)`."""
    return symmetric_product(rows, rows)


def symmetric_product(left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    """Return `left @ right.T`, shape `(n, n)`, where that is known to be symmetric."""

    def block(rows: slice, columns: slice) -> tf.Tensor:
        return tf.matmul(left[rows], right[columns], transpose_b=True)

    rows = slice(0, left.shape[0])
    return assemble_symmetric(block, rows, _WHOLE_PRODUCT // left.dtype.size)


def assemble_symmetric(
    block: Callable[[slice, slice], tf.Tensor], part: slice, whole: int
) -> tf.Tensor:
    """Assemble a symmetric matrix from its blocks on and below the diagonal.

    Args:
        block: Function of rows and columns that returns that block, shape `(rows, columns)`.
        part: Rows, and columns, of the matrix.
        whole: Matrices with fewer rows are one block.
    """
    if part.stop - part.start < whole:
        return block(part, part)
    middle = (part.start + part.stop) // 2
    first, last = slice(part.start, middle), slice(middle, part.stop)
    upper, lower = (assemble_symmetric(block, half, whole) for half in (first, last))
    return _symmetric(upper, block(last, first), lower)


def add_ridge(matrix: tf.Tensor, ridge: float) -> tf.Tensor:
    """Add a ridge to the diagonal of a matrix."""
    return tf.linalg.set_diag(matrix, tf.linalg.diag_part(matrix) + ridge)


def submatrix(matrix: tf.Tensor, rows: np.ndarray, columns: np.ndarray) -> tf.Tensor:
    """Take some rows and columns of a matrix, in the given order."""
    return tf.gather(tf.gather(matrix, rows), columns, axis=1)


def is_finite(matrix: tf.Tensor) -> bool:
    """Return whether all entries are finite."""
    return bool(tf.reduce_all(tf.math.is_finite(matrix)))


def inverse(matrix: tf.Tensor) -> tf.Tensor:
    """Invert a symmetric matrix.

    A positive definite matrix is inverted by the Cholesky factors of its halves. (The error of an
    inversion by the inverses of the halves alone grows at least with the square of the condition
    number, and leaves no correct digit at 1e8.) Any other matrix gets its pseudo-inverse. The
    result is not finite if the matrix is not finite.
    """
    _, inverted = _factor_and_inverse(matrix, with_factor=False)
    if is_finite(inverted) or not is_finite(matrix):
        return inverted
    values, vectors = tf.linalg.eigh(matrix)
    size = tf.abs(values)
    known = size > _NEGLIGIBLE * tf.reduce_max(size)
    return tf.matmul(vectors * tf.where(known, 1.0 / values, 0.0), vectors, transpose_b=True)


def _factor_and_inverse(
    matrix: tf.Tensor, with_factor: bool = True
) -> tuple[tf.Tensor | None, tf.Tensor]:
    """Invert the lower Cholesky factor (None unless `with_factor`) and the matrix."""
    half = matrix.shape[0] // 2
    if half < _WHOLE_INVERSE // 2:
        identity = tf.eye(matrix.shape[0], dtype=matrix.dtype)
        factor = tf.linalg.triangular_solve(tf.linalg.cholesky(matrix), identity)
        return factor, tf.matmul(factor, factor, transpose_a=True)
    upper, upper_inverse = _factor_and_inverse(matrix[:half, :half])
    across = tf.matmul(matrix[half:, :half], upper, transpose_b=True)
    lower, lower_inverse = _factor_and_inverse(matrix[half:, half:] - gram(across))
    corner = -tf.matmul(lower, tf.matmul(across, upper))
    inverted = _symmetric(
        upper_inverse + gram(tf.transpose(corner)),
        tf.matmul(lower, corner, transpose_a=True),
        lower_inverse,
    )
    if not with_factor:
        return None, inverted
    return _blocks(upper, tf.zeros_like(tf.transpose(across)), corner, lower), inverted


def _symmetric(upper: tf.Tensor, corner: tf.Tensor, lower: tf.Tensor) -> tf.Tensor:
    return _blocks(upper, tf.transpose(corner), corner, lower)


def _blocks(a: tf.Tensor, b: tf.Tensor, c: tf.Tensor, d: tf.Tensor) -> tf.Tensor:
    return tf.concat([tf.concat([a, b], axis=1), tf.concat([c, d], axis=1)], axis=0)
