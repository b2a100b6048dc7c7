"""Unit merges against their definition: `h_removed = h_kept @ coefficients + offset`."""

import dataclasses

import numpy as np
import pytest

from keras_dfprune.methods.merge import CentroidMerge, LinearMerge, SurvivorMerge, follow_survivors

UNITS, OUTPUTS = 7, 3
KEPT, REMOVED = [0, 2, 3, 6], [5, 1, 4]


def survivor_merge(**changes):
    settings = {
        "kept": KEPT,
        "removed": REMOVED,
        "offset": [0, 0.5, 0, 0, -2, 0.25, 0],
        "survivor": [1, 1, -1],
        "scale": [2.0, 0.5, 0.7],
    }
    return SurvivorMerge(**{**settings, **changes})


def linear_merge(**changes):
    settings = {
        "kept": KEPT,
        "removed": REMOVED,
        "offset": [0, 0.5, 0, 0, -2, 0.25, 0],
        "coefficients": np.random.default_rng(0).normal(size=(4, 3)),
    }
    return LinearMerge(**{**settings, **changes})


def coefficients_of(merge):
    if isinstance(merge, LinearMerge):
        return merge.coefficients
    coefficients = np.zeros((len(merge.kept), len(merge.removed)))
    for column, (position, scale) in enumerate(zip(merge.survivor, merge.scale, strict=True)):
        if position >= 0:
            coefficients[position, column] = scale
    return coefficients


def rebuilt(merge, kept_values):
    """Return the values of all units from those of the kept ones, shape `(rows, kept)`."""
    values = np.zeros((len(kept_values), merge.units))
    values[:, merge.kept] = kept_values
    values[:, merge.removed] = kept_values @ coefficients_of(merge) + merge.offset[merge.removed]
    return values


@pytest.mark.parametrize("make", [survivor_merge, linear_merge])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_absorbed_weights_compute_what_all_units_did(make, dtype):
    merge, random = make(), np.random.default_rng(1)
    kernel = random.normal(size=(UNITS, OUTPUTS)).astype(dtype)
    before = kernel.copy()
    kept_values = random.normal(size=(20, 4))
    wanted = rebuilt(merge, kept_values) @ kernel
    found = kept_values @ merge.absorb(kernel) + merge.shift(kernel)
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(
        merge.taken_over(kernel), coefficients_of(merge) @ kernel[REMOVED], atol=1e-12
    )
    assert merge.absorb(kernel).dtype == np.float64
    np.testing.assert_array_equal(kernel, before)
    assert merge.units == UNITS


def test_several_units_may_have_one_survivor():
    merge = survivor_merge(survivor=[2, 2, 2], scale=[1.0, 1.0, 1.0], offset=np.zeros(UNITS))
    absorbed = merge.absorb(np.eye(UNITS))
    np.testing.assert_array_equal(absorbed[2], [0, 1, 0, 1, 1, 1, 0])
    np.testing.assert_array_equal(absorbed[[0, 1, 3]], np.eye(UNITS)[[0, 2, 6]])


@pytest.mark.parametrize("kind", [SurvivorMerge, LinearMerge])
def test_nothing_removed_is_the_identity(kind):
    nothing = {"survivor": [], "scale": []} if kind is SurvivorMerge else {}
    nothing = nothing or {"coefficients": np.zeros((4, 0))}
    merge = kind(kept=range(4), removed=[], offset=np.zeros(4), **nothing)
    kernel = np.arange(8.0).reshape(4, 2)
    np.testing.assert_array_equal(merge.absorb(kernel), kernel)
    np.testing.assert_array_equal(merge.shift(kernel), [0, 0])


@pytest.mark.parametrize("make", [survivor_merge, linear_merge])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kept": [0, 2, 3, 5]}, "keep or remove every unit exactly once.*7 units"),
        ({"kept": [0, 2, 3]}, "keep or remove every unit exactly once"),
        ({"removed": [5, 1, 7]}, "keep or remove every unit exactly once"),
        ({"offset": np.zeros(8)}, "keep or remove every unit exactly once.*8 units"),
        ({"kept": [2, 0, 3, 6]}, "`kept` must be ascending"),
        ({"offset": np.full(UNITS, np.inf)}, "`offset` must be finite"),
    ],
)
def test_units_that_do_not_add_up(make, changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scale": [1.0, 1.0]}, r"must have shape \(removed,\) = \(3,\). Received: \(3,\) and \(2"),
        ({"survivor": [0]}, r"must have shape \(removed,\) = \(3,\)"),
        ({"survivor": [0, 1, 4]}, "positions in `kept`, or -1. .*with 4 kept"),
        ({"survivor": [0, -2, 1]}, "positions in `kept`"),
        ({"scale": [1.0, np.nan, 1.0]}, "`scale` must be finite"),
    ],
)
def test_survivors_that_do_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        survivor_merge(**changes)


