"""Weight-sets of which many are near each other into tiles of squared distances, in float64.

`PairDistances` computes a tile that is full of near pairs a second time, in float64. Where that is
most of them, all are computed so from the start.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_dfprune.methods.saliency.distances import (
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

# Units of a sample and, to begin with, coordinates of theirs; and the share of near pairs among
# them from which on float64 pays.
_SAMPLED = 128
_COORDINATES = 512
_CROWDED = 0.002


def weight_distances(
    parts: Sequence[np.ndarray], norms: np.ndarray, normalize: bool
) -> PairDistances:
    """Distances between weight-sets, in the way that suits them.

    Args:
        parts: Float arrays, shape `(units, coordinates of the part)`: the weight-sets.
        norms: Float64 array, shape `(units,)`: their norms.
        normalize: Whether they are divided by them; those of norm 0 never are.
    """
    random = np.random.default_rng(0)
    some = _some(random, len(norms), _SAMPLED)

    def sample(most: int) -> tf.Tensor:
        few = [part[np.ix_(some, _some(random, part.shape[1], most))] for part in parts]
        return vectors(PairDistances(few, norms[some], normalize).block(0, len(some)))

    if _is_crowded(sample(_COORDINATES)):
        whole = sample(max(part.shape[1] for part in parts))
        if _is_crowded(whole):
            shortest = np.min(np.where(normalize & (norms > 0), 1.0, norms)) ** 2
            return CentredDistances(parts, norms, normalize, centre_of(whole, shortest))
    return PairDistances(parts, norms, normalize)


def _some(random: np.random.Generator, number: int, most: int) -> np.ndarray:
    """At most so many of the first `number` integers, ascending."""
    return np.sort(random.choice(number, min(number, most), replace=False))


def _is_crowded(sample: tf.Tensor) -> bool:
    """Whether many pairs of different columns are near each other."""
    squares = lengths(sample)
    both = column(squares) + squares
    near = tf.linalg.set_diag(by_gram(sample, sample, both), squares) < NEAR * both
    return float(tf.reduce_mean(tf.cast(near, tf.float64))) > _CROWDED


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
