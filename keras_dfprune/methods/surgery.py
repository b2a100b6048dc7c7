"""A group's moments into its removals and the merge of any number of them.

The exact removals come first, then Optimal Brain Surgeon on the rest (`surgeon.py`). What is left
takes over by least squares, with its own weight-sets or, where that is predicted to be better, with
the means of those that it stands for.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from keras_dfprune.clusters import members_of
from keras_dfprune.merge import (
    CentroidMerge,
    LinearMerge,
    SurvivorMerge,
    UnitMerge,
)
from keras_dfprune.methods import surgeon
from keras_dfprune.methods.base import Curve, GroupView
from keras_dfprune.methods.descent import descend
from keras_dfprune.methods.distances import full_precision
from keras_dfprune.methods.exact import Removal, merge_of
from keras_dfprune.methods.gaussian import Preactivations, UnitMoments
from keras_dfprune.methods.least_squares import LeastSquares, ridge_of
from keras_dfprune.methods.outgoing import Outgoing
from keras_dfprune.progress import Progress

# Relative to the mean second moment: small enough not to show, large enough for a Cholesky factor.
RIDGE = 1e-6
# Without a budget: predicted squared change over the variance of a group's outputs. The worst of
# 21 networks (`benchmarks/nets.py`) lost 0.25 points of accuracy at 0.001, 0.42 at 0.002, 0.48 at
# 0.003, 0.49 at 0.004 with kept units as they were; with moved ones five were tried again, and the
# worst lost 0.24 at 0.002.
DEFAULT_TOLERANCE = 0.002


# For each unit left, its place among the heirs (0 where it has none) and what that is scaled by.
_Merge = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class _Fit:
    """How the units that the exact removals leave are rebuilt from the kept ones.

    Attributes:
        kept: Int array, shape `(kept,)`: positions among the units left.
        places: Int array, shape `(heirs,)`: positions of those that take over, in `kept`.
        targets: Int array, shape `(targets,)`: units that are rebuilt; the others stay.
        squares: The least squares: targets from heirs.
        error: The expected squared change of the outputs, without ridge.
        moments: The moments of the kept units.
        shares, level: Float64 arrays, shape `(kept, left)` and `(kept,)`, as in `CentroidMerge`;
            None where kept units keep their weight-sets.
    """

    kept: np.ndarray
    places: np.ndarray
    targets: np.ndarray
    squares: LeastSquares
    error: float
    moments: UnitMoments
    shares: np.ndarray | None = None
    level: np.ndarray | None = None

    @property
    def taken_over(self) -> np.ndarray:
        """The targets from the kept units: float64, shape `(kept, targets)`."""
        if len(self.places) == len(self.kept):
            return self.squares.coefficients
        taken_over = np.zeros((len(self.kept), len(self.targets)))
        taken_over[self.places] = self.squares.coefficients
        return taken_over

    def rebuilt(self, left: int) -> np.ndarray:
        """All units from the kept ones: float64, shape `(kept, left)`."""
        if len(self.targets) == left:
            return self.taken_over
        rebuilt = np.zeros((len(self.kept), left))
        rebuilt[np.arange(len(self.kept)), self.kept] = 1.0
        rebuilt[:, self.targets] = self.taken_over
        return rebuilt

    def constant(self, mean: np.ndarray) -> np.ndarray:
        """What is left of the units' means for a constant: float64, shape `(left,)`."""
        constant = np.zeros(len(mean))
        taken_over = self.moments.mean[self.places] @ self.squares.coefficients
        constant[self.targets] = mean[self.targets] - taken_over
        return constant


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
        # From here on every array is over the units that the exact removals leave.
        left = self._sparse.kept
        # Kernels hold a unit in each column; from here on single units are read, so rows.
        sets = np.concatenate([group.weights.T, group.constants.T])
        sets = np.asarray(tf.transpose(sets))
        norms, weights = group.norms, group.outgoing_matrix()
        if exact:  # else copies of everything
            sets, norms, weights = sets[left], norms[left], self._sparse.absorb(weights)
        self._sets, self._norms = sets, np.maximum(norms, 1e-300)
        self._outgoing = Outgoing(weights)
        self._left = moments.select(left)
        # With a constant that takes over, too, the means are its: covariances are left to rebuild.
        self._spread = self._left.covariance if group.offset_allowed else self._left.second
        self._ridge = ridge_of(self._left.second, RIDGE)
        self._normal = None if normal is None else normal.select(left)
        self._steps = steps
        self._fitted: dict[int, _Fit] = {}

    def curve(self, progress: Progress) -> Curve:
        """The whole curve, down to one unit; shows the removals."""
        greedy = surgeon.greedy_order(
            self._spread, self._outgoing, ridge=self._ridge, progress=progress
        )
        self._order = greedy.order
        costs = np.concatenate([np.zeros(len(self._exact)), greedy.costs])
        variance = self._outgoing.square(self._spread, np.arange(len(self._sets)))
        scale = variance if variance > 0.0 else 1.0
        within = np.cumsum(costs) <= DEFAULT_TOLERANCE * scale
        return Curve(
            order=np.concatenate([self._sparse.removed, self._sparse.kept[greedy.order]]),
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
            constant = fit.constant(self._left.mean)
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

    def _fit(self, count: int) -> _Fit:
        """The better of the two ways to rebuild the units left, by its predicted error."""
        if count not in self._fitted:
            kept, removed = self._split(count)
            heirs = kept[self._group.can_survive[self._sparse.kept[kept]]]
            merge = self._nearest(heirs, removed)
            fit = self._as_they_are(kept, removed, heirs, merge)
            if self._normal is not None and len(heirs):
                fits = [fit, *self._moved(kept, heirs, merge)]
                fit = min(fits, key=lambda one: one.error)
            self._fitted = {count: fit}  # asked for several times in a row
        return self._fitted[count]

    def _as_they_are(
        self, kept: np.ndarray, removed: np.ndarray, heirs: np.ndarray, merge: _Merge
    ) -> _Fit:
        """Kept units as they are; the heirs among them take over."""
        nearest, scale = merge
        squares = LeastSquares(
            self._spread[np.ix_(heirs, heirs)],
            self._spread[np.ix_(heirs, removed)],
            nearest=nearest[removed],
            scale=scale[removed],
            ridge=self._ridge,
        )
        square = self._outgoing.square(self._spread, removed)
        error = squares.error(square, self._outgoing, removed)
        places = np.searchsorted(kept, heirs)
        return _Fit(kept, places, removed, squares, error, self._left.select(kept))

    def _moved(self, kept: np.ndarray, heirs: np.ndarray, merge: _Merge) -> Iterator[_Fit]:
        """Fits with new weight-sets: means of clusters, then those moved downhill."""
        shares = self._cluster_shares(kept, heirs, merge[0])
        yield self._with_centroids(kept, heirs, shares, np.zeros(len(kept)), merge)
        if self._steps and len(heirs) == len(kept):
            moved = descend(
                self._normal,
                self._group.activation,
                shares,
                self._outgoing.weights,
                constant=self._group.offset_allowed,
                level=self._group.levels,
                ridge=RIDGE,
                steps=self._steps,
            )
            yield self._with_centroids(kept, heirs, *moved, merge)

    def _with_centroids(
        self,
        kept: np.ndarray,
        heirs: np.ndarray,
        shares: np.ndarray,
        level: np.ndarray,
        merge: _Merge,
    ) -> _Fit:
        """All units rebuilt from heirs with new weight-sets."""
        places = np.searchsorted(kept, heirs)
        new, across = self._normal.with_sums(self._group.activation, shares, level)
        within = new.second
        if self._group.offset_allowed:
            within = new.covariance
            for row, mean in zip(across, new.mean, strict=True):  # a third matrix takes longer
                row -= mean * self._left.mean
        targets = np.setdiff1d(np.arange(len(self._sets)), np.setdiff1d(kept, heirs))
        if len(heirs) < len(kept):  # else a copy of all of them
            within, across = within[np.ix_(places, places)], across[np.ix_(places, targets)]
        nearest, scale = (part[targets] for part in merge)
        ridge = ridge_of(new.second, RIDGE)
        squares = LeastSquares(within, across, nearest=nearest, scale=scale, ridge=ridge)
        square = self._outgoing.square(self._spread, targets)
        error = squares.error(square, self._outgoing, targets)
        return _Fit(kept, places, targets, squares, error, new, shares, level)

    def _cluster_shares(
        self, kept: np.ndarray, heirs: np.ndarray, nearest: np.ndarray
    ) -> np.ndarray:
        """Each heir as the mean of the units that are nearest to it, shape `(kept, left)`.

        One step of k-means, from the units that the order keeps (Lloyd 1982), with the distance of
        the paper's surgery. Where the activation is positively homogeneous the sum of the
        weight-sets, at the norm of the heir's own.
        """
        left = len(self._sets)
        cluster = np.searchsorted(kept, heirs)[nearest]
        cluster[kept] = np.arange(len(kept))
        sizes = np.bincount(cluster)
        factor = 1.0 / sizes
        if self._group.activation.homogeneous:
            own = self._norms[kept]
            members = members_of(cluster, len(kept))
            sums = (np.sum(self._sets[some], axis=0, dtype=np.float64) for some in members)
            norm = np.array([np.linalg.norm(one) for one in sums])
            factor = own / np.maximum(norm, 1e-3 * own)  # opposite ones cancel
        shares = np.zeros((len(kept), left))
        shares[cluster, np.arange(left)] = factor[cluster]
        return shares

    def _nearest(self, heirs: np.ndarray, removed: np.ndarray) -> _Merge:
        """The paper's merge: each removed unit on its nearest heir, heirs on themselves."""
        nearest, scale = np.zeros(len(self._sets), np.int64), np.ones(len(self._sets))
        if len(heirs) == 0:
            return nearest, scale
        norms = self._norms
        unit = 1.0 / norms if self._group.activation.homogeneous else np.ones(len(norms))
        ours, theirs = (self._sets[some] for some in (heirs, removed))
        ours *= unit[heirs, None]
        theirs *= unit[removed, None]
        with full_precision():  # float32 is enough to choose one
            product = tf.matmul(
                *(tf.cast(part, tf.float32) for part in (theirs, ours)), transpose_b=True
            )
        distance = np.square(unit * norms)[heirs] - 2.0 * np.asarray(product)
        nearest[heirs], nearest[removed] = np.arange(len(heirs)), np.argmin(distance, axis=1)
        return nearest, unit[heirs[nearest]] / unit
