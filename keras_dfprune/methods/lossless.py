"""Find the removals of a group that change nothing: the lossless pass.

These are units that no consumer reads, constant units, copies, and positive multiples behind a
positively homogeneous activation (Srinivas & Babu 2015, Sections 3 and 3.3).
"""

import bisect
import dataclasses
import math

import numpy as np
import tensorflow as tf

from keras_dfprune.methods.base import GroupView
from keras_dfprune.methods.merge import NO_SURVIVOR, SurvivorMerge, follow_survivors

# Norm, relative to the largest, up to which a weight-set counts as zero.
_ZERO_NORM = 1e-12
# Squared distance at unit norm up to which two weight-sets count as multiples of each other.
# Rounding to float32 moves each coordinate by at most 6e-8 of itself, so two rounded multiples are
# at most (2 * 6e-8)^2 = 1.5e-14 apart.
_MULTIPLE = 1e-12
# Random directions on which weight-sets are projected before they are compared.
_DIRECTIONS = 16
# Squared distance of two rows of projections up to which the weight-sets are compared. It is
# `_DIRECTIONS` times that of the weight-sets in expectation, so this allows for a quarter of
# `_MULTIPLE`: far more than rounding to float32.
_NEAR_PROJECTIONS = _DIRECTIONS * _MULTIPLE / 4
# Coordinates that are projected at a time, so that only these are copied to float64.
_COORDINATES_AT_ONCE = 256
# Coordinates that tell most non-zero rows from zero ones. Kernels lie in memory column by column,
# so that reading all coordinates of a row is slow.
_FIRST_COORDINATES = 16


@dataclasses.dataclass(frozen=True)
class Removal:
    """Removal of one unit, which is rebuilt as `h_unit = scale * h_survivor + offset`.

    Attributes:
        unit: The unit that is removed.
        survivor: The unit that takes over, or -1 (`NO_SURVIVOR`) if only the offset remains.
        scale: Factor of the survivor, 0 without one.
        offset: The constant that is added.
    """

    unit: int
    survivor: int
    scale: float
    offset: float


def lossless_removals(group: GroupView, surgery: bool = True) -> list[Removal]:
    """Find removals that leave the consumers' outputs as they are.

    Args:
        group: The group.
        surgery: False to find only units that can be removed without changing other weights.

    Returns:
        Removals by ascending unit. A survivor may be removed later in the list. At least one unit
        of the group stays.
    """
    removals = [
        Removal(unit, NO_SURVIVOR, 0.0, offset)
        for unit, offset in _offsets_of_constant_units(group, surgery).items()
    ]
    if surgery:
        constant = [removal.unit for removal in removals]
        removals += _copies(group, np.setdiff1d(np.arange(group.units), constant))
    return sorted(removals, key=lambda removal: removal.unit)[: group.units - 1]


def merge_of(units: int, removals: list[Removal]) -> SurvivorMerge:
    """Return the unit merge of removals made one after the other.

    Args:
        units: Number of units in the group.
        removals: The removals, in their order.
    """
    return follow_survivors(
        units,
        np.array([removal.unit for removal in removals], np.int64),
        np.array([removal.survivor for removal in removals], np.int64),
        np.array([removal.scale for removal in removals], np.float64),
        np.array([removal.offset for removal in removals], np.float64),
    )


def _offsets_of_constant_units(group: GroupView, surgery: bool) -> dict[int, float]:
    """Return the units that need no survivor, with the constant that each of them leaves."""
    unread = np.all([_is_zero(block) for block in group.outgoing], axis=0)
    always_zero = np.zeros(group.units, bool)
    if group.activation.homogeneous:
        always_zero = group.norms <= _ZERO_NORM * group.norms.max()
    offsets = {int(unit): 0.0 for unit in np.flatnonzero(unread | always_zero)}
    values = group.constant_values
    takes_constants = surgery and group.offset_allowed and group.offset_exact
    for unit in np.flatnonzero(np.isfinite(values) if takes_constants else values == 0):
        offsets.setdefault(int(unit), float(values[unit]))
    return offsets


def _is_zero(array: np.ndarray) -> np.ndarray:
    """Return which rows hold only zeros: bool array, shape `(rows,)`."""
    rows = array.reshape(len(array), -1)
    zero = ~np.any(rows[:, :_FIRST_COORDINATES], axis=1)
    zero[zero] = ~np.any(rows[zero], axis=1)
    return zero


