"""Collect the arrays of the units that the lossless removals leave."""

import dataclasses
import functools

import numpy as np
import tensorflow as tf

from keras_dfprune.methods.base import GroupView
from keras_dfprune.methods.lossless import Removal, merge_of
from keras_dfprune.methods.merge import SurvivorMerge
from keras_dfprune.methods.moments.least_squares import ridge_of
from keras_dfprune.methods.moments.outgoing_weights import OutgoingWeights
from keras_dfprune.methods.moments.unit_moments import Preactivations, UnitMoments

# Relative to the mean second moment: small enough not to show, large enough for a Cholesky factor.
RIDGE = 1e-6


@dataclasses.dataclass(frozen=True, eq=False)
class GroupMoments:
    """Group of units with its moments.

    Attributes:
        group: The group.
        moments: Moments of its units.
        preactivations: Their pre-activations, if kept units may get new weight-sets; else None.
    """

    group: GroupView
    moments: UnitMoments
    preactivations: Preactivations | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class RemainingUnits:
    """Units that the lossless removals leave of a group; all arrays and tensors are over these.

    Attributes:
        group: The group.
        lossless_merge: Merge of the lossless removals.
        weight_sets: Float array, shape `(remaining, inputs + 1 + extra)`.
        norms: Float64 array, shape `(remaining,)`: norms of the weight-sets, positive.
        outgoing: Outgoing weights, after the lossless removals.
        moments: Moments of the units.
        preactivations: Their pre-activations, if kept units may get new weight-sets; else None.
    """

    group: GroupView
    lossless_merge: SurvivorMerge
    weight_sets: np.ndarray
    norms: np.ndarray
    outgoing: OutgoingWeights
    moments: UnitMoments
    preactivations: Preactivations | None

    @property
    def units(self) -> np.ndarray:
        """Units of the group that remain: int array, shape `(remaining,)`."""
        return self.lossless_merge.kept

    @functools.cached_property
    def spread(self) -> tf.Tensor:
        """Second moments that have to be rebuilt, shape `(remaining, remaining)`.

        They are the covariance if an offset is allowed, because the offset makes up for the means.
        """
        return self.moments.covariance if self.group.offset_allowed else self.moments.second

    @functools.cached_property
    def ridge(self) -> float:
        """Ridge for the diagonal of `spread`."""
        return ridge_of(self.moments.second, RIDGE)


def remaining_units(known: GroupMoments, removals: list[Removal]) -> RemainingUnits:
    """Apply the lossless removals of a group and collect the arrays of the other units.

    Args:
        known: The group and its moments.
        removals: The lossless removals.

    Returns:
        The `RemainingUnits`.
    """
    group = known.group
    merge = merge_of(group.units, removals)
    kept = merge.kept
    # Kernels hold a unit in each column. Single units are read from here on, so they become rows.
    weight_sets = np.concatenate([group.weights.T, group.constants.T])
    weight_sets = np.asarray(tf.transpose(weight_sets))
    norms, outgoing = group.norms, group.outgoing_matrix()
    if removals:  # without removals these would be copies of everything
        weight_sets, norms, outgoing = weight_sets[kept], norms[kept], merge.absorb(outgoing)
    preactivations = known.preactivations
    return RemainingUnits(
        group=group,
        lossless_merge=merge,
        weight_sets=weight_sets,
        norms=np.maximum(norms, 1e-300),
        outgoing=OutgoingWeights(outgoing),
        moments=known.moments.take_units(kept),
        preactivations=None if preactivations is None else preactivations.take_units(kept),
    )
