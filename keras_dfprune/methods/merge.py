"""Merge removed units into the kept ones: fold their outgoing weights.

Behind a group's seam every layer is linear in the units. A removed unit that is rebuilt as
`h_removed ~ h_kept @ coefficients + offset` therefore folds into the outgoing weights of the kept
units and into a constant:

    kernel' = kernel[kept] + coefficients @ kernel[removed],    bias' = bias + offset @ kernel
"""

import abc
import dataclasses

import numpy as np

NO_SURVIVOR = -1


@dataclasses.dataclass(frozen=True, eq=False)
class Removal:
    """Units of a group that go, and those that stay.

    Attributes:
        kept: Int array, shape `(kept,)`: ascending indices of the units that stay.
        removed: Int array, shape `(removed,)`: the other units, in the order of their removal.

    Raises:
        ValueError: If a unit is missing or occurs twice.
    """

    kept: np.ndarray
    removed: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "kept", np.asarray(self.kept, np.int64))
        object.__setattr__(self, "removed", np.asarray(self.removed, np.int64))
        everything = np.sort(np.concatenate([self.kept, self.removed]))
        if not np.array_equal(everything, np.arange(self.units)):
            raise ValueError(
                "A unit merge must keep or remove every unit exactly once. "
                f"Received: {self.units} units, kept={self.kept}, removed={self.removed}"
            )
        if len(self.kept) == 0 or np.any(np.diff(self.kept) < 0):
            raise ValueError(
                f"`kept` must be ascending and hold at least one unit. Received: {self.kept}"
            )

    @property
    def units(self) -> int:
        """Number of units before the removal."""
        return len(self.kept) + len(self.removed)


@dataclasses.dataclass(frozen=True, eq=False)
class UnitMerge(Removal, abc.ABC):
    """Rule by which each removed unit is rebuilt from the kept ones.

    Attributes:
        kept: Int array, shape `(kept,)`: ascending indices of the units that stay.
        removed: Int array, shape `(removed,)`: the other units, in the order of their removal.
        offset: Float64 array, shape `(units,)`: a constant added to each rebuilt unit, in the
            unit's own scale. Zero for kept units that stay as they are.

    Raises:
        ValueError: If a unit is missing or occurs twice, or a value is not finite.
    """

    offset: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "offset", np.asarray(self.offset, np.float64))
        super().__post_init__()
        _check_finite("offset", self.offset)

    @property
    def units(self) -> int:
        """Number of units before the merge."""
        return len(self.offset)

    @abc.abstractmethod
    def taken_over(self, kernel: np.ndarray) -> np.ndarray:
        """Return what the outgoing weights of the kept units gain.

        Args:
            kernel: Float array, shape `(units, outputs)`: the outgoing weights of all units.

        Returns:
            New float64 array, shape `(kept, outputs)`: `coefficients @ kernel[removed]`.
        """

    def absorb(self, kernel: np.ndarray) -> np.ndarray:
        """Fold the removed rows of `kernel`, shape `(units, outputs)`, into the kept ones.

        Returns:
            Float64 array, shape `(kept, outputs)`.
        """
        return np.asarray(kernel, np.float64)[self.kept] + self.taken_over(kernel)

    def shift(self, kernel: np.ndarray) -> np.ndarray:
        """Return the constant that the offsets add to the outputs.

        Args:
            kernel: Float array, shape `(units, outputs)`: the outgoing weights of all units.

        Returns:
            Float64 array, shape `(outputs,)`: `offset @ kernel`.
        """
        if not np.any(self.offset):
            return np.zeros(kernel.shape[1])
        return self.offset @ np.asarray(kernel, np.float64)


@dataclasses.dataclass(frozen=True, eq=False)
class SurvivorMerge(UnitMerge):
    """Merge of each removed unit into one kept unit: h_j ~ scale_j * h_survivor(j) + offset_j.

    Srinivas & Babu 2015, Section 3: `a_i <- a_i + (alpha_j / alpha_i) a_j`.

    Attributes:
        kept, removed, offset: As in `UnitMerge`.
        survivor: Int array, shape `(removed,)`: positions in `kept`. -1 for a unit without a
            survivor, of which only the offset remains.
        scale: Float64 array, shape `(removed,)`: `alpha_j / alpha_i`. Ones without weight
            normalisation.
    """

    survivor: np.ndarray
    scale: np.ndarray

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "survivor", np.asarray(self.survivor, np.int64))
        object.__setattr__(self, "scale", np.asarray(self.scale, np.float64))
        expected = (len(self.removed),)
        if self.survivor.shape != expected or self.scale.shape != expected:
            raise ValueError(
                f"`survivor` and `scale` must have shape (removed,) = {expected}. "
                f"Received: {self.survivor.shape} and {self.scale.shape}"
            )
        if np.any((self.survivor < NO_SURVIVOR) | (self.survivor >= len(self.kept))):
            raise ValueError(
                "`survivor` must hold positions in `kept`, or -1. "
                f"Received: survivor={self.survivor}, with {len(self.kept)} kept"
            )
        _check_finite("scale", self.scale)

    def taken_over(self, kernel: np.ndarray) -> np.ndarray:
        gain = np.zeros((len(self.kept), kernel.shape[1]))
        # One row at a time: `kernel[self.removed]` would be a second array of that size.
        for unit, survivor, scale in zip(self.removed, self.survivor, self.scale, strict=True):
            if survivor != NO_SURVIVOR:
                gain[survivor] += scale * np.asarray(kernel[unit], np.float64)
        return gain