def _copies(group: GroupView, units: np.ndarray) -> list[Removal]:
    """Remove copies and multiples: merge each into the next of its class that can survive.

    Args:
        group: The group.
        units: Int array: the units to search, ascending.
    """
    if len(units) == 0:
        return []
    if group.activation.homogeneous:
        norms, classes = group.norms, _multiples(group, units)
    else:
        norms, classes = np.ones(group.units), _equal_units(group, units)
    removals = []
    for members in classes:
        survivors = [unit for unit in members if group.can_survive[unit]]
        for unit in members if survivors else ():
            survivor = survivors[min(bisect.bisect_right(survivors, unit), len(survivors) - 1)]
            if survivor != unit:
                scale = float(norms[unit] / norms[survivor])
                removals.append(Removal(unit, survivor, scale, 0.0))
    return removals


def _equal_units(group: GroupView, units: np.ndarray) -> list[list[int]]:
    """Return classes of units with equal weight-sets, the members ascending."""
    classes: dict[bytes, list[int]] = {}
    for unit in units.tolist():
        parts = (group.weights[unit], group.constants[unit])
        row = b"".join((part + 0).tobytes() for part in parts)  # adding 0 turns -0.0 into 0.0
        classes.setdefault(row, []).append(unit)
    return list(classes.values())


def _multiples(group: GroupView, units: np.ndarray) -> list[list[int]]:
    """Return classes of units whose weight-sets are positive multiples of each other.

    At unit norm multiples have equal projections on every direction. Sorted by their projections
    on one direction they lie next to each other, so that no unit is compared with all others.

    Args:
        group: The group.
        units: Int array: the units to search.

    Returns:
        The classes, the members ascending. Units without a neighbour may be missing.
    """
    random = np.random.default_rng(0)
    parts = (group.weights, group.constants)
    directions = [random.standard_normal((_DIRECTIONS, part.shape[1])) for part in parts]
    position = np.add(
        *(
            np.einsum("ij,j->i", part, direction[0], dtype=np.float64)
            for part, direction in zip(parts, directions, strict=True)
        )
    )
    position /= group.norms.clip(min=np.finfo(float).tiny)
    line = units[np.argsort(position[units], kind="stable")]
    near_next = np.diff(position[line]) <= math.sqrt(_NEAR_PROJECTIONS)
    line = line[np.append(near_next, False) | np.append(False, near_next)]
    return _classes_along(line, position, _projections(group, line, directions), group)


def _classes_along(
    line: np.ndarray, position: np.ndarray, projections: np.ndarray, group: GroupView
) -> list[list[int]]:
    """Sort units into classes of multiples, each unit compared with the first of each near class.

    Args:
        line: Int array, shape `(line,)`: the units, by ascending position.
        position: Float64 array, shape `(units,)`: projections on the first direction.
        projections: Float64 array, shape `(line, _DIRECTIONS)`.
        group: The group.
    """
    classes: list[list[int]] = []
    projections_of_first = np.empty_like(projections)  # one row for each class
    reach, nearest = math.sqrt(_NEAR_PROJECTIONS), 0  # classes before `nearest` are out of reach
    for unit, projection in zip(line.tolist(), projections, strict=True):
        while nearest < len(classes) and position[unit] - position[classes[nearest][0]] > reach:
            nearest += 1
        difference = projections_of_first[nearest : len(classes)] - projection
        squares = np.einsum("ij,ij->i", difference, difference)
        near = nearest + np.flatnonzero(squares <= _NEAR_PROJECTIONS)
        for number in near:
            if _are_multiples(group, classes[number][0], unit):
                classes[number].append(unit)
                break
        else:
            projections_of_first[len(classes)] = projection
            classes.append([unit])
    return [sorted(members) for members in classes]


def _projections(group: GroupView, units: np.ndarray, directions: list[np.ndarray]) -> np.ndarray:
    """Project weight-sets of unit norm: float64 array, shape `(len(units), _DIRECTIONS)`."""
    project_all = 2 * len(units) > group.units  # saves the copy of the rows
    rows = slice(None) if project_all else units
    total = np.zeros((group.units if project_all else len(units), _DIRECTIONS))
    for part, direction in zip((group.weights, group.constants), directions, strict=True):
        for start in range(0, part.shape[1], _COORDINATES_AT_ONCE):
            columns = slice(start, start + _COORDINATES_AT_ONCE)
            values = tf.cast(part[rows, columns].T, tf.float64)  # as kernels lie in memory
            total += tf.matmul(direction[:, columns], values).numpy().T
    return (total[units] if project_all else total) / group.norms[units, None]


def _are_multiples(group: GroupView, unit: int, other: int) -> bool:
    """Return whether the weight-sets of two units are positive multiples of each other."""
    square = 0.0
    for part in (group.weights, group.constants):
        difference = part[unit].astype(np.float64) / group.norms[unit]
        difference -= part[other].astype(np.float64) / group.norms[other]
        square += float(np.vdot(difference, difference))
    return square <= _MULTIPLE
