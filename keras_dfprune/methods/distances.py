"""Weight-sets into tiles of squared distances between pairs, exact where they are close.

`||W_i - W_j||^2 = ||W_i||^2 + ||W_j||^2 - 2 W_i . W_j` cancels for near-copies, so small ones are
recomputed in float64. All products are TensorFlow's and stay where TensorFlow places them.
"""

import contextlib
import dataclasses

import numpy as np
import tensorflow as tf

# Below this share of the norms the Gram formula in float32 has lost most of its digits.
_NEAR = 1e-3
# Elements of the differences that are held at once, as float64: 128 MiB.
_CHUNK = 2**24
# Near pairs for each row of a tile above which one float64 product of the whole tile is quicker
# than their differences (20 us a pair against 0.2 s a tile of 1,024 by 1,024 by 4,096).
_MANY = 16
# What float64 leaves of the Gram formula for equal vectors, relative to their norms.
_EQUAL = 1e-14


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """Some weight-sets, divided by their norms.

    Attributes:
        units: Int array, shape `(rows,)`: which ones.
        values: Float tensor, shape `(rows, coordinates)`.
        squares: Float tensor, shape `(rows,)`: their squared lengths.
    """

    units: np.ndarray
    values: tf.Tensor
    squares: tf.Tensor


class PairDistances:
    """Squared distances between weight-sets divided by their norms.

    Args:
        weight_sets: Float array, shape `(units, coordinates)`.
        norms: Float64 array, shape `(units,)`: what each weight-set is divided by; ones for the
            plain distance.
    """

    def __init__(self, weight_sets: np.ndarray, norms: np.ndarray):
        self._raw = weight_sets
        self._norms = norms
        self.units = len(weight_sets)

    def rows(self, units: np.ndarray) -> Rows:
        """The weight-sets of these units, for `between`."""
        values = np.empty((len(units), self._raw.shape[1]), np.float32)
        np.divide(self._raw[units], self._norms[units][:, None], out=values, casting="same_kind")
        values = tf.convert_to_tensor(values)
        return Rows(units, values, tf.reduce_sum(tf.square(values), axis=1))

    def between(self, first: Rows, second: Rows) -> tf.Tensor:
        """Squared distances of each of `first` from each of `second`.

        Returns:
            Float32 tensor, shape `(len(first.units), len(second.units))`, infinite where both are
            the same unit.
        """
        return _without_self(
            self._apart(first, second, -2 * _gram(first, second), -1.0), first, second
        )

    def _apart(self, first: Rows, second: Rows, twice: tf.Tensor, sign: float) -> tf.Tensor:
        """`||W_i + sign W_j||^2`, where `twice` is `2 sign W_i . W_j`."""
        sums = first.squares[:, None] + second.squares[None, :]
        matrix = tf.maximum(sums + twice, 0)
        near = tf.where(_without_self(matrix, first, second) < _NEAR * sums)
        if len(near) > _MANY * max(matrix.shape):
            exact = self._product(first, second, sign)
            return tf.where(matrix < _NEAR * sums, tf.cast(exact, matrix.dtype), matrix)
        step = max(1, _CHUNK // max(1, self._raw.shape[1]))
        for start in range(0, len(near), step):
            some = near[start : start + step]
            ours, others = some.numpy().T
            difference = self._vectors(first.units[ours]) + sign * self._vectors(
                second.units[others]
            )
            exact = tf.cast(tf.reduce_sum(tf.square(difference), axis=1), matrix.dtype)
            matrix = tf.tensor_scatter_nd_update(matrix, some, exact)
        return matrix

    def _product(self, first: Rows, second: Rows, sign: float) -> tf.Tensor:
        """The Gram formula in float64, around the mean: that of one cluster loses nothing."""
        ours, others = self._vectors(first.units), -sign * self._vectors(second.units)
        sums = _lengths(ours)[:, None] + _lengths(others)[None, :]
        centre = tf.reduce_mean(ours, axis=0)
        ours, others = ours - centre, others - centre
        product = tf.matmul(ours, others, transpose_b=True)
        squares = _lengths(ours)[:, None] + _lengths(others)[None, :] - 2 * product
        return tf.where(squares < _EQUAL * sums, tf.zeros_like(squares), squares)

    def _vectors(self, units: np.ndarray) -> tf.Tensor:
        rows = tf.cast(tf.convert_to_tensor(self._raw[units]), tf.float64)
        return rows / self._norms[units][:, None]


class RatioDistances(PairDistances):
    """Section 3.4: `||W'_i - W'_j|| / ||W'_i + W'_j|| + |b_i - b_j| / |b_i + b_j|`.

    A heuristic; squared, as it takes the place of a norm. W' has unit norm; 0/0 counts as 0, x/0
    as infinite.

    Args:
        weights: Float array, shape `(units, inputs)`: the weight-sets without their biases.
        norms: Float64 array, shape `(units,)`: their norms.
        biases: Float array, shape `(units,)`.
    """

    def __init__(self, weights: np.ndarray, norms: np.ndarray, biases: np.ndarray):
        super().__init__(weights, norms)
        self._bias = biases / norms

    def between(self, first: Rows, second: Rows) -> tf.Tensor:
        twice = 2 * _gram(first, second)
        apart = self._apart(first, second, -twice, -1.0)
        across = self._apart(first, second, twice, 1.0)
        ours = tf.constant(self._bias[first.units], tf.float64)[:, None]
        others = tf.constant(self._bias[second.units], tf.float64)[None, :]
        bias = _ratio(tf.abs(ours - others), tf.abs(ours + others))
        ratio = _ratio(tf.sqrt(apart), tf.sqrt(across)) + tf.cast(bias, apart.dtype)
        return _without_self(tf.square(ratio), first, second)


def _gram(first: Rows, second: Rows) -> tf.Tensor:
    with _full_precision():
        return tf.matmul(first.values, second.values, transpose_b=True)


def _lengths(vectors: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.square(vectors), axis=1)


def _without_self(matrix: tf.Tensor, first: Rows, second: Rows) -> tf.Tensor:
    """Infinity where a unit meets itself."""
    same, ours, others = np.intersect1d(first.units, second.units, return_indices=True)
    if not len(same):
        return matrix
    infinite = tf.fill([len(same)], matrix.dtype.as_numpy_dtype("inf"))
    return tf.tensor_scatter_nd_update(matrix, np.stack([ours, others], axis=1), infinite)


def _ratio(above: tf.Tensor, below: tf.Tensor) -> tf.Tensor:
    infinite = tf.fill(tf.shape(above), above.dtype.as_numpy_dtype("inf"))
    quotient = above / tf.where(below == 0, tf.ones_like(below), below)
    quotient = tf.where(below == 0, infinite, quotient)
    return tf.where(above == 0, tf.zeros_like(above), quotient)


@contextlib.contextmanager
def _full_precision():
    """Keeps newer GPUs from rounding the factors of a float32 product to ten bits (TF32)."""
    enabled = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(enabled)
