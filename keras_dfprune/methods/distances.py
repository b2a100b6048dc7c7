"""Weight-sets into tiles of squared distances between pairs, exact where they are close.

`||W_i - W_j||^2 = ||W_i||^2 + ||W_j||^2 - 2 W_i . W_j` cancels for near-copies, so small ones are
recomputed in float64. Everything is TensorFlow's, in eager mode or in a graph, and stays where
TensorFlow places it.
"""

import contextlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

# Below this share of the norms the Gram formula in float32 has lost most of its digits.
_NEAR = 4e-3
# Elements of the differences that are held at once, as float64: 128 MiB.
_CHUNK = 2**24
# Near pairs for each row of a tile above which one float64 product of the whole tile is quicker
# than their differences: 512 rows of 4,096 take 63 ms, and so do two pairs for each.
_MANY = 2
# What float64 leaves of the Gram formula for equal vectors, relative to their norms.
_EQUAL = 1e-14

# Values and norms of a `Block`.
_Piece = tuple[tf.Tensor, tf.Tensor]


class Block(NamedTuple):
    """Some weight-sets, one in each column: as kernels lie in memory.

    Attributes:
        units: Int32 tensor, shape `(rows,)`: which ones.
        values: Float tensors, shape `(coordinates, rows of the piece)`: the weight-sets in one or
            more pieces, each times a power of two (nothing is rounded) near its inverse norm.
        norms: Float64 tensor, shape `(rows,)`: what is left to divide the values by.
        squares: Float32 tensor, shape `(rows,)`: squared lengths, after the division.
        biases: Float64 tensor, shape `(rows,)`: for `RatioDistances`; else zeros.
    """

    units: tf.Tensor
    values: tuple[tf.Tensor, ...]
    norms: tf.Tensor
    squares: tf.Tensor
    biases: tf.Tensor

    def select(self, places: np.ndarray) -> "Block":
        """Some of the rows of a block in one piece."""
        (values,) = self.values
        units, norms, squares, biases = (
            tf.gather(one, places) for one in (self.units, self.norms, self.squares, self.biases)
        )
        return Block(units, (tf.gather(values, places, axis=1),), norms, squares, biases)

    def merged(self) -> "Block":
        """The same in one piece."""
        return self._replace(values=(tf.concat(self.values, axis=1),))


def side_by_side(blocks: Sequence[Block]) -> Block:
    """Several blocks as one, in as many pieces; nothing large is copied."""
    if len(blocks) == 1:
        return blocks[0]
    units, values, norms, squares, biases = zip(*blocks, strict=True)
    pieces = tuple(piece for some in values for piece in some)
    rest = (tf.concat(one, axis=0) for one in (norms, squares, biases))
    return Block(tf.concat(units, axis=0), pieces, *rest)


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

    def block(self, first: int, end: int) -> Block:
        """The weight-sets of the units from `first` to before `end`."""
        norms = self._norms[first:end]
        limit = -np.finfo(self._raw.dtype).minexp
        powers = np.clip(np.frexp(norms)[1], -limit, limit).astype(np.float64)
        if self._raw.flags.c_contiguous:
            values = tf.transpose(tf.convert_to_tensor(self._raw[first:end]))
        else:
            values = tf.convert_to_tensor(self._raw.T[:, first:end])
        values *= tf.constant(2.0**-powers, values.dtype)
        norms = tf.constant(norms * 2.0**-powers)
        lengths = tf.reduce_sum(tf.square(tf.cast(values, tf.float32)), axis=0)
        return Block(
            units=tf.range(first, end),
            values=(values,),
            norms=norms,
            squares=lengths / tf.cast(tf.square(norms), tf.float32),
            biases=tf.constant(self._bias(first, end)),
        )

    def between(self, first: Block, second: Block) -> tf.Tensor:
        """Squared distances of each of `first` from each of `second`.

        Returns:
            Float32 tensor, shape `(rows of first, rows of second)`, infinite where both are the
            same unit.
        """
        return _without_self(_apart(first, second, _gram(first, second), -1.0), first, second)

    def _bias(self, first: int, end: int) -> np.ndarray:
        return np.zeros(end - first)


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
        self._biases = biases / norms

    def between(self, first: Block, second: Block) -> tf.Tensor:
        gram = _gram(first, second)
        apart = _apart(first, second, gram, -1.0)
        across = _apart(first, second, gram, 1.0)
        ours, others = _column(first.biases), second.biases
        bias = _ratio(tf.abs(ours - others), tf.abs(ours + others))
        ratio = _ratio(tf.sqrt(apart), tf.sqrt(across)) + tf.cast(bias, apart.dtype)
        return _without_self(tf.square(ratio), first, second)

    def _bias(self, first: int, end: int) -> np.ndarray:
        return self._biases[first:end].astype(np.float64)


