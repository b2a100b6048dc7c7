"""Keep a short sorted list of the nearest units of each unit.

Distances stay the same during the greedy removals, because a survivor keeps its weight-set. A list
is therefore valid until all units on it have been removed. Only lists, `O(units * LENGTH)` numbers,
are copied to the host.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_dfprune.methods.base import Context
from keras_dfprune.methods.saliency.distances import PairDistances
from keras_dfprune.methods.saliency.pair_sample import PairSample
from keras_dfprune.methods.saliency.tiles import StoredStrips, Strip, UnitBlocks

# Rows of a tile. At 4,096 units 36 of 64 tiles are computed, the others are their transposes.
ROWS = 512
# Units of the largest layer whose tiles are stored for later lists, 64 MiB. Those of larger layers
# are computed anew, for the units that remain.
_MOST_UNITS_STORED = 4096
# Units on a list. Lists of random weight-sets last until about one unit in ten is left, when there
# are few rows to compute anew.
LENGTH = 32


class Nearest(NamedTuple):
    """Nearest allowed unit of each of several units.

    Attributes:
        units: Int array: the nearest unit.
        distances: Float32 array: its squared distance, infinite if no unit is allowed.
        certain: Bool array. False if the list of a unit is exhausted: `units` is then not allowed,
            and the distance is a lower bound.
    """

    units: np.ndarray
    distances: np.ndarray
    certain: np.ndarray


class Neighbours:
    """Lists of the nearest units of every unit. Of equal distances the smallest index is first.

    Args:
        distances: The distances between the units.
        allowed: Bool array, shape `(units,)`: the units that may be on a list.
        context: Its seed is for the sample of pairs. The replicas of its strategy share the tiles.

    Attributes:
        sample: Float64 array, shape `(sampled, units)`: squared distances of some units, or of
            all, from every unit. Infinite between a unit and itself.
    """

    def __init__(self, distances: PairDistances, allowed: np.ndarray, context: Context):
        units = distances.units
        length = max(1, min(LENGTH, units - 1))
        self._values = np.full((units, length), np.inf, np.float32)
        self._units = np.zeros((units, length), np.int32)
        blocks, stored = UnitBlocks(distances, ROWS), StoredStrips()
        sample = PairSample(units, ROWS, context.seed)
        store = units <= _MOST_UNITS_STORED
        for strip in blocks.all_strips(context):
            sample.add(strip)
            self._add(strip, allowed)
            if store:
                stored.add(strip)
        self.sample = sample.distances
        self._source = stored if store else blocks  # of distances for later lists

    def nearest(self, units: np.ndarray, allowed: np.ndarray) -> Nearest:
        """Find the nearest allowed unit of each of `units` on its list.

        Args:
            units: Int array: the units.
            allowed: Bool array, shape `(all units,)`.
        """
        listed, values = self._units[units], self._values[units]
        usable = allowed[listed] & (values < np.inf)
        rows, position = np.arange(len(units)), usable.argmax(axis=1)
        exhausted = ~usable[rows, position]
        position[exhausted] = -1  # the last on the list
        distances = values[rows, position]
        return Nearest(listed[rows, position], distances, ~exhausted | (distances == np.inf))

    def nearest_listed(self, unit: int, allowed: np.ndarray) -> tuple[int, float] | None:
        """Find the nearest allowed unit of one unit, faster than `nearest`.

        Returns:
            The unit and its squared distance, or None if no allowed unit is on the list.
        """
        listed, values = self._units[unit], self._values[unit]
        usable = allowed[listed] & (values < np.inf)
        position = usable.argmax()
        return (listed[position], values[position]) if usable[position] else None

    def rebuild(self, exhausted: np.ndarray, allowed: np.ndarray, alive: np.ndarray) -> np.ndarray:
        """Make new lists from the units that are still allowed.

        Args:
            exhausted: Int array: units whose lists are exhausted, ascending.
            allowed: Bool array, shape `(all units,)`: the units that may be on a list.
            alive: Bool array, shape `(all units,)`: the units that have not been removed.

        Returns:
            Int array: the units with new lists. These are all, if no more than `ROWS` are alive.
        """
        remaining = np.flatnonzero(alive)
        units = remaining if len(remaining) <= ROWS else exhausted
        self._values[units] = np.inf
        for strip in self._source.strips(units, remaining):
            self._add(strip, allowed)
        return units

    def _add(self, strip: Strip, allowed: np.ndarray) -> None:
        """Put the nearest allowed units of a strip on the lists of its rows."""
        rows, columns, closeness = strip
        if not np.all(allowed[columns]):
            closeness = tf.where(allowed[columns], closeness, tf.constant(-np.inf, tf.float32))
        length = self._values.shape[1]
        values, positions = tf.math.top_k(closeness, min(length, len(columns)))
        values = tf.concat([-self._values[rows], values], axis=1)
        units = tf.concat([self._units[rows], tf.gather(columns, positions)], axis=1)
        values, positions = tf.math.top_k(values, length)
        self._values[rows] = -values
        self._units[rows] = tf.gather(units, positions, batch_dims=1)