@pytest.mark.parametrize(
    ("coefficients", "message"),
    [
        (np.zeros((3, 4)), r"must have shape \(kept, removed\) = \(4, 3\). Received: \(3, 4\)"),
        (np.full((4, 3), np.nan), "`coefficients` must be finite"),
    ],
)
def test_coefficients_that_do_not_fit(coefficients, message):
    with pytest.raises(ValueError, match=message):
        linear_merge(coefficients=coefficients)


def test_one_unit_stays_and_values_are_frozen():
    with pytest.raises(ValueError, match="at least one unit"):
        LinearMerge([], [1, 0], np.zeros(2), np.zeros((0, 2)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        survivor_merge().kept = np.arange(3)


def stepwise(units, removed, survivor, scale, offset, values):
    """Replace one unit after the other in plain loops, and return the values of all units.

    It goes from the last removal to the first, so that each survivor has its final value.
    """
    values = values.copy()
    for step in reversed(range(len(removed))):
        taken = scale[step] * values[survivor[step]] if survivor[step] >= 0 else 0.0
        values[removed[step]] = taken + offset[step]
    return values


@pytest.mark.parametrize("seed", range(20))
def test_chains_of_survivors_end_at_kept_units(seed):
    random = np.random.default_rng(seed)
    units, count = 9, int(random.integers(1, 9))
    removed = random.permutation(units)[:count]
    alive, survivor = set(range(units)), []
    for unit in removed:
        alive.discard(int(unit))
        survivor.append(-1 if random.random() < 0.2 else random.choice(sorted(alive)))
    scale, offset = random.uniform(0.5, 2, count), random.normal(size=count)
    merge = follow_survivors(units, removed, np.array(survivor), scale, offset)
    assert merge.removed.tolist() == removed.tolist()
    assert merge.kept.tolist() == sorted(alive)
    values = random.normal(size=units)
    wanted = stepwise(units, removed, survivor, scale, offset, values)
    np.testing.assert_allclose(rebuilt(merge, values[None, merge.kept])[0], wanted, rtol=1e-12)


def test_a_chain_that_ends_in_a_constant():
    merge = follow_survivors(
        3, np.array([0, 1]), np.array([1, -1]), np.array([2.0, 0.0]), np.array([0.5, 3.0])
    )
    assert merge.survivor.tolist() == [-1, -1]
    assert merge.scale.tolist() == [0, 0]
    assert merge.offset.tolist() == [2 * 3 + 0.5, 3, 0]


def test_surgery_step_by_step_is_the_merge_at_once():
    """Surgery as in the paper: `a_i <- a_i + scale a_j`, one removal after the other."""
    random = np.random.default_rng(3)
    removed, survivor = np.array([4, 1, 0, 5]), np.array([1, 0, 2, 3])
    scale = random.uniform(0.5, 2, 4)
    kernel = random.normal(size=(6, OUTPUTS))
    wanted = kernel.copy()
    for unit, takes_over, factor in zip(removed, survivor, scale, strict=True):
        wanted[takes_over] += factor * wanted[unit]
    merge = follow_survivors(6, removed, survivor, scale, np.zeros(4))
    np.testing.assert_allclose(merge.absorb(kernel), wanted[merge.kept], rtol=1e-12)


def centroid_merge(**changes):
    settings = {
        "kept": KEPT,
        "removed": REMOVED,
        "offset": np.linspace(-1, 1, UNITS),
        "coefficients": np.random.default_rng(0).normal(size=(4, UNITS)),
        "shares": np.random.default_rng(1).normal(size=(4, UNITS)),
        "level": np.zeros(4),
    }
    return CentroidMerge(**{**settings, **changes})


def test_new_units_take_over_for_all_units():
    merge, random = centroid_merge(), np.random.default_rng(1)
    kernel, new = random.normal(size=(UNITS, OUTPUTS)), random.normal(size=(20, 4))
    wanted = (new @ merge.coefficients + merge.offset) @ kernel
    np.testing.assert_allclose(new @ merge.absorb(kernel) + merge.shift(kernel), wanted)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"coefficients": np.ones((4, 3))}, r"`coefficients` must have shape \(4, 7\)"),
        ({"shares": np.ones((UNITS, 4))}, r"`shares` must have shape \(4, 7\)"),
        ({"level": np.ones(3)}, r"`level` must have shape \(4,\)"),
        ({"shares": np.full((4, UNITS), np.nan)}, "`shares` must be finite"),
    ],
)
def test_centroid_merges_that_do_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        centroid_merge(**changes)
