"""A budget for the whole model removes the units that cost least per parameter saved."""

import types

import numpy as np
import pytest

from keras_dfprune.methods.base import Curve
from keras_dfprune.planning.budget import SharedRemovals


def share_out(curves, units, count, max_params):
    """Return the removals of each group for a budget."""
    count.neighbours = lambda name: set(curves)
    removals = SharedRemovals(curves, units, count)
    return removals.counts(removals.steps_to(max_params, max_params))


def shared_out(costs, max_params, *, scales=None, sizes=None):
    """Share a budget out over groups of four units; `sizes` are the parameters of a unit."""
    scales, sizes = scales or {}, sizes or {}
    curves = {
        name: Curve(np.arange(3), np.array(values, float), merge=None, scale=scales.get(name, 1.0))
        for name, values in costs.items()
    }
    count = types.SimpleNamespace(
        total=lambda kept: sum(sizes.get(name, 1) * kept[name] for name in kept),
        saved_by_one=lambda name, kept: sizes.get(name, 1),
    )
    return share_out(curves, dict.fromkeys(costs, 4), count, max_params)


def test_the_cheapest_units_are_removed_first():
    assert shared_out({"a": [1, 4, 9], "b": [2, 3, 8]}, 4) == {"a": 2, "b": 2}


def test_costs_are_relative_to_the_scale_of_the_group():
    costs = {"a": [5, 5, 5], "b": [1, 1, 1]}
    assert shared_out(costs, 6, scales={"a": 100.0}) == {"a": 2, "b": 0}


def test_costs_are_per_parameter():
    costs = {"a": [5, 5, 5], "b": [1, 1, 1]}
    assert shared_out(costs, 30, sizes={"a": 10}) == {"a": 2, "b": 0}


def test_a_cost_that_falls_counts_no_less_than_the_cost_before_it():
    """The first unit of `a` saves two parameters, each further unit saves one."""
    curves = {
        "a": Curve(np.arange(3), np.array([8.0, 0.1, 0.1]), merge=None),
        "b": Curve(np.arange(3), np.array([1.0, 1.0, 5.0]), merge=None),
    }
    sizes = {"a": 2, "b": 1}
    count = types.SimpleNamespace(
        total=lambda kept: 2 * kept["a"] + kept["b"],
        saved_by_one=lambda name, kept: sizes[name] if kept["a"] == 4 or name == "b" else 1,
    )
    assert share_out(curves, {"a": 4, "b": 4}, count, 7) == {"a": 1, "b": 3}


def test_a_budget_out_of_reach_is_an_error_with_the_minimum():
    with pytest.raises(ValueError, match="`max_params=1` can't be reached.*still has 2 parameters"):
        shared_out({"a": [1, 1, 1], "b": [1, 1, 1]}, 1)


def floored(max_params, lossless=0):
    """Share a budget out over two groups of 40 units; those of the first cost next to nothing."""
    curves = {
        "cheap": Curve(np.arange(39), np.full(39, 1e-9), merge=None, lossless=lossless),
        "dear": Curve(np.arange(39), np.full(39, 1.0), merge=None),
    }
    count = types.SimpleNamespace(
        total=lambda kept: sum(kept.values()), saved_by_one=lambda name, kept: 1
    )
    return share_out(curves, {"cheap": 40, "dear": 40}, count, max_params)


def test_a_group_keeps_some_units_while_another_has_more():
    assert floored(41) == {"cheap": 38, "dear": 1}
    assert floored(4) == {"cheap": 38, "dear": 38}
    assert floored(3) == {"cheap": 39, "dear": 38}


def test_lossless_removals_go_below_the_floor():
    assert floored(41, lossless=39) == {"cheap": 39, "dear": 0}