def _gram(first: Block, second: Block) -> tf.Tensor:
    """Inner products of the weight-sets divided by their norms, in float32."""
    (ours,) = first.values
    ours = tf.cast(ours, tf.float32)
    with full_precision():
        pieces = [
            tf.matmul(ours, tf.cast(others, tf.float32), transpose_a=True)
            for others in second.values
        ]
    product = tf.concat(pieces, axis=1) if len(pieces) > 1 else pieces[0]
    product *= _column(tf.cast(1 / first.norms, tf.float32))
    return product * tf.cast(1 / second.norms, tf.float32)


def _apart(first: Block, second: Block, gram: tf.Tensor, sign: float) -> tf.Tensor:
    """`||W_i + sign W_j||^2`."""
    sums = _column(first.squares) + second.squares
    matrix = tf.maximum(sums + 2.0 * sign * gram, 0)
    small = matrix < _NEAR * sums
    near = small & (_column(first.units) != second.units)

    def recomputed() -> tf.Tensor:
        sizes = [tf.shape(values)[1] for values in second.values]
        others = zip(second.values, tf.split(second.norms, sizes), strict=True)
        parts = (tf.split(one, sizes, axis=1) for one in (matrix, small, near))
        return tf.concat(
            [
                _recomputed((first.values[0], first.norms), piece, sign, *tile)
                for piece, *tile in zip(others, *parts, strict=True)
            ],
            axis=1,
        )

    return tf.cond(tf.reduce_any(near), recomputed, lambda: matrix)


def _recomputed(
    first: _Piece, second: _Piece, sign: float, matrix: tf.Tensor, small: tf.Tensor, near: tf.Tensor
) -> tf.Tensor:
    """A tile with its near pairs in float64: one by one, or all of it where they are many."""
    pairs = tf.where(near)

    def by_product() -> tf.Tensor:
        return tf.where(small, tf.cast(_product(first, second, sign), matrix.dtype), matrix)

    def by_differences() -> tf.Tensor:
        return _differences(first, second, sign, pairs, matrix)

    many = tf.shape(pairs)[0] > _MANY * tf.reduce_max(tf.shape(matrix))
    return tf.cond(many, by_product, by_differences)


def _differences(
    first: _Piece, second: _Piece, sign: float, near: tf.Tensor, matrix: tf.Tensor
) -> tf.Tensor:
    step = tf.maximum(1, _CHUNK // tf.maximum(1, tf.shape(first[0])[0]))

    def some(start: tf.Tensor, matrix: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        pairs = near[start : start + step]
        ours, others = tf.unstack(pairs, num=2, axis=1)
        difference = _vectors(first, ours) + sign * _vectors(second, others)
        exact = tf.cast(_lengths(difference), matrix.dtype)
        return start + step, tf.tensor_scatter_nd_update(matrix, pairs, exact)

    count = tf.shape(near)[0]
    return tf.while_loop(lambda start, _: start < count, some, (tf.constant(0), matrix))[1]


def _product(first: _Piece, second: _Piece, sign: float) -> tf.Tensor:
    """The Gram formula in float64, around the mean: that of one cluster loses nothing."""
    ours, others = _vectors(first), -sign * _vectors(second)
    sums = _column(_lengths(ours)) + _lengths(others)
    centre = tf.reduce_mean(ours, axis=1, keepdims=True)
    ours, others = ours - centre, others - centre
    product = tf.matmul(ours, others, transpose_a=True)
    squares = _column(_lengths(ours)) + _lengths(others) - 2 * product
    return tf.where(squares < _EQUAL * sums, tf.zeros_like(squares), squares)


def _vectors(piece: _Piece, places: tf.Tensor | None = None) -> tf.Tensor:
    """Weight-sets divided by their norms, in float64, shape `(coordinates, rows)`.

    A quotient is rounded once: those of single coordinates are 1 or -1 and may cancel to 0.
    """
    values, norms = piece
    if places is not None:
        values, norms = tf.gather(values, places, axis=1), tf.gather(norms, places)
    return tf.cast(values, tf.float64) / norms


def _lengths(vectors: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.square(vectors), axis=0)


def _column(values: tf.Tensor) -> tf.Tensor:
    return tf.expand_dims(values, axis=1)


def _without_self(matrix: tf.Tensor, first: Block, second: Block) -> tf.Tensor:
    """Infinity where a unit meets itself."""
    same = _column(first.units) == second.units
    return tf.where(same, tf.constant(np.inf, matrix.dtype), matrix)


def _ratio(above: tf.Tensor, below: tf.Tensor) -> tf.Tensor:
    infinite = tf.fill(tf.shape(above), above.dtype.as_numpy_dtype("inf"))
    quotient = above / tf.where(below == 0, tf.ones_like(below), below)
    quotient = tf.where(below == 0, infinite, quotient)
    return tf.where(above == 0, tf.zeros_like(above), quotient)


@contextlib.contextmanager
def full_precision():
    """Keeps newer GPUs from rounding the factors of a float32 product to ten bits (TF32)."""
    enabled = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(enabled)
