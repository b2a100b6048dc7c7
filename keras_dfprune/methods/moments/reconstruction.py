"""Rebuild the remaining units of a group from the kept ones.

The coefficients are least squares on the units' moments. The kept units either stay as they are or
become centroids, whichever has the smaller predicted error. A centroid is the mean of the units
nearest to a kept unit (one step of k-means).
"""

import dataclasses

import numpy as np
import tensorflow as tf

from keras_dfprune.methods.full_precision import full_precision
from keras_dfprune.methods.moments.least_squares import LeastSquares, ridge_of
from keras_dfprune.methods.moments.remaining_units import RIDGE, RemainingUnits
from keras_dfprune.methods.moments.symmetric_matrices import submatrix
from keras_dfprune.methods.moments.unit_moments import Preactivations, UnitMoments
from keras_dfprune.methods.weighted_sums import members_of

# A sum of weight-sets is divided by its norm, but at least by this share of the survivor's norm:
# opposite weight-sets cancel.
_SMALLEST_SUM = 1e-3


@dataclasses.dataclass(frozen=True, eq=False)
class Reconstruction:
    """Remaining units rebuilt from the kept ones.

    Units are given by their positions among the remaining units.

    Attributes:
        kept: Int array, shape `(kept,)`: kept units.
        survivors: Int array, shape `(survivors,)`: positions in `kept` of units that take over.
        targets: Int array, shape `(targets,)`: units that are rebuilt; the others stay.
        least_squares: Targets from survivors.
        error: Expected squared change of the outputs; the ridge does not count.
        moments: Moments of the kept units.
        shares: Float64 array, shape `(kept, remaining)`: the weighted sums of weight-sets that the
            kept units get, or None if they stay as they are.
    """

    kept: np.ndarray
    survivors: np.ndarray
    targets: np.ndarray
    least_squares: LeastSquares
    error: float
    moments: UnitMoments
    shares: np.ndarray | None = None

    @property
    def target_coefficients(self) -> np.ndarray:
        """Coefficients of the targets in the kept units: float64, shape `(kept, targets)`."""
        coefficients = np.asarray(self.least_squares.coefficients)
        if len(self.survivors) == len(self.kept):
            return coefficients
        all_rows = np.zeros((len(self.kept), len(self.targets)))
        all_rows[self.survivors] = coefficients
        return all_rows

    def coefficients(self, remaining: int) -> np.ndarray:
        """Return the coefficients of all units: float64, shape `(kept, remaining)`."""
        if len(self.targets) == remaining:
            return self.target_coefficients
        coefficients = np.zeros((len(self.kept), remaining))
        coefficients[np.arange(len(self.kept)), self.kept] = 1.0
        coefficients[:, self.targets] = self.target_coefficients
        return coefficients

    def offset(self, mean: np.ndarray) -> np.ndarray:
        """Return the constants that make up for the means: float64, shape `(remaining,)`.

        Args:
            mean: Float64 array, shape `(remaining,)`: means of the units.
        """
        offset, survivors = np.zeros(len(mean)), self.moments.mean[self.survivors]
        rebuilt = tf.linalg.matvec(self.least_squares.coefficients, survivors, transpose_a=True)
        offset[self.targets] = mean[self.targets] - rebuilt
        return offset


@dataclasses.dataclass(frozen=True, eq=False)
class _Split:
    """Kept and removed units, and the paper's merge of the removed ones.

    Units are given by their positions among the remaining units.

    Attributes:
        kept: Int array, shape `(kept,)`: kept units, ascending.
        removed: Int array, shape `(removed,)`: the other units.
        survivors: Int array, shape `(survivors,)`: kept units that may take over.
        nearest: Int array, shape `(remaining,)`: position in `survivors` of each removed unit's
            nearest one, and of each survivor itself; 0 for other kept units.
        scale: Float64 array, shape `(remaining,)`: factor of that survivor in the paper's merge.
    """

    kept: np.ndarray
    removed: np.ndarray
    survivors: np.ndarray
    nearest: np.ndarray
    scale: np.ndarray

    @property
    def survivor_positions(self) -> np.ndarray:
        """Positions of the survivors in `kept`: int array, shape `(survivors,)`."""
        return np.searchsorted(self.kept, self.survivors)


def best_reconstruction(
    remaining: RemainingUnits, kept: np.ndarray, removed: np.ndarray
) -> Reconstruction:
    """Rebuild the remaining units in several ways and return the result of least error.

    Args:
        remaining: The remaining units.
        kept: Int array, shape `(kept,)`: positions among them, ascending.
        removed: Int array, shape `(removed,)`: the other positions.

    Returns:
        The `Reconstruction` with the smallest predicted error.
    """
    split = _split(remaining, kept, removed)
    candidates = [_from_kept_units(remaining, split)]
    preactivations = remaining.preactivations
    if preactivations is not None and len(split.survivors):
        candidates.append(_from_centroids(remaining, split, preactivations))
    return min(candidates, key=lambda candidate: candidate.error)


