"""Compute squared distances between weight-sets in tiles, exactly where they are small.

`||W_i - W_j||^2 = ||W_i||^2 + ||W_j||^2 - 2 W_i . W_j` needs only a matrix product, but cancels
for near copies. Their distances are computed again in float64. Everything runs in TensorFlow, in
eager mode or in a graph, on the device that TensorFlow chooses.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_dfprune.methods.full_precision import full_precision
from keras_dfprune.methods.saliency.blocks import (
    Block,
    as_column,
    float64_vectors,
    squared_lengths,
    sums_of_squares,
)

# Squared distance, as a share of `||W_i||^2 + ||W_j||^2`, below which two units count as near: the
# product in float32 has then lost most of its digits.
NEAR = 4e-3
# Largest absolute power of two of a norm at which weight-sets stay as they are. Float32 then has
# room for their squares, and for squares of coordinates a billion times smaller.
_LARGEST_POWER = 24
# Elements of the differences that are held at a time, as float64: 128 MiB.
_ELEMENTS_AT_ONCE = 2**24
# Near pairs for each row of a tile above which one float64 product of the whole tile is faster than
# the differences of the pairs: docs/research/measurements.md.
_NEAR_PAIRS_PER_ROW = 2
# Squared length of a centre, relative to the shortest vector's, above which the vectors would lose
# digits when the centre is subtracted.
_LONGEST_CENTRE = 16
# Rounding error of a squared distance by product in float64, relative to the vectors' squares.
_ROUNDING = 1e-14


class PairDistances:
    """Squared distances between weight-sets, divided by their norms or not.

    Args:
        parts: Float arrays, shape `(units, coordinates of the part)`: the weight-sets.
        norms: Float64 array, shape `(units,)`: their norms.
        normalize: Whether weight-sets are divided by their norms. Those of norm 0 never are.
    """

    def __init__(self, parts: Sequence[np.ndarray], norms: np.ndarray, normalize: bool):
        self._parts = parts
        self._norms = np.where(normalize & (norms > 0), norms, 1.0)
        self._lengths = norms / self._norms
        self.units = len(norms)

    def block(self, first: int, end: int) -> Block:
        """Return the weight-sets of the units from `first` to `end - 1`."""
        dtype = np.result_type(*self._parts)
        columns = [part[first:end].T for part in self._parts]
        shape = (sum(map(len, columns)), end - first)
        values = np.concatenate(columns, out=np.empty(shape, dtype))
        norms = self._norms[first:end]
        powers = _powers_of_two(norms, dtype)
        if np.any(np.abs(powers) > _LARGEST_POWER):  # powers of two round nothing
            values *= (2.0**-powers).astype(dtype)
            norms = norms * 2.0**-powers
        return Block(
            units=tf.range(first, end),
            values=tf.convert_to_tensor(values),
            norms=tf.constant(norms),
            inverse_norms=tf.cast(1 / norms, tf.float32),
            squares=tf.cast(tf.square(tf.constant(self._lengths[first:end])), tf.float32),
            biases=tf.constant(self._bias(first, end)),
        )

    def between(self, first: Block, second: Block) -> tf.Tensor:
        """Compute the squared distance of each unit of one block from each unit of another.

        Returns:
            Float32 tensor, shape `(rows of first, rows of second)`: infinite where both are the
            same unit.
        """
        return _squared_distances(first, second, _twice_gram(first, second))

    def _bias(self, first: int, end: int) -> np.ndarray:
        return np.zeros(end - first)


class RatioDistances(PairDistances):
    """Distances of Section 3.4: `||W'_i - W'_j|| / ||W'_i + W'_j|| + |b_i - b_j| / |b_i + b_j|`.

    A heuristic, squared because it takes the place of a norm. `W'` has unit norm. 0/0 counts as 0
    and x/0 as infinite.

    Args:
        parts: Float arrays, shape `(units, coordinates of the part)`: the weight-sets without
            their biases.
        norms: Float64 array, shape `(units,)`: their norms.
        biases: Float array, shape `(units,)`.
    """

    def __init__(self, parts: Sequence[np.ndarray], norms: np.ndarray, biases: np.ndarray):
        super().__init__(parts, norms, normalize=True)
        self._biases = biases / self._norms

    def between(self, first: Block, second: Block) -> tf.Tensor:
        twice_gram = _twice_gram(first, second)
        distances = _squared_distances(first, second, twice_gram)
        lengths_of_sums = _squared_lengths_of_sums(first, second, twice_gram)
        weights = _quotient(tf.sqrt(distances), tf.sqrt(lengths_of_sums))
        left, right = as_column(first.biases), second.biases
        biases = _quotient(tf.abs(left - right), tf.abs(left + right))
        return tf.square(weights + tf.cast(biases, weights.dtype))

    def _bias(self, first: int, end: int) -> np.ndarray:
        return self._biases[first:end].astype(np.float64)


def _powers_of_two(norms: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return the exponents of the powers of two next above the norms, within those of a dtype."""
    limit = -np.finfo(dtype).minexp
    return np.clip(np.frexp(norms)[1], -limit, limit).astype(np.float64)


def _twice_gram(first: Block, second: Block) -> tf.Tensor:
    """Return twice the inner products of the divided weight-sets, in float32."""
    left, right = (tf.cast(block.values, tf.float32) for block in (first, second))
    with full_precision():
        product = tf.matmul(left, right, transpose_a=True)
    product *= as_column(first.inverse_norms)
    return product * (2 * second.inverse_norms)


def _squared_distances(first: Block, second: Block, twice_gram: tf.Tensor) -> tf.Tensor:
    """Return `||W_i - W_j||^2`, infinite where both are the same unit."""
    tile = exclude_same_unit(sums_of_squares(first, second) - twice_gram, first, second)
    return _with_near_pairs_in_float64(tile, first, second, sign=-1.0)


