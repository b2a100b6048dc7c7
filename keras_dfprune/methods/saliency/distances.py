"""Weight-sets into tiles of squared distances between pairs, exact where they are close.

`||W_i - W_j||^2 = ||W_i||^2 + ||W_j||^2 - 2 W_i . W_j` cancels for near-copies, so small ones are
recomputed in float64. Everything is TensorFlow's, in eager mode or in a graph, and stays where
TensorFlow places it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_dfprune.methods.full_precision import full_precision

# Below this share of the norms the Gram formula in float32 has lost most of its digits.
NEAR = 4e-3
# Powers of two up to which norms are left as they are: float32 has room for their squares, and for
# those of coordinates a billion times smaller.
_MODERATE = 24
# Elements of the differences that are held at once, as float64: 128 MiB.
_CHUNK = 2**24
# Near pairs for each row of a tile above which one float64 product of the whole tile is quicker
# than their differences: 512 rows of 4,096 take 63 ms, and so do two pairs for each.
_MANY = 2
# Squared length of a mean in those of the vectors up to which it is their centre.
_MUCH_SHORTER = 16
# What float64 leaves of the Gram formula for equal vectors, relative to their squares.
_EQUAL = 1e-14


class Block(NamedTuple):
    """Some weight-sets, one in each column: as kernels lie in memory.

    Attributes:
        units: Int32 tensor, shape `(rows,)`: which ones.
        values: Float tensor, shape `(coordinates, rows)`: the weight-sets; where a norm is very
            large or small, each times a power of two (nothing is rounded) near its inverse.
        norms: Float64 tensor, shape `(rows,)`: what is left to divide the values by.
        factors: Float32 tensor, shape `(rows,)`: one over the norms.
        squares: Float tensor, shape `(rows,)`: squared lengths, after the division.
        biases: Float64 tensor, shape `(rows,)`: for `RatioDistances`; else zeros.
    """

    units: tf.Tensor
    values: tf.Tensor
    norms: tf.Tensor
    factors: tf.Tensor
    squares: tf.Tensor
    biases: tf.Tensor

    def select(self, places: np.ndarray) -> "Block":
        """Some of the rows."""
        if len(places) == len(self.units):
            return self
        units, values, *rest = self
        rest = (tf.gather(one, places) for one in rest)
        return Block(tf.gather(units, places), tf.gather(values, places, axis=1), *rest)


def side_by_side(blocks: Sequence[Block]) -> Block:
    """Several blocks as one."""
    if len(blocks) == 1:
        return blocks[0]
    units, values, *rest = zip(*blocks, strict=True)
    rest = (tf.concat(one, axis=0) for one in rest)
    return Block(tf.concat(units, axis=0), tf.concat(values, axis=1), *rest)


class PairDistances:
    """Squared distances between weight-sets, divided by their norms or not.

    Args:
        parts: Float arrays, shape `(units, coordinates of the part)`: the weight-sets.
        norms: Float64 array, shape `(units,)`: their norms.
        normalize: Whether they are divided by them; those of norm 0 never are.
    """

    def __init__(self, parts: Sequence[np.ndarray], norms: np.ndarray, normalize: bool):
        self._parts = parts
        self._norms = np.where(normalize & (norms > 0), norms, 1.0)
        self._lengths = norms / self._norms
        self.units = len(norms)

    def block(self, first: int, end: int) -> Block:
        """The weight-sets of the units from `first` to before `end`."""
        dtype = np.result_type(*self._parts)
        columns = [part[first:end].T for part in self._parts]
        shape = (sum(map(len, columns)), end - first)
        values = np.concatenate(columns, out=np.empty(shape, dtype))
        norms, limit = self._norms[first:end], -np.finfo(dtype).minexp
        powers = np.clip(np.frexp(norms)[1], -limit, limit).astype(np.float64)
        if np.any(np.abs(powers) > _MODERATE):
            values *= (2.0**-powers).astype(dtype)
            norms = norms * 2.0**-powers
        return Block(
            units=tf.range(first, end),
            values=tf.convert_to_tensor(values),
            norms=tf.constant(norms),
            factors=tf.cast(1 / norms, tf.float32),
            squares=tf.cast(tf.square(tf.constant(self._lengths[first:end])), tf.float32),
            biases=tf.constant(self._bias(first, end)),
        )

    def between(self, first: Block, second: Block) -> tf.Tensor:
        """Squared distances of each of `first` from each of `second`.

        Returns:
            Float32 tensor, shape `(rows of first, rows of second)`, infinite where both are the
            same unit.
        """
        return _apart(first, second, _twice_gram(first, second))

    def _bias(self, first: int, end: int) -> np.ndarray:
        return np.zeros(end - first)


class RatioDistances(PairDistances):
    """Section 3.4: `||W'_i - W'_j|| / ||W'_i + W'_j|| + |b_i - b_j| / |b_i + b_j|`.

    A heuristic; squared, as it takes the place of a norm. W' has unit norm; 0/0 counts as 0, x/0
    as infinite.

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
        twice = _twice_gram(first, second)
        apart, across = _apart(first, second, twice), _across(first, second, twice)
        ours, others = column(first.biases), second.biases
        bias = _ratio(tf.abs(ours - others), tf.abs(ours + others))
        ratio = _ratio(tf.sqrt(apart), tf.sqrt(across)) + tf.cast(bias, apart.dtype)
        return tf.square(ratio)

    def _bias(self, first: int, end: int) -> np.ndarray:
        return self._biases[first:end].astype(np.float64)


