"""A group's moments into its removals and the merge of any number of them.

The exact removals come first, then Optimal Brain Surgeon on the rest (`removal_order.py`). What is left
takes over by least squares (`fits.py`).
"""

import numpy as np
import tensorflow as tf

from keras_dfprune.methods.base import Curve, GroupView
from keras_dfprune.methods.lossless import Removal, merge_of
from keras_dfprune.methods.merge import CentroidMerge, LinearMerge, SurvivorMerge, UnitMerge
from keras_dfprune.methods.moments import removal_order
from keras_dfprune.methods.moments.least_squares import ridge_of
from keras_dfprune.methods.moments.outgoing_weights import Outgoing
from keras_dfprune.methods.moments.reconstruction import RIDGE, Fit, Left, best_fit
from keras_dfprune.methods.moments.unit_moments import Preactivations, UnitMoments
from keras_dfprune.report.progress import Progress

# Without a budget: predicted squared change over the variance of a group's outputs. The worst of
# 21 networks (`benchmarks/nets.py`) lost 0.25 points of accuracy at 0.001, 0.42 at 0.002, 0.48 at
# 0.003, 0.49 at 0.004 with kept units as they were; with moved ones five were tried again, and the
# worst lost 0.24 at 0.002.
DEFAULT_TOLERANCE = 0.002


class Surgery:
    """One group's removals.

    Args:
        group: The group.
        moments: The moments of its units.
        exact: The exact removals.
        normal: The pre-activations, where kept units may get new weight-sets; else None.
        steps: Steps downhill from the means of clusters (`descent.py`).
    """

    def __init__(
        self,
        group: GroupView,
        moments: UnitMoments,
        exact: list[Removal],
        normal: Preactivations | None = None,
        steps: int = 0,
    ):
        self._group, self._moments, self._exact = group, moments, exact
        self._sparse = self._first_exact(len(exact))
        left = self._sparse.kept
        # Kernels hold a unit in each column; from here on single units are read, so rows.
        sets = np.concatenate([group.weights.T, group.constants.T])
        sets = np.asarray(tf.transpose(sets))
        norms, weights = group.norms, group.outgoing_matrix()
        if exact:  # else copies of everything
            sets, norms, weights = sets[left], norms[left], self._sparse.absorb(weights)
        moments = moments.select(left)
        self._left = Left(
            group=group,
            units=left,
            sets=sets,
            norms=np.maximum(norms, 1e-300),
            outgoing=Outgoing(weights),
            moments=moments,
            spread=moments.covariance if group.offset_allowed else moments.second,
            ridge=ridge_of(moments.second, RIDGE),
            normal=None if normal is None else normal.select(left),
        )
        self._steps = steps
        self._fitted: dict[int, Fit] = {}

    def curve(self, progress: Progress) -> Curve:
        """The whole curve, down to one unit; shows the removals."""
        left = self._left
        greedy = removal_order.greedy_order(
            left.spread, left.outgoing, ridge=left.ridge, progress=progress
        )
        self._order = greedy.order
        costs = np.concatenate([np.zeros(len(self._exact)), greedy.costs])
        variance = left.outgoing.square(left.spread, np.arange(len(left.units)))
        scale = variance if variance > 0.0 else 1.0
        within = np.cumsum(costs) <= DEFAULT_TOLERANCE * scale
        return Curve(
            order=np.concatenate([self._sparse.removed, left.units[greedy.order]]),
            costs=costs,
            merge=self.merge,
            scale=scale,
            lossless=len(self._exact),
            automatic=max(len(self._exact), int(np.sum(within))),
            moments=self.moments,
            error=self.error,
        )

    def exact_curve(self, note: str) -> Curve:
        """Only the exact removals."""
        count = len(self._exact)
        return Curve(
            order=self._sparse.removed,
            costs=np.zeros(count),
            merge=self._first_exact,
            lossless=count,
            automatic=count,
            note=note,
        )

    def merge(self, count: int) -> UnitMerge:
        """The unit merge of the first `count` removals."""
        exact = len(self._exact)
        if count <= exact:
            return self._first_exact(count)
        fit = self._fit(count - exact)
        # Follow the exact removals: their survivors may be kept, or rebuilt themselves.
        survivor, scale = self._sparse.survivor, self._sparse.scale  # scale 0 where there is none
        units, gone = self._sparse.kept, self._sparse.removed
        offset = self._sparse.offset.copy()
        if self._group.offset_allowed:
            constant = fit.constant(self._left.moments.mean)
            offset[gone] += scale * constant[survivor]
            offset[units] = constant
        kept, removed = units[fit.kept], units[self._split(count - exact)[1]]
        if fit.shares is None and not len(gone):
            return LinearMerge(kept, removed, offset, fit.taken_over)
        coefficients, shares = fit.rebuilt(len(units)), fit.shares
        if len(gone):
            coefficients, own = np.empty((len(fit.kept), self._group.units)), coefficients
            coefficients[:, units], coefficients[:, gone] = own, own[:, survivor] * scale
        removed = np.concatenate([gone, removed])
        if shares is None:
            return LinearMerge(kept, removed, offset, coefficients[:, removed])
        if len(gone):
            shares = np.zeros_like(coefficients)
            shares[:, units] = fit.shares
        return CentroidMerge(kept, removed, offset, coefficients, shares, fit.level)

    def error(self, count: int) -> float:
        """The expected squared change of the outputs that `merge(count)` makes, without ridge."""
        exact = len(self._exact)
        return 0.0 if count <= exact else self._fit(count - exact).error

    def moments(self, count: int) -> UnitMoments:
        """The moments of the units that `merge(count)` keeps."""
        exact = len(self._exact)
        if count <= exact:
            return self._moments.select(self._first_exact(count).kept)
        return self._fit(count - exact).moments

    def _first_exact(self, count: int) -> SurvivorMerge:
        return merge_of(self._group.units, self._exact[:count])

    def _split(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Kept and removed units, positions among those that the exact removals leave."""
        removed = self._order[:count]
        return np.setdiff1d(np.arange(len(self._sparse.kept)), removed), removed

    def _fit(self, count: int) -> Fit:
        if count not in self._fitted:
            self._fitted = {count: best_fit(self._left, *self._split(count), self._steps)}
        return self._fitted[count]  # asked for several times in a row
