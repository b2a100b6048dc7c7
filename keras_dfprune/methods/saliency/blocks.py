"""Hold the weight-sets of some units as tensors, from which tiles of distances are computed."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf


class Block(NamedTuple):
    """Weight-sets of some units, one in each column as in a Dense kernel.

    Attributes:
        units: Int32 tensor, shape `(rows,)`: the units.
        values: Float tensor, shape `(coordinates, rows)`: their weight-sets, not yet divided by
            `norms`. A weight-set of a very large or small norm is multiplied by a power of two
            near the inverse of its norm.
        norms: Float64 tensor, shape `(rows,)`: the divisors of the values.
        inverse_norms: Float32 tensor, shape `(rows,)`.
        squares: Float tensor, shape `(rows,)`: squared lengths of the divided weight-sets.
        biases: Float64 tensor, shape `(rows,)`: biases for `RatioDistances`, else zeros.
    """

    units: tf.Tensor
    values: tf.Tensor
    norms: tf.Tensor
    inverse_norms: tf.Tensor
    squares: tf.Tensor
    biases: tf.Tensor

    def subset(self, positions: np.ndarray) -> "Block":
        """Return the block of some of its units, given by their positions in it."""
        if len(positions) == len(self.units):
            return self
        units, values, *vectors = self
        return Block(
            tf.gather(units, positions),
            tf.gather(values, positions, axis=1),
            *(tf.gather(vector, positions) for vector in vectors),
        )


def concat_blocks(blocks: Sequence[Block]) -> Block:
    """Return one block of the units of several."""
    if len(blocks) == 1:
        return blocks[0]
    units, values, *vectors = zip(*blocks, strict=True)
    return Block(
        tf.concat(units, axis=0),
        tf.concat(values, axis=1),
        *(tf.concat(parts, axis=0) for parts in vectors),
    )


def sums_of_squares(first: Block, second: Block) -> tf.Tensor:
    """Return `||W_i||^2 + ||W_j||^2`."""
    return as_column(first.squares) + second.squares


def float64_vectors(block: Block, positions: tf.Tensor | None = None) -> tf.Tensor:
    """Return the divided weight-sets of a block, or of some positions in it, in float64.

    They are divided, not multiplied by an inverse, so that they are rounded only once: weight-sets
    of a single coordinate are then exactly 1 or -1.

    Returns:
        Float64 tensor, shape `(coordinates, rows)`.
    """
    values, norms = block.values, block.norms
    if positions is not None:
        values, norms = tf.gather(values, positions, axis=1), tf.gather(norms, positions)
    return tf.cast(values, tf.float64) / norms


def squared_lengths(vectors: tf.Tensor) -> tf.Tensor:
    """Return the squared length of each column."""
    squares = tf.square(vectors)
    ones = tf.ones((1, tf.shape(squares)[0]), squares.dtype)
    return tf.squeeze(tf.matmul(ones, squares), axis=0)  # a sum along the first axis is slow


def as_column(values: tf.Tensor) -> tf.Tensor:
    """Reshape `(n,)` to `(n, 1)`."""
    return tf.expand_dims(values, axis=1)
