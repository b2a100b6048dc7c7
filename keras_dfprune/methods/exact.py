"""A group's weight-sets into the removals that change nothing: the lossless pass.

Units that nothing reads, units that are constant, copies, and positive multiples behind a
positively homogeneous activation (Srinivas & Babu 2015, Sections 3 and 3.3).
"""

import dataclasses

import numpy as np

from keras_dfprune.merge import SurvivorMerge, follow_survivors
from keras_dfprune.methods.base import GroupView

# Squared distance of two unit-norm weight-sets below which they count as multiples of each other:
# float32 weights scaled by any factor differ by about d * (6e-8)^2 / d from an exact multiple.
_MULTIPLE = 1e-12
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
    """Classes, of two units at least, whose weight-sets are positive multiples of each other.

    Multiples have equal projections on any direction, so only units that lie next to each other
    along a fixed random direction are compared.
    """
    parts = (group.weights, group.constants)
    random = np.random.default_rng(0)
    directions = [random.standard_normal(part.shape[1]) for part in parts]
    projected = sum(
        np.einsum("ij,j->i", part, direction, dtype=np.float64)
        for part, direction in zip(parts, directions, strict=True)
    )
    projected /= group.norms.clip(min=np.finfo(float).tiny)
    reach = np.sqrt(_MULTIPLE) * np.linalg.norm(np.concatenate(directions))
    line = units[np.argsort(projected[units], kind="stable")]
    apart = np.flatnonzero(np.diff(projected[line]) > reach) + 1
    starts, ends = np.concatenate([[0], apart]), np.concatenate([apart, [len(line)]])
    classes: list[list[int]] = []
    for k in np.flatnonzero(ends - starts > 1):
        nearby: list[list[int]] = []
        for unit in line[starts[k] : ends[k]]:
            nearby = [some for some in nearby if projected[unit] - projected[some[0]] <= reach]
            home = next((some for some in nearby if _multiple(group, some[0], unit)), None)
            if home is None:
                home = []
                nearby.append(home)
                classes.append(home)
            home.append(int(unit))
    return [sorted(members) for members in classes]


def _multiple(group: GroupView, unit: int, other: int) -> bool:
    """Whether two units are; a few coordinates tell most that aren't."""
    square = 0.0
    for part in (group.weights[:, :_FEW], group.constants, group.weights[:, _FEW:]):
        difference = part[unit].astype(np.float64) / group.norms[unit]
        difference -= part[other].astype(np.float64) / group.norms[other]
        square += float(np.vdot(difference, difference))
        if square > _MULTIPLE:
            return False
    return True
