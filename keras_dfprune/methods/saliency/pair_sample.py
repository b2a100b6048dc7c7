"""Keep the distances of some random units from all others, for the histogram of a layer."""

import itertools

import numpy as np
import tensorflow as tf

from keras_dfprune.methods.saliency.tiles import Strip

# Pairs that suffice for the histogram. Layers with more have about that many in their sample.
_PAIRS = 2**20


class PairSample:
    """Distances of sampled units from every unit.

    All units are sampled if the layer is small, else as many at random from each block.

    Args:
        units: Number of units of the layer.
        block_size: Number of units in a block.
        seed: Seed of the draw.

    Attributes:
        distances: Float64 array, shape `(sampled, units)`, infinite between a unit and itself.
            Complete when all strips have been added.
    """

    def __init__(self, units: int, block_size: int, seed: int):
        self._sampled = _draw_units(units, block_size, seed)
        self.distances = np.empty((len(self._sampled), units))

    def add(self, strip: Strip) -> None:
        """Copy the distances of the sampled units from a strip, whose rows are consecutive."""
        first, end = strip.rows[0], strip.rows[-1] + 1
        start, stop = np.searchsorted(self._sampled, [first, end])
        closeness = tf.gather(strip.closeness, self._sampled[start:stop] - first)
        self.distances[start:stop, strip.columns] = -closeness.numpy()


def _draw_units(units: int, block_size: int, seed: int) -> np.ndarray:
    """Draw the units of a sample: int array, ascending."""
    if units * units <= _PAIRS:
        return np.arange(units)
    random = np.random.default_rng(seed)
    bounds = [*range(0, units, block_size), units]
    share = max(1, _PAIRS // units // (len(bounds) - 1))
    chosen = [
        first + random.choice(end - first, min(share, end - first), replace=False)
        for first, end in itertools.pairwise(bounds)
    ]
    return np.sort(np.concatenate(chosen))
