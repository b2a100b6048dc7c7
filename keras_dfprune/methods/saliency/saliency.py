"""Order units by the paper's saliency: the cost of merging a unit with its nearest other unit.

The saliency of removing unit j while unit i takes over is `s_ij = <a_j^2> ||W_i - W_j||^2`
(Srinivas & Babu, "Data-free parameter pruning for Deep Neural Networks", BMVC 2015, Equation 4).
"""

import math
from typing import Any

import numpy as np

from keras_dfprune.methods.base import Context, Curve, GroupView, Method
from keras_dfprune.methods.lossless import Removal, lossless_removals, merge_of
from keras_dfprune.methods.saliency.cutoff import mode_of_saliencies
from keras_dfprune.methods.saliency.distances import PairDistances, RatioDistances
from keras_dfprune.methods.saliency.distances_float64 import weight_distances
from keras_dfprune.methods.saliency.greedy import GreedyRemovals
from keras_dfprune.methods.saliency.importance import Importance
from keras_dfprune.methods.saliency.neighbours import Neighbours

_NOT_DENSE = "the automatic cut-off is for Dense layers only; give `sparsity` to remove units here"


class Saliency(Method):
    """Pairwise merging of units by the paper's saliency.

    Args:
        surgery: Whether the survivor takes over the outgoing weights, `a_i <- a_i + a_j`. Default:
            True. If False, units are only dropped, which is meant for comparisons.
        normalize: Whether weight-sets are compared at unit norm, with the norm moved into the
            outgoing weights (Section 3.3). `"auto"` (default): if that is exact, which is so for
            positively homogeneous activations (relu, leaky_relu, linear).
        distance: `"weights"` (default): the squared distance of Equation 4. `"ratio"`: the
            heuristic of Section 3.4.
        aggregate: `"mean"` (default, `<a_j^2>`) or `"max"` over the outputs.
        cutoff_scale: Factor, in (0, 1], on the number of units that the automatic cut-off removes.
            Default: 1. The paper takes 0.25 to 0.75 for large nets.

    Raises:
        ValueError: For any other value.

    Examples:
        >>> import keras_dfprune as dfprune
        >>> dfprune.Saliency(normalize=False).get_config()["normalize"]
        False
    """

    has_cutoff = True

    def __init__(
        self,
        surgery: bool = True,
        normalize: bool | str = "auto",
        distance: str = "weights",
        aggregate: str = "mean",
        cutoff_scale: float = 1.0,
    ):
        _check_option("normalize", normalize, ("auto", True, False))
        _check_option("distance", distance, ("weights", "ratio"))
        _check_option("aggregate", aggregate, ("mean", "max"))
        _check_option("surgery", surgery, (True, False))
        number = isinstance(cutoff_scale, int | float) and not isinstance(cutoff_scale, bool)
        if not (number and 0 < cutoff_scale <= 1):
            raise ValueError(
                f"`cutoff_scale` must be a number in (0, 1]. Received: cutoff_scale={cutoff_scale}"
            )
        self.surgery = surgery
        self.normalize = normalize
        self.distance = distance
        self.aggregate = aggregate
        self.cutoff_scale = float(cutoff_scale)

    def get_config(self) -> dict[str, Any]:
        return {
            "surgery": self.surgery,
            "normalize": self.normalize,
            "distance": self.distance,
            "aggregate": self.aggregate,
            "cutoff_scale": self.cutoff_scale,
        }

    def curve(self, group: GroupView, context: Context) -> Curve:
        if context.removed is not None:
            return self._curve_of_given_units(group, context, context.removed)
        exact = lossless_removals(group, self.surgery)
        alpha = self._alpha(group)
        importance = Importance(group, self.aggregate, alpha)
        scale = float(np.sum(importance.values * np.square(group.norms / alpha)))
        scale = scale if scale > 0 else 1.0
        if not math.isfinite(group.activation.slope):
            return _lossless_curve(group, exact, scale)
        neighbours, cutoff, histogram = self._neighbours(group, exact, context), None, None
        if neighbours is not None:  # before removals change the importances
            cutoff, histogram = mode_of_saliencies(neighbours.sample, importance.values)
        greedy = GreedyRemovals(group, importance, self.surgery)
        greedy.remove_lossless(exact)
        if neighbours is not None:
            greedy.remove_all_but_one(neighbours)
        note = None
        if not group.dense:  # it removes too much there: docs/research/measurements.md
            cutoff, note = None, _NOT_DENSE
        # A curve lives longer than the weights: `merge` must not hold on to `greedy` or `group`.
        units, removals, costs = group.units, greedy.removals, np.array(greedy.costs)
        return Curve(
            order=np.array([removal.unit for removal in removals], np.int64),
            costs=costs,
            merge=lambda count: merge_of(units, removals[:count]),
            scale=scale,
            lossless=len(exact),
            automatic=_automatic_count(costs, cutoff, len(exact), self.cutoff_scale),
            cutoff=cutoff,
            histogram=histogram,
            note=note,
        )

    def _curve_of_given_units(self, group: GroupView, context: Context, units: np.ndarray) -> Curve:
        """Merge each of the given units with its nearest unit that stays."""
        importance = Importance(group, self.aggregate, self._alpha(group))
        greedy = GreedyRemovals(group, importance, self.surgery)
        if len(units):
            stays = group.can_survive.copy()
            stays[units] = False
            greedy.remove_given(units, Neighbours(self._distances(group), stays, context))
        all_units, removals = group.units, greedy.removals
        return Curve(
            order=units,
            costs=np.array(greedy.costs),
            merge=lambda count: merge_of(all_units, removals[:count]),
        )

    def _neighbours(
        self, group: GroupView, exact: list[Removal], context: Context
    ) -> Neighbours | None:
        """Make the lists of neighbours that can survive, or None if only one unit remains."""
        if len(exact) == group.units - 1:
            return None
        allowed = group.can_survive.copy()
        allowed[[removal.unit for removal in exact]] = False
        return Neighbours(self._distances(group), allowed, context)

    def _normalizes(self, group: GroupView) -> bool:
        return bool(self.normalize) and group.activation.homogeneous

    def _alpha(self, group: GroupView) -> np.ndarray:
        """Return `alpha`: survivor i takes over `alpha_j / alpha_i` times the weights of unit j."""
        if self.normalize is True and not group.activation.homogeneous:
            raise ValueError(
                f"`normalize=True` is exact only for positively homogeneous activations, and the "
                f"units of layer '{group.name}' go through '{group.activation.name}' or have "
                f"parameters of their own. Use normalize='auto' or name other `layers`."
            )
        if not self._normalizes(group):
            return np.ones(group.units)
        norms = group.norms if self.distance == "weights" else _norms_without_bias(group)
        return np.where(norms > 0, norms, 1.0)

    def _distances(self, group: GroupView) -> PairDistances:
        if self.distance == "weights":
            parts = (group.weights, group.constants)
            return weight_distances(parts, group.norms, self._normalizes(group))
        return RatioDistances((group.weights,), _norms_without_bias(group), group.biases)