def _twice_gram(first: Block, second: Block) -> tf.Tensor:
    """Twice the inner products of the weight-sets divided by their norms, in float32."""
    ours, others = (tf.cast(block.values, tf.float32) for block in (first, second))
    with full_precision():
        product = tf.matmul(ours, others, transpose_a=True)
    product *= column(first.factors)
    return product * (2 * second.factors)


def _apart(first: Block, second: Block, twice: tf.Tensor) -> tf.Tensor:
    """`||W_i - W_j||^2`, infinite where both are the same unit."""
    matrix = without_same(sums(first, second) - twice, first, second)
    return _with_exact(matrix, first, second, -1.0)


def without_same(matrix: tf.Tensor, first: Block, second: Block) -> tf.Tensor:
    """A tile that is infinite where both are the same unit."""
    ours, others = first.units, second.units
    overlap = tf.logical_and(
        tf.reduce_min(ours) <= tf.reduce_max(others), tf.reduce_min(others) <= tf.reduce_max(ours)
    )

    def infinite() -> tf.Tensor:
        return tf.where(column(ours) == others, tf.constant(np.inf, matrix.dtype), matrix)

    return tf.cond(overlap, infinite, lambda: matrix)


def _across(first: Block, second: Block, twice: tf.Tensor) -> tf.Tensor:
    """`||W_i + W_j||^2`."""
    return _with_exact(sums(first, second) + twice, first, second, 1.0)


def sums(first: Block, second: Block) -> tf.Tensor:
    """`||W_i||^2 + ||W_j||^2`."""
    return column(first.squares) + second.squares


def _with_exact(matrix: tf.Tensor, first: Block, second: Block, sign: float) -> tf.Tensor:
    """A tile with its near pairs in float64: one by one, or all of it where they are many."""

    def recomputed() -> tf.Tensor:
        near = matrix < NEAR * sums(first, second)  # all that rounding left below 0, too
        pairs = tf.where(near)

        def by_product() -> tf.Tensor:
            return tf.where(near, tf.cast(_product(first, second, sign), matrix.dtype), matrix)

        def by_differences() -> tf.Tensor:
            return _differences(first, second, sign, pairs, matrix)

        many = tf.shape(pairs)[0] > _MANY * tf.reduce_max(tf.shape(matrix))
        return tf.cond(many, by_product, by_differences)

    largest = tf.reduce_max(first.squares) + tf.reduce_max(second.squares)
    return tf.cond(tf.reduce_min(matrix) < NEAR * largest, recomputed, lambda: matrix)


