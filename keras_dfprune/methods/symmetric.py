"""Symmetric matrices: products and inverses that compute each half once, as large products.

`tf.linalg.inv` of 2,048 rows takes three times as long as this on two CPU cores. Halves of halves,
in TensorFlow, so on the GPU where there is one.
"""

import numpy as np
import tensorflow as tf

# Rows from which on a matrix is halved: smaller ones are no faster in parts.
_WHOLE_PRODUCT = 1024
_WHOLE_INVERSE = 512


def gram(rows: tf.Tensor) -> tf.Tensor:
    """`rows @ rows.T`, shape `(n, n)`."""
    return product(rows, rows)


def product(left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    """`left @ right.T`, shape `(n, n)`, where that is known to be symmetric."""
    half = left.shape[0] // 2
    if half < _WHOLE_PRODUCT // 2:
        return tf.matmul(left, right, transpose_b=True)
    corner = tf.matmul(left[half:], right[:half], transpose_b=True)
    return _symmetric(
        product(left[:half], right[:half]), corner, product(left[half:], right[half:])
    )


def inverse(matrix: tf.Tensor) -> tf.Tensor:
    """The inverse of a positive definite matrix, or the pseudo-inverse of any symmetric one.

    By Cholesky factors, in halves. Without the factors, by the halves' inverses alone, the error
    grows with the square of the condition number and more: nothing is left of it at 1e8.
    """
    _, found = _factor_and_inverse(matrix, joined=False)
    if bool(tf.reduce_all(tf.math.is_finite(found))):
        return found
    return tf.constant(np.linalg.pinv(matrix.numpy(), hermitian=True))


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
