"""Turn a budget into a number of removals for each group.

`share_out` spends a budget for the whole model where a saved parameter costs least.
"""

import math
from collections.abc import Mapping

import numpy as np

from keras_dfprune.methods.base import Curve
from keras_dfprune.planning.parameter_count import ParameterCount

# Fraction of its units that a group keeps as long as other groups have more than that. It lies far
# below what the costs alone chose for any trained network of `benchmarks/accuracy.py`.
FLOOR = 0.05


def round_half_away(value: float) -> int:
    """Round to the nearest integer, one half up."""
    return math.floor(value + 0.5)


def count_for_sparsity(sparsity: float, units: int) -> int:
    """Return how many units a sparsity removes. At least one unit stays."""
    # 15/22 of 22 must be 15, whatever the last bit of the product is.
    return min(round_half_away(round(float(sparsity) * units, 9)), units - 1)


def count_for_tolerance(curve: Curve, tolerance: float) -> int:
    """Return the largest number of removals whose predicted error stays within `tolerance`."""
    if tolerance == 0:
        return curve.lossless
    total = np.cumsum(curve.costs) / curve.scale
    return max(curve.lossless, int(np.searchsorted(total, tolerance, side="right")))


def share_out(
    curves: Mapping[str, Curve], units: Mapping[str, int], count: ParameterCount, max_params: int
) -> dict[str, int]:
    """Share a budget out over the groups: units that cost least per saved parameter go first.

    Each group keeps `FLOOR` of its units as long as another group has more than that, because the
    costs of the last few units are the least reliable. Lossless removals are exempt.

    Args:
        curves: Each group's curve on the original weights.
        units: Each group's number of units.
        count: Counts the parameters at given widths.
        max_params: Largest number of parameters of the whole model.

    Returns:
        The number of units to remove from each group.

    Raises:
        ValueError: If the budget can't be reached. The message says the minimum.
    """
    costs = {
        name: np.maximum.accumulate(curve.costs) / curve.scale for name, curve in curves.items()
    }
    longest = {name: len(path) for name, path in costs.items()}
    minimum = count.total({name: units[name] - longest[name] for name in curves})
    if minimum > max_params:
        raise ValueError(
            f"`max_params={max_params}` can't be reached: with every layer at its narrowest the "
            f"model still has {minimum} parameters. Allow at least that many."
        )
    to_floor = {
        name: min(longest[name], max(curve.lossless, units[name] - math.ceil(FLOOR * units[name])))
        for name, curve in curves.items()
    }
    removed, kept = dict.fromkeys(curves, 0), dict(units)
    while count.total(kept) > max_params:
        open_groups = [name for name in curves if removed[name] < to_floor[name]]
        if not open_groups:
            open_groups = [name for name in curves if removed[name] < longest[name]]
        price = {
            name: costs[name][removed[name]] / max(1, count.saved_by_one(name, kept))
            for name in open_groups
        }
        cheapest = min(price, key=price.__getitem__)
        removed[cheapest] += 1
        kept[cheapest] -= 1
    return removed
