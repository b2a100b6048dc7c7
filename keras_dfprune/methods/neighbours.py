"""Tiles of distances into a short sorted list of nearest units for each unit.

Distances are constant along the greedy path (a survivor keeps its weight-set), so a list answers
for its unit until all that are on it have gone; only `O(units * LENGTH)` numbers reach the host.
"""

import numpy as np
import tensorflow as tf

from keras_dfprune.methods.distances import PairDistances, Rows

# Rows and columns of a tile: at 4,096 units 10 of 16 tiles are computed, the others are their
# transposes, and a float32 tile takes 4 MiB.
TILE = 1024
# Neighbours on a list: it lasts until about 1 in 10 units is left, when few rows remain.
LENGTH = 32
# Above so many units the histogram is taken over a random sample of pairs, this many.
_ALL_PAIRS = 2048
_SAMPLE = 2_000_000


class Neighbours:
    """The nearest units of every unit, nearest first; ties go to the smallest index.

    Args:
        distances: Between the units.
        allowed: Bool array, shape `(units,)`: the units that may be on a list.
        seed: For the sample of pairs.

    Attributes:
        pairs: Ordered pairs i != j, all or two million random ones, for the histogram: the index
            of one of the two, int, and the distance, float64, both of shape `(pairs,)`.
    """

    def __init__(self, distances: PairDistances, allowed: np.ndarray, seed: int):
        self._distances = distances
        sample = _Sample(distances.units, seed)
        self._tiles = tiles = [distances.rows(some) for some in _tiles(np.arange(distances.units))]
        lists = [_List(tile, distances.units) for tile in tiles]
        for row, first in enumerate(tiles):
            for column, second in enumerate(tiles[row:], start=row):
                tile = distances.between(first, second)
                sample.take(tile, row, column)
                lists[row].add(tile, second.units, allowed)
                if column > row:
                    lists[column].add(tf.transpose(tile), first.units, allowed)
        self.pairs = sample.pairs()
        self._units = np.concatenate([one.units.numpy() for one in lists])
        self._values = np.concatenate([one.values.numpy() for one in lists]).astype(np.float64)

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

    def refill(self, units: np.ndarray, allowed: np.ndarray) -> None:
        """Makes the lists of `units` anew from the units that are still allowed."""
        columns = np.flatnonzero(allowed)
        for some in _tiles(units):
            rows = self._rows(some)
            lists = _List(rows, self._distances.units)
            for others in _tiles(columns):
                tile = self._distances.between(rows, self._rows(others))
                lists.add(tile, others, allowed)
            self._units[some], self._values[some] = lists.units.numpy(), lists.values.numpy()

    def _rows(self, units: np.ndarray) -> Rows:
        """Some units, ascending, from their tiles."""
        starts = np.arange(TILE, self._distances.units, TILE)
        places = np.split(units % TILE, np.searchsorted(units, starts))
        parts = [
            (tf.gather(tile.values, place), tf.gather(tile.squares, place))
            for tile, place in zip(self._tiles, places, strict=True)
            if len(place)
        ]
        values, squares = zip(*parts, strict=True)
        return Rows(units, tf.concat(values, axis=0), tf.concat(squares, axis=0))


def _tiles(units: np.ndarray) -> list[np.ndarray]:
    return [units[start : start + TILE] for start in range(0, len(units), TILE)]


class _List:
    """The nearest so far of a tile of units; columns come in ascending order."""

    def __init__(self, rows: Rows, units: int):
        shape = [len(rows.units), max(1, min(LENGTH, units - 1))]
        self.values = tf.fill(shape, rows.values.dtype.as_numpy_dtype("inf"))
        self.units = tf.zeros(shape, tf.int32)

    def add(self, tile: tf.Tensor, columns: np.ndarray, allowed: np.ndarray) -> None:
        """Takes in the distances from the units of `columns`."""
        if not allowed[columns].all():
            tile = tf.where(allowed[columns][None, :], tile, tf.constant(np.inf, tile.dtype))
        length = self.units.shape[1]
        # equal ones come out in the order of their columns
        values, new = tf.math.top_k(-tf.concat([self.values, tile], axis=1), length)
        old = tf.gather(self.units, tf.minimum(new, length - 1), batch_dims=1)
        fresh = tf.gather(tf.constant(columns, tf.int32), tf.maximum(new - length, 0))
        self.units, self.values = tf.where(new < length, old, fresh), -values


class _Sample:
    """Distances of ordered pairs, picked from the tiles as they come by."""

    def __init__(self, units: int, seed: int):
        size = units * units
        every = units <= _ALL_PAIRS
        flat = np.arange(size) if every else np.random.default_rng(seed).integers(0, size, _SAMPLE)
        self._removed, survivor = flat // units, flat % units
        different = self._removed != survivor
        self._removed, survivor = self._removed[different], survivor[different]
        self._low = np.minimum(self._removed, survivor)
        self._high = np.maximum(self._removed, survivor)
        across = -(-units // TILE)
        tiles = self._low // TILE * across + self._high // TILE
        tiles = tiles.astype(np.min_scalar_type(across * across))  # short integers sort quicker
        self._order = np.argsort(tiles, kind="stable")
        self._starts = np.searchsorted(tiles[self._order], np.arange(across * across + 1))
        self._across = across
        self._values = np.empty(len(self._removed))

    def take(self, tile: tf.Tensor, row: int, column: int) -> None:
        """Picks the pairs that lie in this tile."""
        number = row * self._across + column
        some = self._order[self._starts[number] : self._starts[number + 1]]
        within = self._low[some] % TILE * tile.shape[1] + self._high[some] % TILE
        self._values[some] = tf.gather(tf.reshape(tile, [-1]), within).numpy()

    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """The removed unit and the distance of each pair."""
        return self._removed, self._values