def _squared_lengths_of_sums(first: Block, second: Block, twice_gram: tf.Tensor) -> tf.Tensor:
    """Return `||W_i + W_j||^2`."""
    tile = sums_of_squares(first, second) + twice_gram
    return _with_near_pairs_in_float64(tile, first, second, sign=1.0)


def exclude_same_unit(tile: tf.Tensor, first: Block, second: Block) -> tf.Tensor:
    """Set a tile to infinity where both are the same unit."""
    left, right = first.units, second.units
    overlap = tf.logical_and(
        tf.reduce_min(left) <= tf.reduce_max(right), tf.reduce_min(right) <= tf.reduce_max(left)
    )

    def excluded() -> tf.Tensor:
        return tf.where(as_column(left) == right, tf.constant(np.inf, tile.dtype), tile)

    return tf.cond(overlap, excluded, lambda: tile)


def _with_near_pairs_in_float64(
    tile: tf.Tensor, first: Block, second: Block, sign: float
) -> tf.Tensor:
    """Compute `||W_i + sign W_j||^2` again in float64 where it is small.

    If a tile has many near pairs, one float64 product of the whole tile is faster than their
    differences.
    """

    def recomputed() -> tf.Tensor:
        near = tile < NEAR * sums_of_squares(first, second)  # also what rounding left below 0
        pairs = tf.where(near)

        def by_product() -> tf.Tensor:
            exact = _by_product_in_float64(first, second, sign)
            return tf.where(near, tf.cast(exact, tile.dtype), tile)

        def by_differences() -> tf.Tensor:
            return _with_differences(tile, first, second, sign, pairs)

        many = tf.shape(pairs)[0] > _NEAR_PAIRS_PER_ROW * tf.reduce_max(tf.shape(tile))
        return tf.cond(many, by_product, by_differences)

    largest = tf.reduce_max(first.squares) + tf.reduce_max(second.squares)
    return tf.cond(tf.reduce_min(tile) < NEAR * largest, recomputed, lambda: tile)


def _with_differences(
    tile: tf.Tensor, first: Block, second: Block, sign: float, pairs: tf.Tensor
) -> tf.Tensor:
    """Set some entries of a tile to `||W_i + sign W_j||^2`, computed from the differences.

    Args:
        tile: Float32 tensor, shape `(rows of first, rows of second)`.
        first: Block of the rows.
        second: Block of the columns.
        sign: 1 or -1.
        pairs: Int64 tensor, shape `(pairs, 2)`: rows and columns of the entries.
    """
    step = tf.maximum(1, _ELEMENTS_AT_ONCE // tf.maximum(1, tf.shape(first.values)[0]))

    def with_next(start: tf.Tensor, tile: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        chunk = pairs[start : start + step]
        left, right = tf.unstack(chunk, num=2, axis=1)
        combined = float64_vectors(first, left) + sign * float64_vectors(second, right)
        exact = tf.cast(squared_lengths(combined), tile.dtype)
        return start + step, tf.tensor_scatter_nd_update(tile, chunk, exact)

    count = tf.shape(pairs)[0]
    return tf.while_loop(lambda start, _: start < count, with_next, (tf.constant(0), tile))[1]


def _by_product_in_float64(first: Block, second: Block, sign: float) -> tf.Tensor:
    """Compute `||W_i + sign W_j||^2` by a product in float64.

    The vectors are taken relative to their mean: those of one cluster then lose no digits.
    """
    left, right = float64_vectors(first), -sign * float64_vectors(second)
    shortest = tf.minimum(tf.reduce_min(first.squares), tf.reduce_min(second.squares))
    centre = centre_of(left, tf.cast(shortest, tf.float64))
    left, right = left - centre, right - centre
    squares = as_column(squared_lengths(left)) + squared_lengths(right)
    return distances_by_product(left, right, squares)


def centre_of(vectors: tf.Tensor, shortest: tf.Tensor) -> tf.Tensor:
    """Return the mean of vectors, or 0 if short vectors would lose digits relative to it.

    Args:
        vectors: Float64 tensor, shape `(coordinates, rows)`.
        shortest: Squared length of the shortest of all vectors that the centre is meant for.

    Returns:
        Float64 tensor, shape `(coordinates, 1)`.
    """
    mean = tf.reduce_mean(vectors, axis=1, keepdims=True)
    return tf.where(squared_lengths(mean) <= _LONGEST_CENTRE * shortest, mean, tf.zeros_like(mean))


def distances_by_product(left: tf.Tensor, right: tf.Tensor, squares: tf.Tensor) -> tf.Tensor:
    """Compute squared distances by a product in float64. Those of equal vectors are 0.

    Args:
        left: Float64 tensor, shape `(coordinates, rows)`: vectors relative to a centre.
        right: Float64 tensor, shape `(coordinates, columns)`: others relative to the same centre.
        squares: Float64 tensor, shape `(rows, columns)`: sums of their squared lengths.
    """
    distances = squares - 2 * tf.matmul(left, right, transpose_a=True)
    return tf.where(distances < _ROUNDING * squares, tf.zeros_like(distances), distances)


def _quotient(above: tf.Tensor, below: tf.Tensor) -> tf.Tensor:
    """Divide, where 0/0 counts as 0 and x/0 as infinite."""
    infinite = tf.fill(tf.shape(above), above.dtype.as_numpy_dtype("inf"))
    quotient = above / tf.where(below == 0, tf.ones_like(below), below)
    quotient = tf.where(below == 0, infinite, quotient)
    return tf.where(above == 0, tf.zeros_like(above), quotient)
