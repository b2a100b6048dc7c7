"""Tiles of distances into a short sorted list of nearest units for each unit.

Distances are constant along the greedy path (a survivor keeps its weight-set), so a list answers
for its unit until all that are on it have gone; only `O(units * LENGTH)` numbers reach the host.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_dfprune.methods.distances import Block, PairDistances, side_by_side
from keras_dfprune.methods.replicas import over_replicas

# Rows of a block: at 4,096 units 36 of 64 tiles of 512 by 512 are computed, the others are their
# transposes.
ROWS = 512
# So many tiles at most go through one sort of a block's neighbours: 8 MiB.
_ACROSS = 8
# Neighbours on a list: it lasts until about 1 in 10 units is left, when few rows remain.
LENGTH = 32
# About so many pairs make the histogram: those of all units where they are no more, else those of
# some random units with all others.
_SAMPLE = 2**20


class _Strip(NamedTuple):
    """A block with what the neighbours need besides.

    Attributes:
        block: The weight-sets.
        allowed: Bool tensor, shape `(rows,)`: whether the unit may be on a list.
        sampled: Int tensor, shape `(sampled,)`: rows whose pairs are in the histogram.
    """

    block: Block
    allowed: tf.Tensor
    sampled: tf.Tensor


class Neighbours:
    """The nearest units of every unit, nearest first; ties go to the smallest index.

    Args:
        distances: Between the units.
        allowed: Bool array, shape `(units,)`: the units that may be on a list.
        seed: For the sample of pairs.
        strategy: A `tf.distribute.Strategy` whose replicas share the tiles, or None (default).

    Attributes:
        sample: Float64 array, shape `(sampled, units)`: distances of some units, or all, from
            every unit, for the histogram; infinite from themselves.
    """

    def __init__(
        self,
        distances: PairDistances,
        allowed: np.ndarray,
        seed: int,
        strategy: tf.distribute.Strategy | None = None,
    ):
        self._distances = distances
        units = distances.units
        length = max(1, min(LENGTH, units - 1))
        self._values = np.full((units, length), np.inf, np.float32)
        self._units = np.zeros((units, length), np.int32)
        self._bounds = [*range(0, units, ROWS), units]
        self._blocks = [distances.block(*some) for some in itertools.pairwise(self._bounds)]
        self._sampled = _sampled(self._bounds, seed)
        self._cuts = np.searchsorted(self._sampled, self._bounds)  # in `sampled`, by block
        self.sample = np.empty((len(self._sampled), units))
        self._fill(allowed, strategy)

    def _fill(self, allowed: np.ndarray, strategy: tf.distribute.Strategy | None) -> None:
        """All tiles on the diagonal and above; each unit's columns come in ascending order."""
        across = _ACROSS if strategy is None else 1  # replicas get equal shares
        last = len(self._blocks)
        places = [
            (row, first, min(first + across, last))
            for row in range(last)
            for first in range(row, last, across)
        ]
        if strategy is not None:  # equal shapes together: tiles of the short last block at the end
            places.sort(key=lambda place: place[1] == last - 1)
        pairs = (
            (self._strip(row, row + 1, allowed), self._strip(first, end, allowed))
            for row, first, end in places
        )
        found = over_replicas(self._meet, pairs, strategy)
        for (row, first, end), (values, units, sample, turned) in zip(places, found, strict=True):
            rows, columns = self._span(row, row + 1), self._span(first, end)
            count = rows.stop - rows.start
            self._add(rows, values[:count], units[:count])
            self.sample[self._cuts[row] : self._cuts[row + 1], columns] = sample
            if first == row:  # of the tile on the diagonal nothing is new
                count, turned, first = 2 * count, turned[len(sample) :], first + 1
            self._add(self._span(first, end), values[count:], units[count:])
            self.sample[self._cuts[first] : self._cuts[end], rows] = turned

    def _span(self, first: int, end: int) -> slice:
        """The units of some blocks."""
        return slice(self._bounds[first], self._bounds[end])

    def _strip(self, first: int, end: int, allowed: np.ndarray) -> _Strip:
        span = self._span(first, end)
        sampled = self._sampled[self._cuts[first] : self._cuts[end]] - span.start
        block = side_by_side(self._blocks[first:end])
        return _Strip(block, tf.constant(allowed[span]), tf.constant(sampled))

    def nearest(self, units: np.ndarray, allowed: np.ndarray) -> tuple[np.ndarray, ...]:
        """The nearest allowed unit of each of `units`.

        Returns:
            Its index, the distance, and whether that is all; where it isn't the list has run dry,
            and the nearest is at that distance or farther. With none left it is infinite.
        """
        listed, values = self._units[units], self._values[units]
        found = allowed[listed] & (values < np.inf)
        rows, first = np.arange(len(units)), found.argmax(axis=1)
        dry = ~found[rows, first]
        first[dry] = -1  # the last of a dry list
        distance = values[rows, first]
        return listed[rows, first], distance, ~dry | (distance == np.inf)

    def refill(self, units: np.ndarray, allowed: np.ndarray, alive: np.ndarray) -> None:
        """Makes the lists of `units` anew from the units that are still allowed.

        Args:
            units: Int array: ascending.
            allowed: Bool array, shape `(units,)`: the units that may be on a list.
            alive: Bool array, shape `(units,)`: those and all that will ever be asked for.
        """
        if 2 * np.sum(alive) <= sum(len(block.units) for block in self._blocks):
            left = np.flatnonzero(alive)
            self._blocks = [self._gathered(some) for some in _split(left, ROWS)]
        for some in _split(units, ROWS):
            rows = self._gathered(some)
            self._values[some] = np.inf
            for blocks in _split(self._blocks, _ACROSS):
                columns = side_by_side(blocks)
                tile = self._distances.between(rows, columns)
                self._add(some, *self._nearest(tile, tf.gather(allowed, columns.units), columns))

    def _meet(self, rows: _Strip, columns: _Strip) -> tuple[tf.Tensor, ...]:
        """Lists of neighbours of the rows, then of the columns, and the sampled pairs of both."""
        tile = self._distances.between(rows.block, columns.block)
        across = tf.transpose(tile)
        ours = self._nearest(tile, columns.allowed, columns.block)
        theirs = self._nearest(across, rows.allowed, rows.block)
        values, units = (tf.concat(both, axis=0) for both in zip(ours, theirs, strict=True))
        return values, units, tf.gather(tile, rows.sampled), tf.gather(across, columns.sampled)

    def _nearest(
        self, tile: tf.Tensor, allowed: tf.Tensor, columns: Block
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Values and units of the nearest columns of each row, shape `(rows, length)`.

        Infinity where there are fewer; equal ones come out in the order of their columns.
        """
        length = self._values.shape[1]
        tile = tf.where(allowed, tile, tf.constant(np.inf, tile.dtype))
        missing = tf.maximum(0, length - tf.shape(tile)[1])
        tile = tf.pad(tile, [[0, 0], [0, missing]], constant_values=np.inf)
        values, places = tf.math.top_k(-tile, length)
        return -values, tf.gather(tf.pad(columns.units, [[0, missing]]), places)

    def _add(self, rows: slice | np.ndarray, values: tf.Tensor, units: tf.Tensor) -> None:
        """Takes more neighbours into the lists of `rows`, in ascending order of their units."""
        values = tf.concat([self._values[rows], values], axis=1)
        units = tf.concat([self._units[rows], units], axis=1)
        values, places = tf.math.top_k(-values, self._values.shape[1])
        self._values[rows] = -values
        self._units[rows] = tf.gather(units, places, batch_dims=1)

    def _gathered(self, units: np.ndarray) -> Block:
        """Some units, ascending, from the blocks that hold them."""
        held = [block.units.numpy() for block in self._blocks]
        parts = np.split(units, np.searchsorted(units, [some[0] for some in held[1:]]))
        return side_by_side(
            [
                block.select(np.searchsorted(some, part))
                for block, some, part in zip(self._blocks, held, parts, strict=True)
                if len(part)
            ]
        ).merged()


def _sampled(bounds: list[int], seed: int) -> np.ndarray:
    """All units, or as many of each block, at random."""
    units, random = bounds[-1], np.random.default_rng(seed)
    if units * units <= _SAMPLE:
        return np.arange(units)
    share = max(1, _SAMPLE // units // (len(bounds) - 1))
    chosen = [
        first + random.choice(end - first, min(share, end - first), replace=False)
        for first, end in itertools.pairwise(bounds)
    ]
    return np.sort(np.concatenate(chosen))


def _split(items: Sequence, size: int) -> list:
    return [items[start : start + size] for start in range(0, len(items), size)]
