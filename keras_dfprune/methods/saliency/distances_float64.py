"""Compute the distances of clustered weight-sets in float64 from the start.

`PairDistances` computes a tile again in float64 if it has many near pairs. If most tiles have, the
float32 product is left out.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_dfprune.methods.saliency.blocks import (
    Block,
    as_column,
    float64_vectors,
    squared_lengths,
    sums_of_squares,
)
from keras_dfprune.methods.saliency.distances import (
    NEAR,
    PairDistances,
    centre_of,
    distances_by_product,
    exclude_same_unit,
)

# Units, and at first coordinates, of the sample that is searched for near pairs.
_SAMPLED_UNITS = 128
_SAMPLED_COORDINATES = 512
# Share of near pairs in the sample above which all tiles are computed in float64.
_NEAR_SHARE = 0.002


def weight_distances(
    parts: Sequence[np.ndarray], norms: np.ndarray, normalize: bool
) -> PairDistances:
    """Return distances between weight-sets: in float64 if many of a sample are near each other.

    Args:
        parts: Float arrays, shape `(units, coordinates of the part)`: the weight-sets.
        norms: Float64 array, shape `(units,)`: their norms.
        normalize: Whether weight-sets are divided by their norms. Those of norm 0 never are.
    """
    random = np.random.default_rng(0)
    units = _draw(random, len(norms), _SAMPLED_UNITS)

    def sample(coordinates: int) -> tf.Tensor:
        chosen = [part[np.ix_(units, _draw(random, part.shape[1], coordinates))] for part in parts]
        return float64_vectors(PairDistances(chosen, norms[units], normalize).block(0, len(units)))

    if _has_many_near_pairs(sample(_SAMPLED_COORDINATES)):
        vectors = sample(max(part.shape[1] for part in parts))
        if _has_many_near_pairs(vectors):
            shortest = np.min(np.where(normalize & (norms > 0), 1.0, norms)) ** 2
            return CentredDistances(parts, norms, normalize, centre_of(vectors, shortest))
    return PairDistances(parts, norms, normalize)


def _draw(random: np.random.Generator, number: int, most: int) -> np.ndarray:
    """Draw at most `most` of the integers below `number`, ascending."""
    return np.sort(random.choice(number, min(number, most), replace=False))


def _has_many_near_pairs(vectors: tf.Tensor) -> bool:
    """Return whether many pairs of columns are near each other."""
    lengths = squared_lengths(vectors)
    squares = as_column(lengths) + lengths
    distances = distances_by_product(vectors, vectors, squares)
    near = tf.linalg.set_diag(distances, lengths) < NEAR * squares
    return float(tf.reduce_mean(tf.cast(near, tf.float64))) > _NEAR_SHARE


class CentredDistances(PairDistances):
    """Distances between weight-sets taken relative to a centre, by products in float64.

    Blocks hold the differences from the centre, so they take twice the memory of float32 weights.

    Args:
        parts, norms, normalize: As in `weight_distances`.
        centre: Float64 tensor, shape `(coordinates, 1)`.
    """

    def __init__(
        self, parts: Sequence[np.ndarray], norms: np.ndarray, normalize: bool, centre: tf.Tensor
    ):
        super().__init__(parts, norms, normalize)
        self._centre = centre

    def block(self, first: int, end: int) -> Block:
        block = super().block(first, end)
        values, ones = float64_vectors(block) - self._centre, tf.ones_like(block.norms)
        return Block(
            units=block.units,
            values=values,
            norms=ones,
            inverse_norms=tf.cast(ones, tf.float32),
            squares=squared_lengths(values),
            biases=block.biases,
        )

    def between(self, first: Block, second: Block) -> tf.Tensor:
        squares = sums_of_squares(first, second)
        distances = distances_by_product(first.values, second.values, squares)
        return exclude_same_unit(tf.cast(distances, tf.float32), first, second)
