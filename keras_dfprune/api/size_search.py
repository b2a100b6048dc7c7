"""Look for the smallest model within a limit: first along the shared-out budget, then by layers.

The shared-out budget puts all removals in one order, and a bisection finds the last one that the
user's measure allows. After it single layers are made narrower still, those first that save most,
each by a step that halves where the measure doesn't allow it.
"""

import math
from collections.abc import Callable, Mapping

from keras_dfprune.api.trials import Trial, Trials
from keras_dfprune.planning.budget import SharedRemovals
from keras_dfprune.planning.width_count import WidthCount

# Ratio of the sizes between which the bisection stops, and the share of the trials that it may use.
_CLOSE, _SHARE = 1.04, 0.55
# First step of a single layer, as a fraction of its units, and the smallest.
_STEP, _LEAST_STEP = 0.3, 0.012


class SizeSearch:
    """Search of one network.

    Args:
        trials: Makes and scores the narrow models.
        removals: All removals in one order.
        count: Counts what is to be small at given widths.
        steps: Largest number of trials.
        multiples: Multiples of the units that stay, by group.
        tell: Called after each trial.

    Attributes:
        best: The counts of the smallest model within the limit, and its trial; None before one.
    """

    def __init__(
        self,
        trials: Trials,
        removals: SharedRemovals,
        count: WidthCount,
        steps: int,
        multiples: Mapping[str, int],
        tell: Callable[[Trial], None],
    ):
        self._trials, self._removals, self._count = trials, removals, count
        self._left, self._multiples, self._tell = steps, multiples, tell
        self._steps = steps
        self.best: tuple[dict[str, int], Trial] | None = None

    def run(self) -> None:
        """Search until the trials are used up, or nothing more can be gained."""
        self._along_the_budget()
        self._layer_by_layer()

    def _try(self, counts: dict[str, int]) -> bool:
        self._left -= 1
        trial = self._trials.run(counts)
        if trial.within and (self.best is None or trial.size < self.best[1].size):
            self.best = counts, trial
        self._tell(trial)
        return trial.within

    def _along_the_budget(self) -> None:
        removals = self._removals
        sizes, few, many = removals.sizes, removals.lossless, len(removals.steps)
        least = self._steps - max(4, round(_SHARE * self._steps))
        if few and not self._try(removals.counts(few)):
            few = 0  # A measure may see what no arithmetic sees.
        # The first trial is at half of the size: most networks can go below.
        wanted = 0.5 * sizes[0]
        while self._left > least and many - few > 1:
            steps = int(min(max((sizes > wanted).sum(), few + 1), many - 1))
            if self._try(removals.counts(steps)):
                few = steps
            else:
                many = steps
            if sizes[few] <= _CLOSE * sizes[many]:
                break
            wanted = math.sqrt(float(sizes[few]) * float(sizes[many]))
            if many == len(removals.steps):  # Nothing has failed yet: take large steps.
                wanted = max(0.5 * sizes[few], sizes[many])

    def _layer_by_layer(self) -> None:
        if self.best is None:
            return
        step = dict.fromkeys(self.best[0], _STEP)
        while self._left > 0:
            counts = self.best[0]
            offers = {
                name: more for name in counts if (more := self._more(name, counts, step[name]))
            }
            if not offers:
                return
            widths = {name: self._count.widths[name] - counts[name] for name in counts}
            gains = {name: self._count.saved_by(name, more, widths) * step[name] ** 0.5
                     for name, more in offers.items()}  # fmt: skip
            name = max(gains, key=gains.__getitem__)
            if not self._try({**counts, name: counts[name] + offers[name]}):
                step[name] /= 2.5

    def _more(self, name: str, counts: Mapping[str, int], step: float) -> int:
        """Return how many more units of a group a step removes; 0 for none."""
        units, multiple = self._count.widths[name], self._multiples.get(name, 1)
        kept = units - counts[name]
        longest = len(self._trials.curves[name].order) - counts[name]
        if step < _LEAST_STEP:
            return 0
        wanted = max(multiple, round(step * kept))
        target = (kept - wanted) // multiple * multiple
        target = max(target, multiple)
        more = kept - target
        return more if 0 < more <= longest else 0
