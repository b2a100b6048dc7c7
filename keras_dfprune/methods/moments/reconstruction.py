"""Kept units and removed ones into the removed ones rebuilt from the kept: a fit.

Least squares on the units' moments, from kept units as they are or, where that is predicted to be
better, from the means of those that they stand for (a step of k-means), moved further downhill.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from keras_dfprune.methods.base import GroupView
from keras_dfprune.methods.full_precision import full_precision
from keras_dfprune.methods.moments.centroid_descent import descend
from keras_dfprune.methods.moments.least_squares import LeastSquares, ridge_of
from keras_dfprune.methods.moments.outgoing_weights import Outgoing
from keras_dfprune.methods.moments.symmetric_matrices import select
from keras_dfprune.methods.moments.unit_moments import Preactivations, UnitMoments
from keras_dfprune.methods.weighted_sums import members_of

# Relative to the mean second moment: small enough not to show, large enough for a Cholesky factor.
RIDGE = 1e-6

# For each unit left, its place among the heirs (0 where it has none) and what that is scaled by.
_Merge = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class Left:
    """The units that the exact removals leave of a group: what fits are made of.

    Attributes:
        group: The group.
        units: Int array, shape `(left,)`: which of its units; all other arrays are over these.
        sets: Float array, shape `(left, inputs + 1 + extra)`: weight-sets, a unit in each row.
        norms: Float64 array, shape `(left,)`: theirs, positive.
        outgoing: The outgoing weights, with those of copies that are gone.
        moments: The moments.
        spread: Float64 tensor, shape `(left, left)`: the second moments; where a constant takes
            over, too, the means are its, and the covariances are left to rebuild.
        ridge: What is added to the diagonal of `spread`.
        normal: The pre-activations, where kept units may get new weight-sets; else None.
    """

    group: GroupView
    units: np.ndarray
    sets: np.ndarray
    norms: np.ndarray
    outgoing: Outgoing
    moments: UnitMoments
    spread: tf.Tensor
    ridge: float
    normal: Preactivations | None


@dataclasses.dataclass(frozen=True, eq=False)
class Fit:
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
        coefficients = np.asarray(self.squares.coefficients)
        if len(self.places) == len(self.kept):
            return coefficients
        taken_over = np.zeros((len(self.kept), len(self.targets)))
        taken_over[self.places] = coefficients
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
        constant, heirs = np.zeros(len(mean)), self.moments.mean[self.places]
        taken_over = tf.linalg.matvec(self.squares.coefficients, heirs, transpose_a=True)
        constant[self.targets] = mean[self.targets] - taken_over
        return constant


def best_fit(left: Left, kept: np.ndarray, removed: np.ndarray, steps: int) -> Fit:
    """The better of the ways to rebuild the units left, by its predicted error.

    Args:
        left: The units left.
        kept: Int array, shape `(kept,)`: positions among them, ascending.
        removed: Int array, shape `(removed,)`: the others.
        steps: Steps downhill from the means of clusters (`descent.py`).
    """
    heirs = kept[left.group.can_survive[left.units[kept]]]
    merge = _nearest(left, heirs, removed)
    fit = _as_they_are(left, kept, removed, heirs, merge)
    if left.normal is not None and len(heirs):
        fits = [fit, *_moved(left, kept, heirs, merge, steps)]
        fit = min(fits, key=lambda one: one.error)
    return fit


def _as_they_are(
    left: Left, kept: np.ndarray, removed: np.ndarray, heirs: np.ndarray, merge: _Merge
) -> Fit:
    """Kept units as they are; the heirs among them take over."""
    nearest, scale = merge
    squares = LeastSquares(
        select(left.spread, heirs, heirs),
        select(left.spread, heirs, removed),
        nearest=nearest[removed],
        scale=scale[removed],
        ridge=left.ridge,
    )
    square = left.outgoing.square(left.spread, removed)
    error = squares.error(square, left.outgoing, removed)
    places = np.searchsorted(kept, heirs)
    return Fit(kept, places, removed, squares, error, left.moments.select(kept))


def _moved(
    left: Left, kept: np.ndarray, heirs: np.ndarray, merge: _Merge, steps: int
) -> Iterator[Fit]:
    """Fits with new weight-sets: means of clusters, then those moved downhill."""
    shares = _cluster_shares(left, kept, heirs, merge[0])
    yield _with_centroids(left, kept, heirs, shares, np.zeros(len(kept)), merge)
    if steps and len(heirs) == len(kept):
        moved = descend(
            left.normal,
            left.group.activation,
            shares,
            left.outgoing.weights,
            constant=left.group.offset_allowed,
            level=left.group.levels,
            ridge=RIDGE,
            steps=steps,
        )
        yield _with_centroids(left, kept, heirs, *moved, merge)


def _with_centroids(
    left: Left,
    kept: np.ndarray,
    heirs: np.ndarray,
    shares: np.ndarray,
    level: np.ndarray,
    merge: _Merge,
) -> Fit:
    """All units rebuilt from heirs with new weight-sets."""
    places = np.searchsorted(kept, heirs)
    new, across = left.normal.with_sums(left.group.activation, shares, level)
    within = new.second
    if left.group.offset_allowed:
        within = new.covariance
        across -= new.mean[:, None] * tf.constant(left.moments.mean)
    targets = np.setdiff1d(np.arange(len(left.sets)), np.setdiff1d(kept, heirs))
    if len(heirs) < len(kept):  # else a copy of all of them
        within, across = select(within, places, places), select(across, places, targets)
    nearest, scale = (part[targets] for part in merge)
    ridge = ridge_of(new.second, RIDGE)
    squares = LeastSquares(within, across, nearest=nearest, scale=scale, ridge=ridge)
    square = left.outgoing.square(left.spread, targets)
    error = squares.error(square, left.outgoing, targets)
    return Fit(kept, places, targets, squares, error, new, shares, level)


def _cluster_shares(
    left: Left, kept: np.ndarray, heirs: np.ndarray, nearest: np.ndarray
) -> np.ndarray:
    """Each heir as the mean of the units that are nearest to it, shape `(kept, left)`.

    One step of k-means, from the units that the order keeps (Lloyd 1982), with the distance of
    the paper's surgery. Where the activation is positively homogeneous the sum of the
    weight-sets, at the norm of the heir's own.
    """
    cluster = np.searchsorted(kept, heirs)[nearest]
    cluster[kept] = np.arange(len(kept))
    sizes = np.bincount(cluster)
    factor = 1.0 / sizes
    if left.group.activation.homogeneous:
        own = left.norms[kept]
        members = members_of(cluster, len(kept))
        sums = (np.sum(left.sets[some], axis=0, dtype=np.float64) for some in members)
        norm = np.array([np.linalg.norm(one) for one in sums])
        factor = own / np.maximum(norm, 1e-3 * own)  # opposite ones cancel
    shares = np.zeros((len(kept), len(left.sets)))
    shares[cluster, np.arange(len(left.sets))] = factor[cluster]
    return shares


def _nearest(left: Left, heirs: np.ndarray, removed: np.ndarray) -> _Merge:
    """The paper's merge: each removed unit on its nearest heir, heirs on themselves."""
    nearest, scale = np.zeros(len(left.sets), np.int64), np.ones(len(left.sets))
    if len(heirs) == 0:
        return nearest, scale
    norms = left.norms
    unit = 1.0 / norms if left.group.activation.homogeneous else np.ones(len(norms))
    ours, theirs = (left.sets[some] for some in (heirs, removed))
    ours *= unit[heirs, None]
    theirs *= unit[removed, None]
    with full_precision():  # float32 is enough to choose one
        product = tf.matmul(
            *(tf.cast(part, tf.float32) for part in (theirs, ours)), transpose_b=True
        )
    squares = tf.constant(np.square(unit * norms)[heirs], tf.float32)
    closest = tf.argmin(squares - 2.0 * product, axis=1)
    nearest[heirs], nearest[removed] = np.arange(len(heirs)), closest
    return nearest, unit[heirs[nearest]] / unit