def _from_kept_units(remaining: RemainingUnits, split: _Split) -> Reconstruction:
    """Rebuild the removed units from the survivors as they are."""
    removed, survivors = split.removed, split.survivors
    least_squares = LeastSquares(
        submatrix(remaining.spread, survivors, survivors),
        submatrix(remaining.spread, survivors, removed),
        nearest=split.nearest[removed],
        scale=split.scale[removed],
        ridge=remaining.ridge,
    )
    square = remaining.outgoing.expected_square(remaining.spread, removed)
    return Reconstruction(
        kept=split.kept,
        survivors=split.survivor_positions,
        targets=removed,
        least_squares=least_squares,
        error=least_squares.error(square, remaining.outgoing, removed),
        moments=remaining.moments.take_units(split.kept),
    )


def _from_centroids(
    remaining: RemainingUnits,
    split: _Split,
    preactivations: Preactivations,
) -> Reconstruction:
    """Rebuild all units from centroids, except kept units that may not take over."""
    kept, survivors = split.kept, split.survivor_positions
    shares = _cluster_shares(remaining, split)
    new, across = preactivations.moments_of_sums(remaining.group.activation, shares)
    within = new.second
    if remaining.group.offset_allowed:
        within = new.covariance
        across -= new.mean[:, None] * tf.constant(remaining.moments.mean)
    unchanged = np.setdiff1d(kept, split.survivors)
    targets = np.setdiff1d(np.arange(len(remaining.units)), unchanged)
    if len(unchanged):  # else these would be copies of everything
        within = submatrix(within, survivors, survivors)
        across = submatrix(across, survivors, targets)
    least_squares = LeastSquares(
        within,
        across,
        nearest=split.nearest[targets],
        scale=split.scale[targets],
        ridge=ridge_of(new.second, RIDGE),
    )
    square = remaining.outgoing.expected_square(remaining.spread, targets)
    return Reconstruction(
        kept=kept,
        survivors=survivors,
        targets=targets,
        least_squares=least_squares,
        error=least_squares.error(square, remaining.outgoing, targets),
        moments=new,
        shares=shares,
    )


def _cluster_shares(remaining: RemainingUnits, split: _Split) -> np.ndarray:
    """Return the weights of the means of the units nearest to each kept unit.

    This is one step of k-means (Lloyd 1982), from the kept units, with the distance of the paper's
    surgery. If the activation is positively homogeneous, the sum of the weight-sets is scaled to
    the norm of the kept unit's own.

    Returns:
        Float64 array, shape `(kept, remaining)`.
    """
    kept = split.kept
    cluster = split.survivor_positions[split.nearest]
    cluster[kept] = np.arange(len(kept))
    factor = 1.0 / np.bincount(cluster)
    if remaining.group.activation.homogeneous:
        own = remaining.norms[kept]
        sums = (
            np.sum(remaining.weight_sets[members], axis=0, dtype=np.float64)
            for members in members_of(cluster, len(kept))
        )
        norms = np.array([np.linalg.norm(total) for total in sums])
        factor = own / np.maximum(norms, _SMALLEST_SUM * own)
    units = np.arange(len(remaining.units))
    shares = np.zeros((len(kept), len(units)))
    shares[cluster, units] = factor[cluster]
    return shares


def _split(remaining: RemainingUnits, kept: np.ndarray, removed: np.ndarray) -> _Split:
    """Find the survivors among the kept units, and the paper's merge of the removed ones."""
    survivors = kept[remaining.group.can_survive[remaining.units[kept]]]
    norms, weight_sets = remaining.norms, remaining.weight_sets
    nearest, scale = np.zeros(len(norms), np.int64), np.ones(len(norms))
    if len(survivors) == 0:
        return _Split(kept, removed, survivors, nearest, scale)
    homogeneous = remaining.group.activation.homogeneous
    unit = 1.0 / norms if homogeneous else np.ones(len(norms))
    centres, points = (_scaled(weight_sets[units], unit[units]) for units in (survivors, removed))
    with full_precision():  # float32 is precise enough to choose a survivor
        product = tf.matmul(points, centres, transpose_b=True)
    squares = tf.constant(np.square(unit * norms)[survivors], tf.float32)
    nearest[removed] = tf.argmin(squares - 2.0 * product, axis=1)
    nearest[survivors] = np.arange(len(survivors))
    return _Split(kept, removed, survivors, nearest, unit[survivors[nearest]] / unit)


def _scaled(rows: np.ndarray, factors: np.ndarray) -> tf.Tensor:
    """Multiply each row by its factor, in float32 and without a copy in float64."""
    scaled = np.empty(rows.shape, np.float32)
    np.multiply(rows, factors[:, None], out=scaled, casting="same_kind")
    return tf.constant(scaled)
