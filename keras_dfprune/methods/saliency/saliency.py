"""The paper's method: remove the unit whose merge with its nearest other unit costs least.

Saliency of removing j while i takes over: `s_ij = <a_j^2> ||W_i - W_j||^2` (Srinivas & Babu,
"Data-free parameter pruning for Deep Neural Networks", BMVC 2015, Equation 4).
"""

import math
from typing import Any

import numpy as np

from keras_dfprune.graph.beside import beside
from keras_dfprune.methods.base import Context, Curve, GroupView, Method
from keras_dfprune.methods.lossless import Removal, lossless, merge_of
from keras_dfprune.methods.saliency.cutoff import mode_of_saliencies
from keras_dfprune.methods.saliency.distances import PairDistances, RatioDistances
from keras_dfprune.methods.saliency.distances_float64 import weight_distances
from keras_dfprune.methods.saliency.greedy import Importance, Search
from keras_dfprune.methods.saliency.neighbours import Neighbours

_FILTERS = "the automatic cut-off is for dense layers; give `sparsity` to remove filters"


class Saliency(Method):
    """Pairwise merging by the paper's saliency.

    Args:
        surgery: Whether the survivor takes over the outgoing weights, `a_i <- a_i + a_j`. Without
            it units are only dropped: for comparisons.
        normalize: Whether weight-sets are compared at unit norm, with the norm moved into the
            outgoing weights (Section 3.3). `"auto"` (default): wherever that is exact, that is
            for positively homogeneous activations (relu, leaky_relu, linear).
        distance: `"weights"` (default): the squared distance of Equation 4; `"ratio"`: the
            heuristic of Section 3.4.
        aggregate: `"mean"` (default, `<a_j^2>`) or `"max"` over the outputs.
        cutoff_scale: Factor on the number of units that the automatic cut-off removes, in (0, 1].
            The paper takes 0.25 to 0.75 for large nets.

    Raises:
        ValueError: For any other value.

    Example:
    >>> import keras_dfprune as dfprune
    >>> dfprune.Saliency(normalize=False).get_config()["normalize"]
    False
    """

    shares_work = True

    def __init__(
        self,
        surgery: bool = True,
        normalize: bool | str = "auto",
        distance: str = "weights",
        aggregate: str = "mean",
        cutoff_scale: float = 1.0,
    ):
        _one_of("normalize", normalize, ("auto", True, False))
        _one_of("distance", distance, ("weights", "ratio"))
        _one_of("aggregate", aggregate, ("mean", "max"))
        _one_of("surgery", surgery, (True, False))
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
        units, exact = group.units, lossless(group, self.surgery)
        merge_scale = self._merge_scale(group)
        importance = Importance(group, self.aggregate, merge_scale)
        scale = float(np.sum(importance.values * np.square(group.norms / merge_scale)))
        scale = scale if scale > 0 else 1.0
        if not math.isfinite(group.activation.slope):
            return _exact_only(group, exact, scale)
        alive = np.ones(units, bool)
        alive[[removal.unit for removal in exact]] = False
        mode, neighbours = None, None
        if np.sum(alive) > 1:
            neighbours = Neighbours(
                self._distances(group),
                alive & group.can_survive,
                context,
            )
            mode = beside(mode_of_saliencies, neighbours.sample, importance.values.copy())
        search = Search(group, neighbours, importance, merge_scale, self.surgery)
        for removal in exact:
            search.remove_exactly(removal)
        with np.errstate(invalid="ignore"):  # a weight of 0 at an infinite distance
            while len(search.removals) < units - 1:
                search.remove_cheapest()
        cutoff, histogram = mode.result() if mode else (None, None)
        # the lists and weight-sets behind the search mustn't live as long as the curve
        removals, costs = search.removals, np.array(search.costs)
        note = None
        if group.taps:  # LeNet-5 on MNIST lost 17 points where its filters went by this rule
            cutoff, note = None, _FILTERS
        automatic = _until(costs, cutoff, len(exact), self.cutoff_scale)
        return Curve(
            order=np.array([removal.unit for removal in removals], np.int64),
            costs=costs,
            merge=lambda count: merge_of(units, removals[:count]),
            scale=scale,
            lossless=len(exact),
            automatic=automatic,
            cutoff=cutoff,
            histogram=histogram,
            note=note,
        )

    def _normalizes(self, group: GroupView) -> bool:
        return bool(self.normalize) and group.activation.homogeneous

    def _merge_scale(self, group: GroupView) -> np.ndarray:
        """`alpha`: survivor i takes over `alpha_j / alpha_i` times the outgoing weights of j."""
        if self.normalize is True and not group.activation.homogeneous:
            raise ValueError(
                f"`normalize=True` is exact only for positively homogeneous activations, and the "
                f"units of layer '{group.name}' go through '{group.activation.name}' or have "
                f"parameters of their own. Use normalize='auto' or name other `layers`."
            )
        if not self._normalizes(group):
            return np.ones(group.units)
        norms = group.norms if self.distance == "weights" else _weights_only(group)
        return np.where(norms > 0, norms, 1.0)

    def _distances(self, group: GroupView) -> PairDistances:
        if self.distance == "weights":
            parts = (group.weights, group.constants)
            return weight_distances(parts, group.norms, self._normalizes(group))
        return RatioDistances((group.weights,), _weights_only(group), group.biases)


def _one_of(name: str, value: Any, allowed: tuple) -> None:
    if not any(type(value) is type(option) and value == option for option in allowed):
        options = ", ".join(repr(option) for option in allowed)
        raise ValueError(f"`{name}` must be one of {options}. Received: {name}={value!r}")


def _weights_only(group: GroupView) -> np.ndarray:
    return np.sqrt(np.einsum("ij,ij->i", group.weights, group.weights, dtype=np.float64))


def _exact_only(group: GroupView, exact: list[Removal], scale: float) -> Curve:
    """The curve of units whose activation has no largest slope: Lemma 1 says nothing of them."""
    units = group.units
    return Curve(
        order=np.array([removal.unit for removal in exact], np.int64),
        costs=np.zeros(len(exact)),
        merge=lambda count: merge_of(units, exact[:count]),
        scale=scale,
        lossless=len(exact),
        automatic=len(exact),
        note=f"exact removals only: the slope of {group.activation.name} has no bound",
    )


def _until(costs: np.ndarray, cutoff: float | None, exact: int, factor: float) -> int:
    """How many removals come before the first cost that reaches the cut-off."""
    if cutoff is None:
        return exact
    reached = np.flatnonzero(costs >= cutoff)
    count = int(reached[0]) if len(reached) else len(costs)
    return max(exact, math.floor(factor * count + 0.5))
