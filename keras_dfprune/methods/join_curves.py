"""Join the curves of several blocks of units that lose equally many.

Each round removes one unit of every block. A method sees each block as a group of its own.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_dfprune.methods.base import Curve
from keras_dfprune.methods.merge import (
    NO_SURVIVOR,
    CentroidMerge,
    LinearMerge,
    SurvivorMerge,
    UnitMerge,
)


def join_curves(curves: Sequence[Curve], blocks: Sequence[np.ndarray]) -> Curve:
    """Join the curves of the blocks of a group into one curve of the whole group.

    Args:
        curves: The curve of each block.
        blocks: The units of each block: ascending int arrays.

    Returns:
        The `Curve`. Its numbers of removals are multiples of the number of blocks, and its
        `moments` are those of each block, in a list.
    """
    if len(curves) == 1:
        return curves[0]
    rounds = min(len(curve.order) for curve in curves)
    orders = [units[curve.order[:rounds]] for curve, units in zip(curves, blocks, strict=True)]
    automatic = [curve.automatic for curve in curves if curve.automatic is not None]
    notes = [curve.note for curve in curves if curve.note is not None]

    def merge(count: int) -> UnitMerge:
        merges = [curve.merge(_rounds(count, blocks)) for curve in curves]
        return join_merges([merge for merge in merges if isinstance(merge, UnitMerge)], blocks)

    def moments(count: int) -> list[Any]:
        return [f(_rounds(count, blocks)) for f in _all(curve.moments for curve in curves)]

    def error(count: int) -> float:
        return sum(f(_rounds(count, blocks)) for f in _all(curve.error for curve in curves))

    return Curve(
        order=np.stack(orders, axis=1).reshape(-1),
        costs=np.stack([curve.costs[:rounds] for curve in curves], axis=1).reshape(-1),
        merge=merge,
        scale=sum(curve.scale for curve in curves),
        lossless=len(curves) * min(min(curve.lossless for curve in curves), rounds),
        automatic=len(curves) * min(automatic) if len(automatic) == len(curves) else None,
        moments=moments if all(curve.moments for curve in curves) else None,
        error=error if all(curve.error for curve in curves) else None,
        note=notes[0] if notes else None,
    )


def _all(functions: Any) -> list[Callable[[int], Any]]:
    return [function for function in functions if function is not None]


def _rounds(count: int, blocks: Sequence[np.ndarray]) -> int:
    """Return how many units each block loses if the group loses `count`."""
    rounds, rest = divmod(count, len(blocks))
    if rest:
        raise ValueError(f"{count} removals can't be shared out evenly over {len(blocks)} blocks.")
    return rounds


def join_merges(merges: Sequence[UnitMerge], blocks: Sequence[np.ndarray]) -> UnitMerge:
    """Join the merges of all blocks of a group, which remove equally many units.

    Args:
        merges: The merge of each block.
        blocks: The units of each block: ascending int arrays.
    """
    pairs = list(zip(merges, blocks, strict=True))
    units = sum(map(len, blocks))
    removed = np.stack([members[merge.removed] for merge, members in pairs], axis=1).reshape(-1)
    kept = np.sort(np.concatenate([members[merge.kept] for merge, members in pairs]))
    offset = np.zeros(units)
    for merge, members in pairs:
        offset[members] = merge.offset
    survivor, scale = np.full(units, NO_SURVIVOR), np.zeros(units)
    coefficients, shares = np.zeros((2, len(kept), units))
    level = np.zeros(len(kept))
    for merge, members in pairs:
        rows = np.searchsorted(kept, members[merge.kept])
        if isinstance(merge, SurvivorMerge):
            gone = members[merge.removed]
            survivor[gone] = np.where(merge.survivor >= 0, rows[merge.survivor], NO_SURVIVOR)
            scale[gone] = merge.scale
        within = np.ix_(rows, members)
        coefficients[within] = merge.absorb(np.eye(len(members)))
        shares[rows, members[merge.kept]] = 1.0
        if isinstance(merge, CentroidMerge):
            shares[within], level[rows] = merge.shares, merge.level
    if all(isinstance(merge, SurvivorMerge) for merge in merges):
        return SurvivorMerge(kept, removed, offset, survivor[removed], scale[removed])
    if any(isinstance(merge, CentroidMerge) for merge in merges):
        return CentroidMerge(kept, removed, offset, coefficients, shares, level)
    return LinearMerge(kept, removed, offset, coefficients[:, removed])
