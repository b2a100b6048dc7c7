"""What a caller asks for into numbers of units: one for each group.

Fractions and names are checked here; `share_out` spends a budget for the whole model where a
parameter saved costs least.
"""

import difflib
import math
import numbers
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from keras_dfprune.methods.base import Curve, Method
from keras_dfprune.parameters import ParameterCount

# Share of its units that a group keeps while others have more: far below what the costs alone ever
# chose for a trained network (27 of 300, at 91 % of all parameters; `benchmarks/accuracy.py`).
FLOOR = 0.05


def check_budget(method: Method, sparsity: Any, max_params: Any, tolerance: Any) -> None:
    """Makes sure that at most one budget is given, that it makes sense, and suits the method.

    Raises:
        ValueError: Otherwise.
    """
    given = {"sparsity": sparsity, "max_params": max_params, "tolerance": tolerance}
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise ValueError(
            f"Give at most one of `sparsity`, `max_params` and `tolerance`. Received: "
            f"{', '.join(f'{name}={given[name]!r}' for name in names)}"
        )
    if sparsity is not None and not isinstance(sparsity, Mapping):
        check_fraction("sparsity", sparsity)
    if isinstance(sparsity, Mapping):
        for name, value in sparsity.items():
            check_fraction(f"sparsity[{name!r}]", value)
    if max_params is not None and not (_is_number(max_params) and 1 <= max_params < math.inf):
        raise ValueError(
            f"`max_params` must be a positive number of parameters. Received: {max_params!r}"
        )
    if tolerance is None:
        return
    if not (_is_number(tolerance) and 0 <= tolerance < math.inf):
        raise ValueError(f"`tolerance` must be a number of at least 0. Received: {tolerance!r}")
    if tolerance > 0 and not method.predicts_error:
        raise ValueError(
            f"method='{method.name}' predicts no error, so it can't keep to a `tolerance` above 0. "
            f'Use method="moments", or `sparsity` or `max_params`. Received: tolerance={tolerance}'
        )


def check_fraction(name: str, value: Any) -> None:
    """Makes sure that a sparsity is a number in [0, 1).

    Raises:
        ValueError: Otherwise.
    """
    if not (_is_number(value) and 0 <= value < 1):
        raise ValueError(
            f"`{name}` must be a number in [0, 1), the fraction of units to remove. Received: "
            f"{value!r}"
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)


def resolve(name: str, producers: Iterable[str], others: Iterable[str]) -> str:
    """Finds the path of the producer that a caller named.

    Args:
        name: A layer's name, or its path.
        producers: Paths of all layers that have units.
        others: Paths of the model's other layers.

    Raises:
        ValueError: If there is none, or several; the message lists what is near.
    """
    producers, others = list(producers), list(others)
    if name in producers:
        return name
    matches = [path for path in producers if path.rsplit("/", 1)[-1] == name]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise ValueError(
            f"Layer name '{name}' is ambiguous. Use one of the paths {', '.join(matches)}"
        )
    if name in others or any(path.rsplit("/", 1)[-1] == name for path in others):
        raise ValueError(
            f"Layer '{name}' has no units that can be pruned. Layers that have: "
            f"{', '.join(producers) or 'none'}"
        )
    names = [*producers, *(path.rsplit("/", 1)[-1] for path in producers)]
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f"Did you mean '{near[0]}'?" if near else f"Layers: {', '.join(producers) or 'none'}"
    raise ValueError(f"There is no layer '{name}'. {hint}")


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