def _check_option(name: str, value: bool | str, allowed: tuple[bool | str, ...]) -> None:
    if not any(type(value) is type(option) and value == option for option in allowed):
        options = ", ".join(repr(option) for option in allowed)
        raise ValueError(f"`{name}` must be one of {options}. Received: {name}={value!r}")


def _norms_without_bias(group: GroupView) -> np.ndarray:
    return np.sqrt(np.einsum("ij,ij->i", group.weights, group.weights, dtype=np.float64))


def _lossless_curve(group: GroupView, exact: list[Removal], scale: float) -> Curve:
    """Return the lossless removals alone: Lemma 1 needs a bound of the activation's slope."""
    units = group.units
    return Curve(
        order=np.array([removal.unit for removal in exact], np.int64),
        costs=np.zeros(len(exact)),
        merge=lambda count: merge_of(units, exact[:count]),
        scale=scale,
        lossless=len(exact),
        automatic=len(exact),
        note=f"lossless removals only: the slope of {group.activation.name} has no bound",
    )


def _automatic_count(costs: np.ndarray, cutoff: float | None, lossless: int, factor: float) -> int:
    """Count the removals before the first cost that reaches the cut-off, times a factor."""
    if cutoff is None:
        return lossless
    reached = np.flatnonzero(costs >= cutoff)
    count = int(reached[0]) if len(reached) else len(costs)
    return max(lossless, math.floor(factor * count + 0.5))
