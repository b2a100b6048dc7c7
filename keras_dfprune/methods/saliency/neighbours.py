"""Tiles of distances into a short sorted list of nearest units for each unit.

Distances are constant along the greedy path (a survivor keeps its weight-set), so a list answers
for its unit until all that are on it have gone; only `O(units * LENGTH)` numbers reach the host.
"""

import itertools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_dfprune.methods.base import Context
from keras_dfprune.methods.saliency.distances import Block, PairDistances, side_by_side
from keras_dfprune.methods.saliency.replicas import over_replicas

# Rows of a block: at 4,096 units 36 of 64 tiles of 512 by 512 are computed, the others are their
# transposes.
ROWS = 512
# So many tiles of a block go through one sort: twice as quick for each as one by one. The tiles of
# at most as many blocks wait for it, 64 MiB.
_TOGETHER = 8
# Layers of at most so many units keep their tiles for later lists, 64 MiB; those of larger ones are
# computed anew, for what is left.
_FEW_UNITS = 4096
# Neighbours on a list: it lasts until about 1 in 10 units is left, when few rows remain.
LENGTH = 32
# About so many pairs make the histogram: those of all units where they are no more, else those of
# some random units with all others.
_SAMPLE = 2**20


class Neighbours:
    """The nearest units of every unit, nearest first; ties go to the smallest index.

    Args:
        distances: Between the units.
        allowed: Bool array, shape `(units,)`: the units that may be on a list.
        context: Its seed is for the sample of pairs; the replicas of its strategy share the tiles.

    Attributes:
        sample: Float64 array, shape `(sampled, units)`: distances of some units, or all, from
            every unit, for the histogram; infinite from themselves.
    """

    def __init__(self, distances: PairDistances, allowed: np.ndarray, context: Context):
        self._distances = distances
        units = distances.units
        length = max(1, min(LENGTH, units - 1))
        self._values = np.full((units, length), np.inf, np.float32)
        self._units = np.zeros((units, length), np.int32)
        self._bounds = [*range(0, units, ROWS), units]
        self._blocks = [distances.block(*some) for some in itertools.pairwise(self._bounds)]
        self._sampled = _sampled(self._bounds, context.seed)
        self._cuts = np.searchsorted(self._sampled, self._bounds)  # in `sampled`, by block
        self.sample = np.empty((len(self._sampled), units))
        # What was sorted, by the block of the rows, if it is kept.
        self._tiles: list[list[tf.Tensor]] = [[] for _ in self._blocks if units <= _FEW_UNITS]
        self._fill(allowed, context)
        if self._tiles:
            self._blocks = []  # the weight-sets aren't needed any more

    def _fill(self, allowed: np.ndarray, context: Context) -> None:
        """All tiles on the diagonal and above; each unit's columns come in ascending order."""
        strategy, blocks = context.strategy, range(len(self._blocks))
        parts = _split(blocks, _TOGETHER)
        if strategy is not None:  # equal shapes together: tiles of the short last block at the end
            parts = [*_split(blocks[:-1], _TOGETHER), blocks[-1:]]
        places = [
            (row, column)
            for some in parts
            for row in range(some[-1] + 1)
            for column in some[max(0, row - some[0]) :]
        ]
        ends = {some[-1] for some in parts}
        pairs = ((self._blocks[row], self._blocks[column]) for row, column in places)
        tiles = over_replicas(self._distances.between, pairs, strategy)
        waiting: list[list[tuple[Block, tf.Tensor]]] = [[] for _ in self._blocks]

        def take(row: int, column: int, closeness: tf.Tensor) -> None:
            """One more tile of a row; the last of a part takes all of it into the lists."""
            waiting[row].append((self._blocks[column], closeness))
            if column in ends:
                columns, closeness = _joined(waiting[row])
                waiting[row] = []
                sampled = slice(*self._cuts[row : row + 2])
                some = tf.gather(closeness, self._sampled[sampled] - self._bounds[row])
                self.sample[sampled, columns] = -some.numpy()
                self._add(self._span(row), columns, closeness, allowed)
                if self._tiles:
                    self._tiles[row].append(closeness)

        steps = context.progress.over("Comparing units", places, "tile")
        for (row, column), tile in zip(steps, tiles, strict=True):
            closeness = -tile
            take(row, column, closeness)
            if row != column:
                take(column, row, tf.transpose(closeness))

    def _span(self, block: int) -> slice:
        """The units of a block."""
        return slice(self._bounds[block], self._bounds[block + 1])

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

    def nearest_of(self, unit: int, allowed: np.ndarray) -> tuple[int, float] | None:
        """The same of one unit, without arrays of one; None where none is left on its list."""
        listed, values = self._units[unit], self._values[unit]
        found = allowed[listed] & (values < np.inf)
        first = found.argmax()
        return (listed[first], values[first]) if found[first] else None

    def refill(self, dry: np.ndarray, allowed: np.ndarray, alive: np.ndarray) -> np.ndarray:
        """Makes lists anew from the units that are still allowed.

        Args:
            dry: Int array: units whose lists have run dry, ascending.
            allowed: Bool array, shape `(units,)`: the units that may be on a list.
            alive: Bool array, shape `(units,)`: those and all that will ever be asked for.

        Returns:
            The units that have new lists: of few that are alive, all.
        """
        left = np.flatnonzero(alive)
        few = len(left) <= ROWS
        units = left if few else dry
        if self._tiles:
            self._values[units] = np.inf
            self._add(units, left, self._from_tiles(units, left), allowed)
            return units
        if few or 2 * len(left) <= sum(len(block.units) for block in self._blocks):
            self._blocks = [self._gathered(some) for some in _split(left, ROWS)]
        for some in _split(units, ROWS):
            rows = self._gathered(some)
            self._values[some] = np.inf
            for blocks in _split(self._blocks, _TOGETHER):
                tiles = [(block, -self._distances.between(rows, block)) for block in blocks]
                self._add(some, *_joined(tiles), allowed)
        return units

    def _add(
        self,
        rows: slice | np.ndarray,
        columns: np.ndarray,
        closeness: tf.Tensor,
        allowed: np.ndarray,
    ) -> None:
        """Takes the columns of some tiles into the lists of `rows`.

        Args:
            rows: The units of all rows.
            columns: Int array: the units of all columns, ascending.
            closeness: Float32 tensor, shape `(rows, columns)`: the negative distances.
            allowed: Bool array, shape `(units,)`: the units that may be on a list.
        """
        if not np.all(allowed[columns]):
            closeness = tf.where(allowed[columns], closeness, tf.constant(-np.inf, tf.float32))
        length = self._values.shape[1]
        values, places = tf.math.top_k(closeness, min(length, len(columns)))
        values = tf.concat([-self._values[rows], values], axis=1)
        units = tf.concat([self._units[rows], tf.gather(columns, places)], axis=1)
        values, places = tf.math.top_k(values, length)
        self._values[rows] = -values
        self._units[rows] = tf.gather(units, places, batch_dims=1)

    def _from_tiles(self, rows: np.ndarray, columns: np.ndarray) -> tf.Tensor:
        """The negative distances of some units, both ascending, from the tiles that are kept."""
        parts = np.split(rows, np.searchsorted(rows, self._bounds[1:-1]))
        found = [
            tf.concat([tf.gather(tile, part - first) for tile in tiles], axis=1)
            for tiles, part, first in zip(self._tiles, parts, self._bounds[:-1], strict=True)
        ]
        return tf.gather(tf.concat(found, axis=0), columns, axis=1)

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
        )


def _joined(tiles: Sequence[tuple[Block, tf.Tensor]]) -> tuple[np.ndarray, tf.Tensor]:
    """Tiles of the same rows side by side: the units of all columns, and what the tiles hold."""
    blocks, values = zip(*tiles, strict=True)
    return np.concatenate([block.units for block in blocks]), tf.concat(values, axis=1)


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
