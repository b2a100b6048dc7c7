"""Turn a budget into a number of removals for each group.

`SharedRemovals` removes units where a saved parameter costs least.
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


class SharedRemovals:
    """Removals of all groups in one order: units that cost least per saved parameter go first.

    The lossless removals go first of all. Each group keeps `FLOOR` of its units as long as another
    group has more than that, because the costs of the last few units are the least reliable.
    Lossless removals are exempt.

    Args:
        curves: Each group's curve on the original weights.
        units: Each group's number of units.
        count: Counts the parameters at given widths.

    Attributes:
        steps: Name of the group that loses a unit, for each removal.
        parameters: Int array, shape `(removals + 1,)`: parameters of the whole model before the
            first removal and after each.
        lossless: Number of the first removals that change nothing.
    """

    def __init__(
        self, curves: Mapping[str, Curve], units: Mapping[str, int], count: ParameterCount
    ):
        self._curves, self._units, self._count = curves, units, count
        self._removed = dict.fromkeys(curves, 0)
        self._kept = dict(units)
        self._costs = {
            name: np.maximum.accumulate(curve.costs) / curve.scale for name, curve in curves.items()
        }
        self.steps: list[str] = []
        parameters = [count.total(self._kept)]
        for name, curve in curves.items():
            for _ in range(curve.lossless):
                parameters.append(parameters[-1] - self._remove(name))
        self.lossless = len(self.steps)
        longest = {name: len(curve.order) for name, curve in curves.items()}
        to_floor = {
            name: min(
                longest[name], max(curve.lossless, units[name] - math.ceil(FLOOR * units[name]))
            )
            for name, curve in curves.items()
        }
        for limits in (to_floor, longest):
            prices = {name: self._price(name) for name in curves if self._open(name, limits)}
            while prices:
                cheapest = min(prices, key=prices.__getitem__)
                parameters.append(parameters[-1] - self._remove(cheapest))
                for name in count.neighbours(cheapest) & prices.keys():
                    prices[name] = self._price(name) if self._open(name, limits) else math.inf
                prices = {name: price for name, price in prices.items() if price < math.inf}
        self.parameters = np.array(parameters)

    def _open(self, name: str, limits: Mapping[str, int]) -> bool:
        return self._removed[name] < limits[name]

    def _price(self, name: str) -> float:
        saved = max(1, self._count.saved_by_one(name, self._kept))
        price = float(self._costs[name][self._removed[name]] / saved)
        return price if price < math.inf else np.finfo(np.float64).max

    def _remove(self, name: str) -> int:
        """Remove one more unit of a group, and return the number of parameters saved."""
        saved = self._count.saved_by_one(name, self._kept)
        self._removed[name] += 1
        self._kept[name] -= 1
        self.steps.append(name)
        return saved

    def counts(self, steps: int) -> dict[str, int]:
        """Return how many units each group has lost after some of the removals."""
        counts = dict.fromkeys(self._curves, 0)
        for name in self.steps[:steps]:
            counts[name] += 1
        return counts

    def steps_to(self, max_params: int, asked: object) -> int:
        """Return the smallest number of removals that leaves at most `max_params` parameters.

        Args:
            max_params: The budget.
            asked: The budget as the caller gave it, for the message.

        Raises:
            ValueError: If the budget can't be reached. The message says the minimum.
        """
        enough = np.flatnonzero(self.parameters <= max_params)
        if not len(enough):
            minimum = int(self.parameters[-1])
            raise ValueError(
                f"`max_params={asked}` can't be reached: with every layer at its narrowest the "
                f"model still has {minimum} parameters. Allow at least that many."
            )
        return int(enough[0])
