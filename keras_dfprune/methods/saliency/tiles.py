"""Compute all distances between units tile by tile, and hand them on in strips.

A tile holds the distances between the units of two blocks, a strip several tiles of the same rows.
Only tiles on the diagonal and above are computed: the others are their transposes.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import tensorflow as tf

from keras_dfprune.methods.base import Context
from keras_dfprune.methods.saliency.blocks import Block, concat_blocks
from keras_dfprune.methods.saliency.distances import PairDistances
from keras_dfprune.methods.saliency.replicas import over_replicas

# Tiles in a strip. Sorting eight tiles at once takes half the time of sorting them one by one:
# docs/research/measurements.md. At most that many tiles of that many blocks wait for it, 64 MiB.
TILES_IN_STRIP = 8
_Items = TypeVar("_Items", np.ndarray, range, list[Block])


class Strip(NamedTuple):
    """Distances of some units from the units of several blocks.

    Attributes:
        rows: Int array, shape `(rows,)`: units, ascending.
        columns: Int array, shape `(columns,)`: units, ascending.
        closeness: Float32 tensor, shape `(rows, columns)`: the negative squared distances, minus
            infinity between a unit and itself.
    """

    rows: np.ndarray
    columns: np.ndarray
    closeness: tf.Tensor


class UnitBlocks:
    """Weight-sets of a layer in blocks of units, between which distances are computed.

    Args:
        distances: The distances.
        size: Largest number of units in a block.
    """

    def __init__(self, distances: PairDistances, size: int):
        self._distances = distances
        self._size = size
        bounds = [*range(0, distances.units, size), distances.units]
        self._blocks = [distances.block(first, end) for first, end in itertools.pairwise(bounds)]

    def all_strips(self, context: Context) -> Iterator[Strip]:
        """Yield all distances. The columns of each row come in ascending order.

        Args:
            context: The replicas of its strategy share the tiles. Its progress counts them.
        """
        ranges = self._column_ranges(on_one_device=context.strategy is None)
        tiles = _with_transposes(self._tiles_above_diagonal(ranges, context))
        last_columns = {columns[-1] for columns in ranges}
        waiting: defaultdict[int, list[tuple[Block, tf.Tensor]]] = defaultdict(list)
        for row, column, closeness in tiles:
            waiting[row].append((self._blocks[column], closeness))
            if column in last_columns:
                yield _join(self._blocks[row].units.numpy(), waiting.pop(row))

    def _column_ranges(self, on_one_device: bool) -> list[range]:
        """Divide the columns of tiles into ranges, one for each strip of a row."""
        numbers = range(len(self._blocks))
        if on_one_device:
            return _split(numbers, TILES_IN_STRIP)
        # Tiles of the last block may be smaller. Replicas compute tiles of equal shapes together.
        return [*_split(numbers[:-1], TILES_IN_STRIP), numbers[-1:]]

    def _tiles_above_diagonal(
        self, ranges: Sequence[range], context: Context
    ) -> Iterator[tuple[int, int, tf.Tensor]]:
        """Yield the row, the column and the closeness of each tile with `row <= column`."""
        positions = [
            (row, column)
            for columns in ranges
            for row in range(columns[-1] + 1)
            for column in columns
            if row <= column
        ]
        pairs = ((self._blocks[row], self._blocks[column]) for row, column in positions)
        tiles = over_replicas(self._distances.between, pairs, context.strategy)
        steps = context.progress.over("Comparing units", positions, "tile")
        for (row, column), tile in zip(steps, tiles, strict=True):
            yield row, column, -tile

    def strips(self, rows: np.ndarray, remaining: np.ndarray) -> Iterator[Strip]:
        """Yield the distances of some units from all that remain, computed anew.

        Args:
            rows: Int array: the units, ascending.
            remaining: Int array: the units that remain, ascending. Columns may hold removed units.
        """
        self._drop_all_but(remaining)
        for units in _split(rows, self._size):
            block = self._gather(units)
            for blocks in _split(self._blocks, TILES_IN_STRIP):
                yield _join(
                    units, [(other, -self._distances.between(block, other)) for other in blocks]
                )

    def _drop_all_but(self, remaining: np.ndarray) -> None:
        """Make smaller blocks once half of the units have been removed, or one block is enough."""
        held = sum(len(block.units) for block in self._blocks)
        if len(remaining) <= self._size or 2 * len(remaining) <= held:
            self._blocks = [self._gather(units) for units in _split(remaining, self._size)]

    def _gather(self, units: np.ndarray) -> Block:
        """Return the block of some units, ascending."""
        held = [block.units.numpy() for block in self._blocks]
        parts = np.split(units, np.searchsorted(units, [block[0] for block in held[1:]]))
        return concat_blocks(
            [
                block.subset(np.searchsorted(block_units, part))
                for block, block_units, part in zip(self._blocks, held, parts, strict=True)
                if len(part)
            ]
        )


class StoredStrips:
    """Distances of all units from all, kept where TensorFlow computed them."""

    def __init__(self) -> None:
        self._strips: defaultdict[int, list[Strip]] = defaultdict(list)  # by the first row

    def add(self, strip: Strip) -> None:
        """Store a strip of `UnitBlocks.all_strips`."""
        self._strips[int(strip.rows[0])].append(strip)

    def strips(self, rows: np.ndarray, remaining: np.ndarray) -> Iterator[Strip]:
        """Yield the distances of some units from all that remain, as one strip.

        Args:
            rows: Int array: the units, ascending.
            remaining: Int array: the units that remain, ascending.
        """
        parts = []
        for first, strips in sorted(self._strips.items()):
            units = rows[(rows >= first) & (rows < first + len(strips[0].rows))]
            gathered = [tf.gather(strip.closeness, units - first) for strip in strips]
            parts.append(tf.concat(gathered, axis=1))
        yield Strip(rows, remaining, tf.gather(tf.concat(parts, axis=0), remaining, axis=1))


def _split(items: _Items, size: int) -> list[_Items]:
    """Split a sequence into parts of `size` items; the last may be shorter."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def _with_transposes(
    tiles: Iterable[tuple[int, int, tf.Tensor]],
) -> Iterator[tuple[int, int, tf.Tensor]]:
    """Yield each tile, followed by the transposed tile below the diagonal."""
    for row, column, closeness in tiles:
        yield row, column, closeness
        if row != column:
            yield column, row, tf.transpose(closeness)


def _join(rows: np.ndarray, tiles: Sequence[tuple[Block, tf.Tensor]]) -> Strip:
    """Put tiles of the same rows side by side: blocks of the columns, and closeness."""
    blocks, closeness = zip(*tiles, strict=True)
    columns = np.concatenate([block.units for block in blocks])
    return Strip(rows, columns, tf.concat(closeness, axis=1))
