"""A group's weight-sets into the removals that change nothing: the lossless pass.

Units that nothing reads, units that are constant, copies, and positive multiples behind a
positively homogeneous activation (Srinivas & Babu 2015, Sections 3 and 3.3).
"""

import dataclasses
import math

import numpy as np
import tensorflow as tf

from keras_dfprune.methods.base import GroupView
from keras_dfprune.methods.merge import SurvivorMerge, follow_survivors

# Squared distance of two unit-norm weight-sets below which they count as multiples of each other:
# float32 weights scaled by any factor differ by about d * (6e-8)^2 / d from an exact multiple.
_MULTIPLE = 1e-12
# Random directions on which weight-sets are projected, and the sum of the squared differences there
# below which two are compared: in expectation a quarter of `_MULTIPLE` for each. Nothing that a
# float32 rounds comes near it, and few of those that pass are no multiples after all.
_DIRECTIONS = 16
_ALIKE = _DIRECTIONS * _MULTIPLE / 4
# Coordinates that are projected at a time.
_AT_ONCE = 256
# Coordinates that are compared first: each lies far from the last in memory.
_FEW = 16
# A weight-set this much smaller than the largest is zero.
_ZERO = 1e-12


@dataclasses.dataclass(frozen=True)
class Removal:
    """One exact removal: `h_unit = scale * h_survivor + offset`, survivor -1 for a constant."""

    unit: int
    survivor: int
    scale: float
    offset: float


def lossless(group: GroupView, surgery: bool = True) -> list[Removal]:
    """Finds removals that leave the consumers' outputs as they are.

    Args:
        group: The group.
        surgery: False to find only the units that leave without anything taking over.

    Returns:
        Removals by ascending unit; a survivor may itself be removed later in the list. One unit
        of the group always stays.
    """
    found = _constants(group, surgery)
    if surgery:
        remaining = np.setdiff1d(np.arange(group.units), list(found))
        found.update(_copies(group, remaining))
    return [found[unit] for unit in sorted(found)][: group.units - 1]


def merge_of(units: int, removals: list[Removal]) -> SurvivorMerge:
    """The unit merge of removals made one after the other."""
    return follow_survivors(
        units,
        np.array([removal.unit for removal in removals], np.int64),
        np.array([removal.survivor for removal in removals], np.int64),
        np.array([removal.scale for removal in removals], np.float64),
        np.array([removal.offset for removal in removals], np.float64),
    )


def _constants(group: GroupView, surgery: bool) -> dict[int, Removal]:
    silent = np.all([_zero_rows(block) for block in group.outgoing], axis=0)
    found = {int(unit): Removal(int(unit), -1, 0.0, 0.0) for unit in np.flatnonzero(silent)}
    if group.activation.homogeneous:
        norms = group.norms
        for unit in np.flatnonzero(norms <= _ZERO * norms.max()):
            found.setdefault(int(unit), Removal(int(unit), -1, 0.0, 0.0))
    if not group.offset_exact:  # beside zero padding no unit is constant
        return found
    idle = np.flatnonzero(_zero_rows(group.weights))
    if len(idle):
        biases = group.biases.astype(np.float64)
        values = group.activation.values(biases[None])[0]
        for unit in idle:
            movable = surgery and group.offset_allowed and np.isfinite(values[unit])
            if values[unit] == 0 or movable:
                found.setdefault(int(unit), Removal(int(unit), -1, 0.0, float(values[unit])))
    return found


def _zero_rows(array: np.ndarray) -> np.ndarray:
    """Which rows hold zeros only; the first coordinates tell it of most that don't."""
    rows = array.reshape(len(array), -1)
    zero = ~np.any(rows[:, :_FEW], axis=1)
    zero[zero] = ~np.any(rows[zero], axis=1)
    return zero


def _copies(group: GroupView, units: np.ndarray) -> dict[int, Removal]:
    """Each class of copies hands over to its next member that may survive."""
    survives = group.can_survive
    classes: list[list[int]] = []
    if len(units) and group.activation.homogeneous:
        norms = group.norms
        classes = _multiples(group, units)
    else:
        norms = np.ones(group.units)
        by_bytes: dict[bytes, list[int]] = {}
        for unit in units:  # adding 0 makes -0.0 and 0.0 the same bytes
            parts = (group.weights[unit], group.constants[unit])
            row = b"".join((part + 0).tobytes() for part in parts)
            by_bytes.setdefault(row, []).append(int(unit))
        classes = list(by_bytes.values())
    found = {}
    for members in classes:
        heirs = [unit for unit in members if survives[unit]]
        for unit in members:
            later = [heir for heir in heirs if heir > unit] or heirs[-1:]
            if later and later[0] != unit:
                scale = 1.0 if norms[unit] == norms[later[0]] else norms[unit] / norms[later[0]]
                found[unit] = Removal(unit, later[0], float(scale), 0.0)
    return found


def _multiples(group: GroupView, units: np.ndarray) -> list[list[int]]:
    """Classes of units whose weight-sets are positive multiples of each other.

    Multiples have equal projections on any direction, so only units that lie next to each other
    along one are compared: first by their projections on some more.
    """
    parts, random = (group.weights, group.constants), np.random.default_rng(0)
    directions = [random.standard_normal((_DIRECTIONS, part.shape[1])) for part in parts]
    projected = sum(
        np.einsum("ij,j->i", part, direction[0], dtype=np.float64)
        for part, direction in zip(parts, directions, strict=True)
    )
    projected /= group.norms.clip(min=np.finfo(float).tiny)
    reach = math.sqrt(_ALIKE)
    line = units[np.argsort(projected[units], kind="stable")]
    close = np.diff(projected[line]) <= reach
    line = line[np.append(close, False) | np.append(False, close)]
    classes: list[list[int]] = []
    sketches, first = _sketches(group, line, directions), np.empty((len(line), _DIRECTIONS))
    behind = 0  # classes whose first units are out of reach
    for unit, sketch in zip(line.tolist(), sketches, strict=True):
        while behind < len(classes) and projected[unit] - projected[classes[behind][0]] > reach:
            behind += 1
        apart = first[behind : len(classes)] - sketch
        alike = behind + np.flatnonzero(np.einsum("ij,ij->i", apart, apart) <= _ALIKE)
        home = next((classes[k] for k in alike if _multiple(group, classes[k][0], unit)), None)
        if home is None:
            first[len(classes)] = sketch
            classes.append([unit])
        else:
            home.append(unit)
    return [sorted(members) for members in classes]


def _sketches(group: GroupView, units: np.ndarray, directions: list[np.ndarray]) -> np.ndarray:
    """Projections of unit-norm weight-sets: float64, shape `(units, _DIRECTIONS)`."""
    most = 2 * len(units) > group.units  # then all of them: no copy is needed
    rows = slice(None) if most else units
    found = np.zeros((group.units if most else len(units), _DIRECTIONS))
    for part, direction in zip((group.weights, group.constants), directions, strict=True):
        for start in range(0, part.shape[1], _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            values = tf.cast(part[rows, some].T, tf.float64)  # as kernels lie in memory
            found += tf.matmul(direction[:, some], values).numpy().T
    return (found[units] if most else found) / group.norms[units, None]


def _multiple(group: GroupView, unit: int, other: int) -> bool:
    """Whether two units are."""
    square = 0.0
    for part in (group.weights, group.constants):
        difference = part[unit].astype(np.float64) / group.norms[unit]
        difference -= part[other].astype(np.float64) / group.norms[other]
        square += float(np.vdot(difference, difference))
    return square <= _MULTIPLE
