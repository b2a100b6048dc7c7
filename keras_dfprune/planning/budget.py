"""What a caller asks for into numbers of units: one for each group.

Fractions and names are checked here; `share_out` spends a budget for the whole model where a
parameter saved costs least.
"""

import math
from collections.abc import Mapping

import numpy as np

from keras_dfprune.methods.base import Curve
from keras_dfprune.planning.parameter_count import ParameterCount

# Share of its units that a group keeps while others have more: far below what the costs alone ever
# chose for a trained network (27 of 300, at 91 % of all parameters; `benchmarks/accuracy.py`).
FLOOR = 0.05


def round_half_away(value: float) -> int:
    """Rounds to the nearest integer, one half up."""
    return math.floor(value + 0.5)


def count_for_sparsity(sparsity: float, units: int) -> int:
    """How many units a sparsity removes: at least one stays."""
    # 15/22 of 22 is 15, whatever the last bit of the product says
    return min(round_half_away(round(float(sparsity) * units, 9)), units - 1)


def count_for_tolerance(curve: Curve, tolerance: float) -> int:
    """The largest number of removals whose predicted relative error stays within `tolerance`."""
    if tolerance == 0:
        return curve.lossless
    total = np.cumsum(curve.costs) / curve.scale
    return max(curve.lossless, int(np.searchsorted(total, tolerance, side="right")))


def share_out(
    curves: Mapping[str, Curve], units: Mapping[str, int], count: ParameterCount, max_params: int
) -> dict[str, int]:
    """Spends a budget over all groups, the cheapest cost per parameter saved first.

    Each group keeps FLOOR of its units, but for those that cost nothing, as long as any other has
    more than that: what so few units can do is known worst where it matters most.

    Args:
        curves: Each group's curve on the original weights.
        units: Each group's number of units.
        count: Counts the parameters at given widths.
        max_params: What the whole model may have.

    Returns:
        The number of units to remove from each group.

    Raises:
        ValueError: If the budget can't be reached; the message says the minimum.
    """
    rising = {
        name: np.maximum.accumulate(curve.costs) / curve.scale for name, curve in curves.items()
    }
    smallest = {name: units[name] - len(costs) for name, costs in rising.items()}
    minimum = count.total(smallest)
    if minimum > max_params:
        raise ValueError(
            f"`max_params={max_params}` can't be reached: with every layer at its narrowest the "
            f"model still has {minimum} parameters. Allow at least that many."
        )
    most = {
        name: max(curves[name].lossless, units[name] - math.ceil(FLOOR * units[name]))
        for name in curves
    }
    removed = dict.fromkeys(curves, 0)
    kept = dict(units)
    while count.total(kept) > max_params:
        some = [name for name in curves if removed[name] < min(most[name], len(rising[name]))]
        some = some or [name for name in curves if removed[name] < len(rising[name])]
        price = {
            name: rising[name][removed[name]] / max(1, count.saved_by_one(name, kept))
            for name in some
        }
        cheapest = min(price, key=price.get)
        removed[cheapest] += 1
        kept[cheapest] -= 1
    return removed
