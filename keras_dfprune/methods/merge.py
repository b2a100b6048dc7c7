"""A choice of units to remove into what the kept units take over: the unit merge.

Behind a group's seam the units enter everything linearly, so a removed unit that is rebuilt as
`h_removed ~ h_kept @ coefficients + offset` folds into the outgoing weights of the kept units and
a constant:

    kernel' = kernel[kept] + coefficients @ kernel[removed],    bias' = bias + offset @ kernel
"""

import abc
import dataclasses
from collections.abc import Iterator

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class UnitMerge(abc.ABC):
    """How each removed unit is rebuilt from the kept ones.

    Attributes:
        kept: Int array, shape `(kept,)`: ascending indices of the units that stay.
        removed: Int array, shape `(removed,)`: the other units, in the order of their removal.
        offset: Float64 array, shape `(units,)`: a constant added to each rebuilt unit, in the
            units' own scale; zero for kept units that stay as they are.
    """

    kept: np.ndarray
    removed: np.ndarray
    offset: np.ndarray

    def __post_init__(self):
        object.__setattr__(self, "kept", np.asarray(self.kept, np.int64))
        object.__setattr__(self, "removed", np.asarray(self.removed, np.int64))
        object.__setattr__(self, "offset", np.asarray(self.offset, np.float64))
        everything = np.sort(np.concatenate([self.kept, self.removed]))
        if not np.array_equal(everything, np.arange(self.units)):
            raise ValueError(
                "A unit merge must keep or remove every unit exactly once. "
                f"Received: {self.units} units, kept={self.kept}, removed={self.removed}"
            )
        if len(self.kept) == 0 or np.any(np.diff(self.kept) < 0):
            raise ValueError(f"`kept` must be ascending, one unit at least. Received: {self.kept}")
        _check_finite("offset", self.offset)

    @property
    def units(self) -> int:
        """Number of units before the merge."""
        return len(self.offset)

    def gains(self, kernel: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """What rows of kept units gain: `coefficients @ kernel[removed]`, some rows after others.

        Args:
            kernel: Float array, shape `(units, outputs)`: the outgoing weights. Kept rows may be
                edited as soon as their gain is there.

        Yields:
            Positions in `kept`, int array of shape `(heirs,)`, and a float64 array of shape
            `(heirs, outputs)`. Each position comes once at most; the others gain nothing.
        """
        yield np.arange(len(self.kept)), self.taken_over(kernel)

    @abc.abstractmethod
    def taken_over(self, kernel: np.ndarray) -> np.ndarray:
        """What all kept rows gain: float64 array, shape `(kept, outputs)`."""

    def absorb(self, kernel: np.ndarray) -> np.ndarray:
        """Folds the removed rows of `kernel`, shape `(units, outputs)`, into the kept ones."""
        return np.asarray(kernel, np.float64)[self.kept] + self.taken_over(kernel)

    def shift(self, kernel: np.ndarray) -> np.ndarray:
        """The constant `offset @ kernel` that the merge adds to the outputs, shape `(outputs,)`."""
        if not np.any(self.offset):
            return np.zeros(kernel.shape[1])
        return self.offset @ np.asarray(kernel, np.float64)


@dataclasses.dataclass(frozen=True, eq=False)
class SurvivorMerge(UnitMerge):
    """Each removed unit is rebuilt from one kept unit: h_j ~ scale_j * h_survivor(j) + offset_j.

    Srinivas & Babu 2015, Section 3: `a_i <- a_i + (alpha_j / alpha_i) a_j`.

    Attributes:
        kept, removed, offset: As in `UnitMerge`.
        survivor: Int array, shape `(removed,)`: positions in `kept`; -1 for a unit that nothing
            stands in for (it only leaves its offset).
        scale: Float64 array, shape `(removed,)`: `alpha_j / alpha_i`; ones without weight
            normalisation.
    """

    survivor: np.ndarray
    scale: np.ndarray

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "survivor", np.asarray(self.survivor, np.int64))
        object.__setattr__(self, "scale", np.asarray(self.scale, np.float64))
        expected = (len(self.removed),)
        if self.survivor.shape != expected or self.scale.shape != expected:
            raise ValueError(
                f"`survivor` and `scale` must have shape (removed,) = {expected}. "
                f"Received: {self.survivor.shape} and {self.scale.shape}"
            )
        if np.any((self.survivor < -1) | (self.survivor >= len(self.kept))):
            raise ValueError(
                "`survivor` must hold positions in `kept`, or -1. "
                f"Received: survivor={self.survivor}, with {len(self.kept)} kept"
            )
        _check_finite("scale", self.scale)

    def gains(self, kernel: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        order = np.argsort(self.survivor, kind="stable")
        order = order[self.survivor[order] >= 0]
        heirs, starts = np.unique(self.survivor[order], return_index=True)
        for heir, start, end in zip(heirs, starts, [*starts[1:], len(order)], strict=False):
            some = order[start:end]
            yield np.array([heir]), self.scale[None, some] @ kernel[self.removed[some]]

    def taken_over(self, kernel: np.ndarray) -> np.ndarray:
        gain = np.zeros((len(self.kept), kernel.shape[1]))
        for heir, row in self.gains(kernel):
            gain[heir] = row
        return gain


@dataclasses.dataclass(frozen=True, eq=False)
class LinearMerge(UnitMerge):
    """Each removed unit is rebuilt from all kept ones: h_removed ~ h_kept @ coefficients + offset.

    Attributes:
        kept, removed, offset: As in `UnitMerge`.
        coefficients: Float64 array, shape `(kept, removed)`.
    """

    coefficients: np.ndarray

    def __post_init__(self):
        super().__post_init__()
        coefficients = np.asarray(self.coefficients, np.float64)
        expected = (len(self.kept), len(self.removed))
        if coefficients.shape != expected:
            raise ValueError(
                f"`coefficients` must have shape (kept, removed) = {expected}. "
                f"Received: {coefficients.shape}"
            )
        _check_finite("coefficients", coefficients)
        object.__setattr__(self, "coefficients", coefficients)

    def taken_over(self, kernel: np.ndarray) -> np.ndarray:
        return self.coefficients @ np.asarray(kernel[self.removed], np.float64)


@dataclasses.dataclass(frozen=True, eq=False)
class CentroidMerge(UnitMerge):
    """Kept units become weighted sums of several, and all units are rebuilt from those.

    A kept unit's new weight-set is `sum_i shares_i W_i`, plus `level` in the bias. Because that is
    linear, so is its new pre-activation in the old ones, whatever affine layers stand in front of
    the activation.

    Attributes:
        kept, removed: As in `UnitMerge`.
        offset: As in `UnitMerge`, but kept units have one too.
        coefficients: Float64 array, shape `(kept, units)`: `h ~ h_new @ coefficients + offset`.
        shares: Float64 array, shape `(kept, units)`.
        level: Float64 array, shape `(kept,)`: a constant added to the new pre-activations, in
            front of the activation.
    """

    coefficients: np.ndarray
    shares: np.ndarray
    level: np.ndarray

    def __post_init__(self):
        super().__post_init__()
        whole = (len(self.kept), self.units)
        shapes = {"coefficients": whole, "shares": whole, "level": whole[:1]}
        for name, expected in shapes.items():
            array = np.asarray(getattr(self, name), np.float64)
            if array.shape != expected:
                raise ValueError(
                    f"`{name}` must have shape {expected}, for {whole[0]} kept of {whole[1]} "
                    f"units. Received: {array.shape}"
                )
            _check_finite(name, array)
            object.__setattr__(self, name, array)

    def taken_over(self, kernel: np.ndarray) -> np.ndarray:
        kernel = np.asarray(kernel, np.float64)
        return self.coefficients @ kernel - kernel[self.kept]


def _check_finite(name: str, array: np.ndarray) -> None:
    if not np.all(np.isfinite(array)):
        raise ValueError(f"`{name}` must be finite. Received: {name}={array}")


def follow_survivors(
    units: int, removed: np.ndarray, survivor: np.ndarray, scale: np.ndarray, offset: np.ndarray
) -> SurvivorMerge:
    """Resolves merges made one after the other: a survivor may itself have been removed later.

    Args:
        units: Number of units.
        removed: Int array, shape `(removed,)`, in the order of removal.
        survivor: Int array, shape `(removed,)`: the *unit* that took over at that moment, or -1.
        scale: Float array, shape `(removed,)`: the factor of that take-over.
        offset: Float array, shape `(removed,)`: the constant of that take-over.

    Returns:
        The `SurvivorMerge` whose survivors are all kept units.
    """
    final = np.full(units, -1, np.int64)
    factor = np.zeros(units)
    constant = np.zeros(units)
    kept = np.setdiff1d(np.arange(units), removed)
    final[kept], factor[kept] = kept, 1.0
    for k in range(len(removed) - 1, -1, -1):  # later removals first: their survivors are known
        unit, heir = removed[k], survivor[k]
        constant[unit] = offset[k]
        if heir >= 0:
            final[unit], factor[unit] = final[heir], scale[k] * factor[heir]
            constant[unit] += scale[k] * constant[heir]
    position = np.full(units, -1, np.int64)
    position[kept] = np.arange(len(kept))
    ends = final[removed]
    return SurvivorMerge(
        kept=kept,
        removed=removed,
        offset=constant,
        survivor=np.where(ends >= 0, position[ends], -1),
        scale=np.where(ends >= 0, factor[removed], 0.0),
    )
