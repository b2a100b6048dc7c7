"""Weight-sets of which many are near each other into tiles of squared distances, in float64.

`PairDistances` computes a tile that is full of near pairs a second time, in float64. Where that is
most of them, all are computed so from the start.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_dfprune.methods.distances import (
    NEAR,
    Block,
    PairDistances,
    by_gram,
    centre_of,
    column,
    lengths,
    sums,
    vectors,
    without_same,
)

# Units of a sample, and the share of near pairs among them from which on float64 pays.
_SAMPLED = 64
_CROWDED = 0.003


def weight_distances(
    parts: Sequence[np.ndarray], norms: np.ndarray, normalize: bool
) -> PairDistances:
    """Distances between weight-sets, in the way that suits them.

    Args:
        parts: Float arrays, shape `(units, coordinates of the part)`: the weight-sets.
        norms: Float64 array, shape `(units,)`: their norms.
        normalize: Whether they are divided by them; those of norm 0 never are.
    """
    units = len(norms)
    some = np.random.default_rng(0).choice(units, min(units, _SAMPLED), replace=False)
    few = PairDistances([part[some] for part in parts], norms[some], normalize)
    sample = vectors(few.block(0, len(some)))
    if _share_of_near(sample) > _CROWDED:
        shortest = np.min(np.where(normalize & (norms > 0), 1.0, norms)) ** 2
        centre = centre_of(sample, shortest)
        return CentredDistances(parts, norms, normalize, centre)
    return PairDistances(parts, norms, normalize)


def _share_of_near(sample: tf.Tensor) -> float:
    """How many pairs of different columns are near each other, of all pairs."""
    product, squares = tf.matmul(sample, sample, transpose_a=True), lengths(sample)
    both = column(squares) + squares
    near = tf.linalg.set_diag(both - 2 * product, squares) < NEAR * both
    return float(tf.reduce_mean(tf.cast(near, tf.float64)))


class CentredDistances(PairDistances):
    """Distances by way of differences from a centre, in float64.

    Blocks hold these differences, so they take twice the memory of float32 weights.

    Args:
        parts, norms, normalize: As of `weight_distances`.
        centre: Float64 tensor, shape `(coordinates, 1)`.
    """

    def __init__(
        self, parts: Sequence[np.ndarray], norms: np.ndarray, normalize: bool, centre: tf.Tensor
    ):
        super().__init__(parts, norms, normalize)
        self._centre = centre

    def block(self, first: int, end: int) -> Block:
        block = super().block(first, end)
        values, ones = vectors(block) - self._centre, tf.ones_like(block.norms)
        return Block(
            units=block.units,
            values=values,
            norms=ones,
            factors=tf.cast(ones, tf.float32),
            squares=lengths(values),
            biases=block.biases,
        )

    def between(self, first: Block, second: Block) -> tf.Tensor:
        both = sums(first, second)
        squares = by_gram(first.values, second.values, both)
        return without_same(tf.cast(squares, tf.float32), first, second)
