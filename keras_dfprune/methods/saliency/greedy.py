"""Lists of neighbours and outgoing weights into removals, each the cheapest at its moment.

Distances stay, the importance of a unit grows with what it takes over (Srinivas & Babu 2015,
Section 3): `s_ij = <a_j^2> ||W_i - W_j||^2` for the nearest i of each j that is left.
"""

import math

import numpy as np

from keras_dfprune.methods.base import GroupView
from keras_dfprune.methods.lossless import Removal
from keras_dfprune.methods.saliency.neighbours import Neighbours


class Importance:
    """`<a_j^2>` of the outgoing weights, times `alpha_j` squared, kept up to date by merges.

    Attributes:
        values: Float64 array, shape `(units,)`.
    """

    def __init__(self, group: GroupView, aggregate: str, merge_scale: np.ndarray):
        self._outgoing = group.outgoing
        self._outputs = group.outputs()
        self._aggregate = aggregate
        self._scale = merge_scale
        self._merged: dict[int, np.ndarray] = {}  # rows of units that have taken over others
        self.values = np.square(merge_scale) * self._of_all()

    def hand_over(self, unit: int, survivor: int, factor: float) -> None:
        """`a_i <- a_i + factor a_j` in the scaled weights."""
        ours, other = self._row(survivor), self._row(unit)
        other *= factor  # in place: nobody asks for a removed unit again
        ours += other
        self._merged[survivor] = ours
        self._merged.pop(unit, None)
        self.values[survivor] = self._of_row(ours)

    def _row(self, unit: int) -> np.ndarray:
        """All of a unit's weights, scaled: float64, shape `(sum(positions * outputs),)`."""
        if unit in self._merged:
            return self._merged[unit]
        parts = [block[unit].ravel() for block in self._outgoing]
        row = np.concatenate(parts, dtype=np.float64)
        row *= self._scale[unit]
        return row

    def _of_row(self, row: np.ndarray) -> float:
        if self._aggregate == "mean":
            return float(np.vdot(row, row)) / self._outputs
        shapes = [block.shape[1:] for block in self._outgoing]
        parts = np.split(np.square(row), np.cumsum([math.prod(shape) for shape in shapes])[:-1])
        sums = [part.reshape(shape).sum(axis=0) for part, shape in zip(parts, shapes, strict=True)]
        return max(float(one.max()) for one in sums)

    def _of_all(self) -> np.ndarray:
        if self._aggregate == "mean":
            rows = [block.reshape(len(block), -1) for block in self._outgoing]
            squares = [np.einsum("ij,ij->i", row, row, dtype=np.float64) for row in rows]
            return np.sum(squares, axis=0) / self._outputs
        squares = [np.square(block, dtype=np.float64) for block in self._outgoing]
        return np.max([one.sum(axis=1).max(axis=1) for one in squares], axis=0)


class Search:
    """The greedy removals; only O(units) numbers are kept beside the lists of neighbours.

    A unit whose nearest has gone keeps its old cost, which its true one can't be below, until that
    is the smallest of all: most never come to be looked up again.
    """

    def __init__(
        self,
        group: GroupView,
        neighbours: Neighbours | None,
        importance: Importance,
        merge_scale: np.ndarray,
        surgery: bool,
    ):
        self._neighbours = neighbours
        self._importance = importance
        self._merge_scale = merge_scale
        self._surgery = surgery
        self._alive = np.ones(group.units, bool)
        self._allowed = group.can_survive.copy()  # those of them that may survive for others
        self._nearest: np.ndarray | None = None
        self._distance = np.full(group.units, np.inf)
        self._cost = np.full(group.units, np.inf)
        self.removals: list[Removal] = []
        self.costs: list[float] = []

    def remove_exactly(self, removal: Removal) -> None:
        """Takes out a unit that the lossless pass found."""
        self._take_out(removal, 0.0)

    def remove_cheapest(self) -> None:
        """Takes out the unit with the smallest saliency; ties go to the smallest index."""
        if self._nearest is None:
            self._nearest = np.full(len(self._alive), -1)
            self._look_up(np.flatnonzero(self._alive))
        unit = self._cheapest()
        while self._outdated(unit):
            self._renew(unit)
            unit = self._cheapest()
        survivor = int(self._nearest[unit]) if self._surgery else -1
        scale = self._merge_scale[unit] / self._merge_scale[survivor] if survivor >= 0 else 0.0
        self._take_out(Removal(unit, survivor, float(scale), 0.0), float(self._cost[unit]))

    def _cheapest(self) -> int:
        unit = int(self._cost.argmin())
        if self._alive[unit]:
            return unit
        return int(np.flatnonzero(self._alive)[0])  # every cost is infinite: any order will do

    def _outdated(self, unit: int) -> bool:
        nearest = self._nearest[unit]
        return nearest >= 0 and not self._allowed[nearest]

    def _renew(self, unit: int) -> None:
        """Looks a unit up again; where that tells no more, refills all dry lists together."""
        found = self._neighbours.nearest_of(unit, self._allowed)
        if found is not None:
            self._nearest[unit], self._distance[unit] = found
            self._weigh(unit)
            return
        before = self._cost[unit]
        if self._look_up(np.array([unit])).all() or self._cost[unit] > before:
            return
        units = np.flatnonzero(self._alive)
        dry = units[~self._look_up(units)]
        self._look_up(self._neighbours.refill(dry, self._allowed, self._alive))

    def _look_up(self, units: np.ndarray) -> np.ndarray:
        """Finds the nearest unit that is left, and the cost; returns where that is certain."""
        nearest, distance, certain = self._neighbours.nearest(units, self._allowed)
        self._nearest[units] = np.where(np.isinf(distance), -1, nearest)
        self._distance[units] = distance
        weight = self._importance.values[units]
        self._cost[units] = np.where(weight == 0, 0.0, weight * distance)
        return certain

    def _take_out(self, removal: Removal, cost: float) -> None:
        unit, survivor = removal.unit, removal.survivor
        self.removals.append(removal)
        self.costs.append(cost)
        self._alive[unit] = self._allowed[unit] = False
        self._cost[unit] = np.inf
        if survivor < 0:
            return
        # 1 but for multiples that the lossless pass merges without normalisation
        alpha = self._merge_scale[survivor] / self._merge_scale[unit]
        self._importance.hand_over(unit, survivor, removal.scale * alpha)
        if self._nearest is not None:
            self._weigh(survivor)

    def _weigh(self, unit: int) -> None:
        """The cost of a unit from its importance and the distance of its nearest."""
        weight = self._importance.values[unit]
        self._cost[unit] = weight * self._distance[unit] if weight else 0.0
