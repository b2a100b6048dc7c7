"""Remove units one by one, each time the unit whose removal costs least.

Distances stay the same, and the importance of a unit grows with what it takes over (Srinivas & Babu
2015, Section 3). The cost of removing unit j is `s_ij = <a_j^2> ||W_i - W_j||^2` for the nearest i
of the units that remain.
"""

from collections.abc import Iterable

import numpy as np

from keras_dfprune.methods.base import GroupView
from keras_dfprune.methods.lossless import Removal
from keras_dfprune.methods.merge import NO_SURVIVOR
from keras_dfprune.methods.saliency.importance import Importance
from keras_dfprune.methods.saliency.neighbours import Nearest, Neighbours


class GreedyRemovals:
    """Removals of a group, made one after the other.

    The cost of a unit is out of date when its nearest unit has been removed. The true cost can only
    be larger, so it is updated only when the old cost is the smallest of all. Most costs are never
    updated. Beside the lists of neighbours this takes `O(units)` memory.

    Args:
        group: The group.
        importance: Importance of its units, which is updated with each removal.
        surgery: Whether survivors take over the outgoing weights of removed units.

    Attributes:
        removals: The removals made so far.
        costs: The cost of each.
    """

    def __init__(self, group: GroupView, importance: Importance, surgery: bool):
        self._importance = importance
        self._surgery = surgery
        self._alive = np.ones(group.units, bool)
        self._can_survive = group.can_survive.copy()  # of the units that are alive
        self._nearest = np.full(group.units, NO_SURVIVOR)
        self._distance = np.full(group.units, np.inf)
        self._cost = np.full(group.units, np.inf)
        self.removals: list[Removal] = []
        self.costs: list[float] = []

    def remove_lossless(self, removals: Iterable[Removal]) -> None:
        """Make removals that cost nothing, before all others."""
        for removal in removals:
            self._remove(removal, 0.0)

    def remove_all_but_one(self, neighbours: Neighbours) -> None:
        """Remove the cheapest unit until one is left. Of equal costs the smallest index goes first.

        Args:
            neighbours: Lists of the units that are alive.
        """
        alive = np.flatnonzero(self._alive)
        self._set_nearest(alive, neighbours.nearest(alive, self._can_survive))
        for _ in range(len(alive) - 1):
            unit = self._cheapest()
            while self._is_out_of_date(unit):
                self._update(unit, neighbours)
                unit = self._cheapest()
            self._remove(self._removal_of(unit), float(self._cost[unit]))

    def remove_given(self, units: np.ndarray, neighbours: Neighbours) -> None:
        """Remove given units in their order. Each is merged with its nearest unit that stays.

        Args:
            units: Int array: the units.
            neighbours: Lists of units that stay.
        """
        self._can_survive[units] = False
        self._set_nearest(units, neighbours.nearest(units, self._can_survive))
        for unit in units.tolist():
            self._remove(self._removal_of(unit), float(self._cost[unit]))

    def _cheapest(self) -> int:
        unit = int(self._cost.argmin())
        if self._alive[unit]:
            return unit
        return int(np.flatnonzero(self._alive)[0])  # all costs are infinite: any order will do

    def _is_out_of_date(self, unit: int) -> bool:
        nearest = self._nearest[unit]
        return nearest != NO_SURVIVOR and not self._can_survive[nearest]

    def _removal_of(self, unit: int) -> Removal:
        survivor, alpha = int(self._nearest[unit]), self._importance.alpha
        if not self._surgery or survivor == NO_SURVIVOR:
            return Removal(unit, NO_SURVIVOR, 0.0, 0.0)
        return Removal(unit, survivor, float(alpha[unit] / alpha[survivor]), 0.0)

    def _update(self, unit: int, neighbours: Neighbours) -> None:
        """Update the nearest unit and the cost of a unit from its list.

        An exhausted list gives a lower bound of the cost. If that is not above the old cost, all
        exhausted lists are made anew together.
        """
        listed = neighbours.nearest_listed(unit, self._can_survive)
        if listed is not None:
            self._nearest[unit], self._distance[unit] = listed
            self._update_cost(unit)
            return
        before = self._cost[unit]
        nearest = neighbours.nearest(np.array([unit]), self._can_survive)
        self._set_nearest(np.array([unit]), nearest)
        if nearest.certain.all() or self._cost[unit] > before:
            return
        alive = np.flatnonzero(self._alive)
        nearest = neighbours.nearest(alive, self._can_survive)
        self._set_nearest(alive, nearest)
        exhausted = alive[~nearest.certain]
        renewed = neighbours.rebuild(exhausted, self._can_survive, self._alive)
        self._set_nearest(renewed, neighbours.nearest(renewed, self._can_survive))

    def _set_nearest(self, units: np.ndarray, nearest: Nearest) -> None:
        """Set the nearest unit, its distance and the cost of several units."""
        distance = nearest.distances
        self._nearest[units] = np.where(np.isinf(distance), NO_SURVIVOR, nearest.units)
        self._distance[units] = distance
        importance = self._importance.values[units]
        cost = np.zeros(len(units))  # an importance of 0 costs nothing at an infinite distance, too
        self._cost[units] = np.multiply(importance, distance, out=cost, where=importance != 0)

    def _update_cost(self, unit: int) -> None:
        """Set the cost of one unit from its importance and the distance of its nearest unit."""
        importance = self._importance.values[unit]
        self._cost[unit] = importance * self._distance[unit] if importance else 0.0

    def _remove(self, removal: Removal, cost: float) -> None:
        unit, survivor = removal.unit, removal.survivor
        self.removals.append(removal)
        self.costs.append(cost)
        self._alive[unit] = self._can_survive[unit] = False
        self._cost[unit] = np.inf
        if survivor == NO_SURVIVOR:
            return
        # The product is 1, except for multiples that are merged without normalisation.
        ratio = self._importance.alpha[survivor] / self._importance.alpha[unit]
        self._importance.merge(unit, survivor, removal.scale * ratio)
        self._update_cost(survivor)