@dataclasses.dataclass(frozen=True, eq=False)
class LinearMerge(UnitMerge):
    """Merge of each removed unit into all kept ones: h_removed ~ h_kept @ coefficients + offset.

    Attributes:
        kept, removed, offset: As in `UnitMerge`.
        coefficients: Float64 array, shape `(kept, removed)`.
    """

    coefficients: np.ndarray

    def __post_init__(self) -> None:
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
    """Merge of all units into new ones, whose weight-sets are weighted sums of the old.

    The new weight-set of a kept unit is `sum_i shares_i W_i`, with `level` added to the bias. Its
    new pre-activation is then the same weighted sum of the old ones, whatever affine layers stand
    in front of the activation.

    Attributes:
        kept, removed: As in `UnitMerge`.
        offset: As in `UnitMerge`, but kept units have an offset, too.
        coefficients: Float64 array, shape `(kept, units)`: `h ~ h_new @ coefficients + offset`.
        shares: Float64 array, shape `(kept, units)`: weight of each old unit in each new one.
        level: Float64 array, shape `(kept,)`: a constant added to each new pre-activation.
    """

    coefficients: np.ndarray
    shares: np.ndarray
    level: np.ndarray

    def __post_init__(self) -> None:
        super().__post_init__()
        kept, units = len(self.kept), self.units
        shapes = {"coefficients": (kept, units), "shares": (kept, units), "level": (kept,)}
        for name, expected in shapes.items():
            array = np.asarray(getattr(self, name), np.float64)
            if array.shape != expected:
                raise ValueError(
                    f"`{name}` must have shape {expected}, for {kept} kept of {units} units. "
                    f"Received: {array.shape}"
                )
            _check_finite(name, array)
            object.__setattr__(self, name, array)

    def taken_over(self, kernel: np.ndarray) -> np.ndarray:
        kernel = np.asarray(kernel, np.float64)
        return self.coefficients @ kernel - kernel[self.kept]


@dataclasses.dataclass(frozen=True, eq=False)
class ChosenUnits(Removal):
    """Units that go, without a merge: `PruningPlan.apply` computes one.

    Attributes:
        kept, removed: As in `Removal`.
    """


def choose_units(order: np.ndarray, count: int, units: int) -> ChosenUnits:
    """Choose the first units of an order.

    Args:
        order: Int array: units in the order of their removal.
        count: How many go.
        units: Number of units.
    """
    removed = np.asarray(order, np.int64)[:count]
    return ChosenUnits(np.setdiff1d(np.arange(units), removed), removed)


def _check_finite(name: str, array: np.ndarray) -> None:
    if not np.all(np.isfinite(array)):
        raise ValueError(f"`{name}` must be finite. Received: {name}={array}")


def follow_survivors(
    units: int, removed: np.ndarray, survivor: np.ndarray, scale: np.ndarray, offset: np.ndarray
) -> SurvivorMerge:
    """Combine merges made one after the other, in which a survivor may itself be removed later.

    Args:
        units: Number of units.
        removed: Int array, shape `(removed,)`, in the order of removal.
        survivor: Int array, shape `(removed,)`: the *unit* that takes over at that moment, or -1.
        scale: Float array, shape `(removed,)`: its factor.
        offset: Float array, shape `(removed,)`: the constant that is added.

    Returns:
        The `SurvivorMerge` whose survivors are all kept units.
    """
    final = np.full(units, NO_SURVIVOR, np.int64)
    factor = np.zeros(units)
    constant = np.zeros(units)
    kept = np.setdiff1d(np.arange(units), removed)
    final[kept], factor[kept] = kept, 1.0
    for k in reversed(range(len(removed))):  # the final survivor of `survivor[k]` is then known
        unit, takes_over = removed[k], survivor[k]
        constant[unit] = offset[k]
        if takes_over != NO_SURVIVOR:
            final[unit], factor[unit] = final[takes_over], scale[k] * factor[takes_over]
            constant[unit] += scale[k] * constant[takes_over]
    position = np.full(units, NO_SURVIVOR, np.int64)
    position[kept] = np.arange(len(kept))
    has_survivor = final[removed] != NO_SURVIVOR
    return SurvivorMerge(
        kept=kept,
        removed=removed,
        offset=constant,
        survivor=np.where(has_survivor, position[final[removed]], NO_SURVIVOR),
        scale=np.where(has_survivor, factor[removed], 0.0),
    )
