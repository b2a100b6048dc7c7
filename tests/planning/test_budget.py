"""A budget for the whole model removes the units that cost least per parameter saved."""

import dataclasses
import itertools
import math
import types

import numpy as np
import pytest

from keras_dfprune.methods.base import Curve
from keras_dfprune.planning.budget import FLOOR, SharedRemovals


def share_out(curves, units, count, max_params):
    """Return the removals of each group for a budget."""
    count.neighbours = lambda name: set(curves)
    count.noun, count.widths = "parameters", units
    removals = SharedRemovals(curves, count)
    return removals.counts(removals.steps_to(max_params, f"max_params={max_params}"))


def shared_out(costs, max_params, *, scales=None, sizes=None):
    """Share a budget out over groups of four units; `sizes` are the parameters of a unit."""
    scales, sizes = scales or {}, sizes or {}
    curves = {
        name: Curve(np.arange(3), np.array(values, float), merge=None, scale=scales.get(name, 1.0))
        for name, values in costs.items()
    }
    count = types.SimpleNamespace(
        total=lambda kept: sum(sizes.get(name, 1) * kept[name] for name in kept),
        saved_by=lambda name, number, kept: number * sizes.get(name, 1),
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
        saved_by=lambda name, number, kept: sizes[name] if kept["a"] == 4 or name == "b" else 1,
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
        total=lambda kept: sum(kept.values()), saved_by=lambda name, number, kept: number
    )
    return share_out(curves, {"cheap": 40, "dear": 40}, count, max_params)


def test_a_group_keeps_some_units_while_another_has_more():
    assert floored(41) == {"cheap": 38, "dear": 1}
    assert floored(4) == {"cheap": 38, "dear": 38}
    assert floored(3) == {"cheap": 39, "dear": 38}


def test_lossless_removals_go_below_the_floor():
    assert floored(41, lossless=39) == {"cheap": 39, "dear": 0}


class Chain:
    """Counter of the parameters of Dense layers in a row without biases, which share kernels."""

    noun = "parameters"

    def __init__(self, widths, inputs=7, outputs=5):
        self.widths = widths
        self._names, self._ends = list(widths), (inputs, outputs)

    def total(self, kept):
        widths = [self._ends[0], *(kept[name] for name in self._names), self._ends[1]]
        return sum(before * after for before, after in itertools.pairwise(widths))

    def saved_by(self, name, number, kept):
        return self.total(kept) - self.total({**kept, name: kept[name] - number})

    def neighbours(self, name):
        place = self._names.index(name)
        return set(self._names[max(0, place - 1) : place + 2])


def cheapest_first(curves, units, count):
    """Remove unit after unit at the lowest price, with every price computed anew each time."""
    removed, steps = dict.fromkeys(curves, 0), []
    floors = {name: units[name] - math.ceil(FLOOR * units[name]) for name in curves}
    limits = [{name: curves[name].lossless for name in curves}]
    limits += [floors, {name: len(curve.order) for name, curve in curves.items()}]
    for limit in limits:
        while open_groups := [name for name in curves if removed[name] < limit[name]]:
            kept = {name: units[name] - removed[name] for name in curves}
            price = {
                name: np.max(curves[name].costs[: removed[name] + 1])
                / curves[name].scale
                / count.saved_by(name, 1, kept)
                for name in open_groups
            }
            steps.append(min(price, key=price.get))
            removed[steps[-1]] += 1
    return steps


@pytest.mark.parametrize("seed", range(6))
def test_neighbouring_layers_are_priced_anew_after_each_removal(seed):
    """The order is that of a search which computes every price at every step."""
    random, names = np.random.default_rng(seed), ["a", "b", "c", "d"]
    units = {name: int(random.integers(3, 30)) for name in names}
    curves = {
        name: Curve(
            np.arange(units[name] - 1),
            random.gamma(0.5, size=units[name] - 1),
            merge=None,
            scale=float(random.uniform(0.5, 2.0)),
        )
        for name in names
    }
    curves["b"].costs[:1] = 0.0
    curves["b"] = dataclasses.replace(curves["b"], lossless=1)
    count = Chain(units)
    removals = SharedRemovals(curves, count)
    assert removals.steps == cheapest_first(curves, units, count)
    assert removals.lossless == 1
    for steps in range(0, len(removals.steps) + 1, 5):
        kept = {name: units[name] - lost for name, lost in removals.counts(steps).items()}
        assert removals.sizes[steps] == count.total(kept)
        assert removals.steps_to(count.total(kept), "any") <= steps
