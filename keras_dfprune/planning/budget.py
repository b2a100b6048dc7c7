"""Turn a budget into a number of removals for each group.

`SharedRemovals` removes units where what is saved costs least.
"""

import math
from collections.abc import Mapping

import numpy as np

from keras_dfprune.methods.base import Curve
from keras_dfprune.planning.group_plan import GroupCurve
from keras_dfprune.planning.width_count import WidthCount

# Fraction of its units that a group keeps as long as other groups have more than that. It lies far
# below what the costs alone chose for any trained network of `benchmarks/accuracy.py`.
FLOOR = 0.05


def round_half_away(value: float) -> int:
    """Round to the nearest integer, one half up."""
    return math.floor(value + 0.5)


def count_for_sparsity(sparsity: float, units: int, multiple: int = 1) -> int:
    """Return how many units a sparsity removes. At least one unit stays.

    Args:
        sparsity: Fraction of the units to remove, in [0, 1).
        units: Number of units.
        multiple: The number of units that stay is the nearest multiple of it, if any go.
    """
    # 15/22 of 22 must be 15, whatever the last bit of the product is.
    count = min(round_half_away(round(float(sparsity) * units, 9)), units - 1)
    return to_multiple(count, units, multiple)


def to_multiple(count: int, units: int, multiple: int, at_most: bool = False) -> int:
    """Move a number of removals so that the number of units that stay is a multiple.

    Args:
        count: Number of removals; 0 stays 0.
        units: Number of units.
        multiple: Units that stay are a multiple of it, and at least one multiple.
        at_most: Whether no more than `count` may go. Default: to the nearest multiple.
    """
    if count <= 0 or multiple == 1:
        return count
    kept = (units - count) / multiple
    blocks = math.ceil(kept) if at_most else max(1, round_half_away(kept))
    return max(0, units - multiple * blocks)


class SharedRemovals:
    """Removals of all groups in one order: units go where what they save costs least.

    The lossless removals go first of all. Each group keeps `FLOOR` of its units as long as another
    group has more than that, because the costs of the last few units are the least reliable.
    Lossless removals are exempt. With a multiple, units go in blocks that leave a multiple.

    Args:
        curves: Each group's curve on the original weights.
        count: Counts what a budget is about at given widths: parameters or multiply-adds.
        multiples: Multiples of the units that stay, by group; 1 for groups not named.

    Attributes:
        steps: Name of the group that loses a block of units, for each removal.
        numbers: Number of units in each block.
        sizes: Int array, shape `(removals + 1,)`: what `count` says of the whole model before the
            first removal and after each.
        lossless: Number of the first removals that change nothing.
    """

    def __init__(
        self,
        curves: Mapping[str, Curve] | Mapping[str, GroupCurve],
        count: WidthCount,
        multiples: Mapping[str, int] | None = None,
    ):
        self._count, self._multiples = count, multiples or {}
        self._removed = dict.fromkeys(curves, 0)
        self._kept = {name: count.widths[name] for name in curves}
        self._costs = {
            name: np.maximum.accumulate(curve.costs) / curve.scale for name, curve in curves.items()
        }
        self.steps: list[str] = []
        self.numbers: list[int] = []
        sizes = [count.total(self._kept)]
        exact = {name: curve.lossless for name, curve in curves.items()}
        for name in curves:
            while self._open(name, exact):
                sizes.append(sizes[-1] - self._remove(name))
        self.lossless = len(self.steps)
        longest = {name: len(curve.order) for name, curve in curves.items()}
        to_floor = {
            name: min(longest[name], max(exact[name], units - math.ceil(FLOOR * units)))
            for name, units in count.widths.items()
            if name in curves
        }
        for limits in (to_floor, longest):
            prices = {name: self._price(name) for name in curves if self._open(name, limits)}
            while prices:
                cheapest = min(prices, key=prices.__getitem__)
                sizes.append(sizes[-1] - self._remove(cheapest))
                for name in count.neighbours(cheapest) & prices.keys():
                    prices[name] = self._price(name) if self._open(name, limits) else math.inf
                prices = {name: price for name, price in prices.items() if price < math.inf}
        self.sizes = np.array(sizes)

    def _block(self, name: str) -> int:
        """Return how many units of a group go next."""
        multiple = self._multiples.get(name, 1)
        return self._kept[name] % multiple or multiple

    def _open(self, name: str, limits: Mapping[str, int]) -> bool:
        block = self._block(name)
        return self._kept[name] > block and self._removed[name] + block <= limits[name]

    def _price(self, name: str) -> float:
        first, block = self._removed[name], self._block(name)
        saved = max(1, self._count.saved_by(name, block, self._kept))
        price = float(np.sum(self._costs[name][first : first + block]) / saved)
        return price if price < math.inf else np.finfo(np.float64).max

    def _remove(self, name: str) -> int:
        """Remove the next block of a group, and return what that saves."""
        block = self._block(name)
        saved = self._count.saved_by(name, block, self._kept)
        self._removed[name] += block
        self._kept[name] -= block
        self.steps.append(name)
        self.numbers.append(block)
        return saved

    def counts(self, steps: int) -> dict[str, int]:
        """Return how many units each group has lost after some of the removals."""
        counts = dict.fromkeys(self._removed, 0)
        for name, number in zip(self.steps[:steps], self.numbers, strict=False):
            counts[name] += number
        return counts

    def steps_to(self, limit: int, asked: str) -> int:
        """Return the smallest number of removals that leaves a size of at most `limit`.

        Args:
            limit: The budget, in the unit of `count`.
            asked: The budget as the caller gave it, for the message.

        Raises:
            ValueError: If the budget can't be reached. The message says the minimum.
        """
        enough = np.flatnonzero(self.sizes <= limit)
        if not len(enough):
            raise ValueError(
                f"`{asked}` can't be reached: with every layer at its narrowest the model still "
                f"has {int(self.sizes[-1])} {self._count.noun}. Allow at least that many."
            )
        return int(enough[0])
