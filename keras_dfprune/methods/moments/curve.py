"""Turn a group's moments into a curve of removals and the merge of any number of them.

The lossless removals come first, then the other units in the order of Optimal Brain Surgeon
(`removal_order.py`). The kept units take over by least squares (`reconstruction.py`).
"""

import numpy as np

from keras_dfprune.methods.base import Curve, GroupView
from keras_dfprune.methods.lossless import Removal, merge_of
from keras_dfprune.methods.merge import CentroidMerge, LinearMerge, UnitMerge
from keras_dfprune.methods.moments import removal_order
from keras_dfprune.methods.moments.reconstruction import Reconstruction, best_reconstruction
from keras_dfprune.methods.moments.remaining_units import (
    GroupMoments,
    RemainingUnits,
    remaining_units,
)
from keras_dfprune.methods.moments.unit_moments import UnitMoments
from keras_dfprune.report.progress import SILENT, Progress


def lossless_curve(group: GroupView, removals: list[Removal], note: str) -> Curve:
    """Return a curve of the lossless removals alone.

    Args:
        group: The group.
        removals: The lossless removals.
        note: Sentence for the report that says why there are no other removals.
    """
    count = len(removals)
    return Curve(
        order=merge_of(group.units, removals).removed,
        costs=np.zeros(count),
        merge=lambda first: merge_of(group.units, removals[:first]),
        lossless=count,
        note=note,
    )


def moment_curve(
    known: GroupMoments, removals: list[Removal], progress: Progress = SILENT
) -> Curve:
    """Return the whole curve of a group, down to one unit.

    Args:
        known: The group and its moments, which must be finite.
        removals: The lossless removals.
        progress: Shows the removals.
    """
    remaining, lossless = remaining_units(known, removals), len(removals)
    spread, outgoing = remaining.spread, remaining.outgoing
    order = removal_order.greedy_order(spread, outgoing, ridge=remaining.ridge, progress=progress)
    costs = np.concatenate([np.zeros(lossless), order.costs])
    variance = outgoing.expected_square(spread, np.arange(len(remaining.units)))
    scale = variance if variance > 0.0 else 1.0
    merges = MomentMerges(known.moments, removals, remaining, order.units)
    return Curve(
        order=np.concatenate([remaining.lossless_merge.removed, remaining.units[order.units]]),
        costs=costs,
        merge=merges.merge,
        scale=scale,
        lossless=lossless,
        moments=merges.moments,
        error=merges.error,
    )


def curve_of_given_units(known: GroupMoments, units: np.ndarray) -> Curve:
    """Return a curve that removes given units in their order, at costs that are not computed.

    Args:
        known: The group and its moments, which must be finite.
        units: Int array: the units.
    """
    merges = MomentMerges(known.moments, [], remaining_units(known, []), units)
    costs = np.zeros(len(units))
    return Curve(order=units, costs=costs, merge=merges.merge, moments=merges.moments)


class MomentMerges:
    """Merges of one group for every number of removals.

    Args:
        moments: Moments of all units.
        removals: The lossless removals.
        remaining: The units that they leave.
        order: Int array: positions among the remaining units, in the order of their removal.
    """

    def __init__(
        self,
        moments: UnitMoments,
        removals: list[Removal],
        remaining: RemainingUnits,
        order: np.ndarray,
    ) -> None:
        self._moments, self._removals = moments, removals
        self._remaining, self._order = remaining, order
        # Only the latest, by its number of removals: it is needed several times in a row.
        self._latest: dict[int, Reconstruction] = {}

    def merge(self, count: int) -> UnitMerge:
        """Return the unit merge of the first `count` removals."""
        if count <= len(self._removals):
            return merge_of(self._remaining.group.units, self._removals[:count])
        rebuilt, remaining = self._reconstruction(count), self._remaining
        removed = remaining.units[self._order[: count - len(self._removals)]]
        removed = np.concatenate([remaining.lossless_merge.removed, removed])
        kept, offset = remaining.units[rebuilt.kept], self._offset(rebuilt)
        if rebuilt.shares is None and not self._removals:
            return LinearMerge(kept, removed, offset, rebuilt.target_coefficients)
        coefficients = self._for_group(rebuilt.coefficients(len(remaining.units)))
        if rebuilt.shares is None:
            return LinearMerge(kept, removed, offset, coefficients[:, removed])
        shares, level = rebuilt.shares, np.zeros(len(kept))
        if self._removals:
            shares = np.zeros_like(coefficients)
            shares[:, remaining.units] = rebuilt.shares
        return CentroidMerge(kept, removed, offset, coefficients, shares, level)

    def error(self, count: int) -> float:
        """Return the expected squared change of the outputs by `merge(count)`, without ridge."""
        if count <= len(self._removals):
            return 0.0
        return self._reconstruction(count).error

    def moments(self, count: int) -> UnitMoments:
        """Return the moments of the units that `merge(count)` keeps."""
        if count <= len(self._removals):
            units = self._remaining.group.units
            return self._moments.take_units(merge_of(units, self._removals[:count]).kept)
        return self._reconstruction(count).moments

    def _reconstruction(self, count: int) -> Reconstruction:
        if count not in self._latest:
            removed = self._order[: count - len(self._removals)]
            kept = np.setdiff1d(np.arange(len(self._remaining.units)), removed)
            rebuilt = best_reconstruction(self._remaining, kept, removed)
            self._latest = {count: rebuilt}
        return self._latest[count]

    def _offset(self, rebuilt: Reconstruction) -> np.ndarray:
        """Return the offsets of all units of the group.

        Copies follow their survivors, which are kept or rebuilt. Units without one have scale 0.
        """
        remaining, merge = self._remaining, self._remaining.lossless_merge
        offset = merge.offset.copy()
        if remaining.group.offset_allowed:
            constants = rebuilt.offset(remaining.moments.mean)
            offset[merge.removed] += merge.scale * constants[merge.survivor]
            offset[remaining.units] = constants
        return offset

    def _for_group(self, coefficients: np.ndarray) -> np.ndarray:
        """Expand coefficients of the remaining units to all units of the group.

        Copies follow their survivors, which are kept or rebuilt. Units without one have scale 0.

        Args:
            coefficients: Float64 array, shape `(kept, remaining)`.

        Returns:
            Float64 array, shape `(kept, units)`.
        """
        merge = self._remaining.lossless_merge
        if not self._removals:
            return coefficients
        expanded = np.empty((len(coefficients), self._remaining.group.units))
        expanded[:, self._remaining.units] = coefficients
        expanded[:, merge.removed] = coefficients[:, merge.survivor] * merge.scale
        return expanded