def _differences(
    first: Block, second: Block, sign: float, near: tf.Tensor, matrix: tf.Tensor
) -> tf.Tensor:
    step = tf.maximum(1, _CHUNK // tf.maximum(1, tf.shape(first.values)[0]))

    def some(start: tf.Tensor, matrix: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        pairs = near[start : start + step]
        ours, others = tf.unstack(pairs, num=2, axis=1)
        difference = vectors(first, ours) + sign * vectors(second, others)
        exact = tf.cast(lengths(difference), matrix.dtype)
        return start + step, tf.tensor_scatter_nd_update(matrix, pairs, exact)

    count = tf.shape(near)[0]
    return tf.while_loop(lambda start, _: start < count, some, (tf.constant(0), matrix))[1]


def _product(first: Block, second: Block, sign: float) -> tf.Tensor:
    """The Gram formula in float64, around the mean: that of one cluster loses nothing."""
    ours, others = vectors(first), -sign * vectors(second)
    shortest = tf.minimum(tf.reduce_min(first.squares), tf.reduce_min(second.squares))
    centre = centre_of(ours, tf.cast(shortest, tf.float64))
    ours, others = ours - centre, others - centre
    return by_gram(ours, others, column(lengths(ours)) + lengths(others))


def centre_of(vectors: tf.Tensor, shortest: tf.Tensor) -> tf.Tensor:
    """The mean, shape `(coordinates, 1)`, or 0 where digits of short vectors would be lost in it.

    Args:
        vectors: Float64 tensor, shape `(coordinates, rows)`.
        shortest: The smallest squared length of all vectors that this is to be the centre of.
    """
    mean = tf.reduce_mean(vectors, axis=1, keepdims=True)
    return tf.where(lengths(mean) <= _MUCH_SHORTER * shortest, mean, tf.zeros_like(mean))


def by_gram(ours: tf.Tensor, others: tf.Tensor, both: tf.Tensor) -> tf.Tensor:
    """Squared distances by the Gram formula in float64; those of equal vectors are 0.

    Args:
        ours: Differences of vectors from a centre, shape `(coordinates, rows)`.
        others: Those of other vectors, shape `(coordinates, columns)`.
        both: The sums of their squared lengths, shape `(rows, columns)`.
    """
    squares = both - 2 * tf.matmul(ours, others, transpose_a=True)
    return tf.where(squares < _EQUAL * both, tf.zeros_like(squares), squares)


def vectors(block: Block, places: tf.Tensor | None = None) -> tf.Tensor:
    """Weight-sets divided by their norms, in float64, shape `(coordinates, rows)`.

    A quotient is rounded once: those of single coordinates are 1 or -1 and may cancel to 0.
    """
    values, norms = block.values, block.norms
    if places is not None:
        values, norms = tf.gather(values, places, axis=1), tf.gather(norms, places)
    return tf.cast(values, tf.float64) / norms


def lengths(vectors: tf.Tensor) -> tf.Tensor:
    """Squared lengths of the columns."""
    squares = tf.square(vectors)
    ones = tf.ones((1, tf.shape(squares)[0]), squares.dtype)
    return tf.squeeze(tf.matmul(ones, squares), axis=0)  # a sum along the first axis is slow


def column(values: tf.Tensor) -> tf.Tensor:
    """Shape `(n,)` as `(n, 1)`."""
    return tf.expand_dims(values, axis=1)


def _ratio(above: tf.Tensor, below: tf.Tensor) -> tf.Tensor:
    infinite = tf.fill(tf.shape(above), above.dtype.as_numpy_dtype("inf"))
    quotient = above / tf.where(below == 0, tf.ones_like(below), below)
    quotient = tf.where(below == 0, infinite, quotient)
    return tf.where(above == 0, tf.zeros_like(above), quotient)
