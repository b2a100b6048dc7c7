"""Define the simpler methods that the benchmarks compare with.

`Drop` removes random or the smallest units without surgery. `Ward` clusters the units as "model
folding" does (Wang et al. 2025); the members of a cluster become one unit.
"""

import keras
import numpy as np
from scipy.cluster.hierarchy import linkage

import keras_dfprune as dfprune
from keras_dfprune.methods.base import Context, Curve, GroupView, Method
from keras_dfprune.methods.merge import SurvivorMerge, follow_survivors


class Drop(Method):
    """Removal without surgery, of random units or of the smallest first.

    Args:
        by: `"random"`, `"weights"` (norm of the weight-set) or `"product"` (norm of the weight-set
            times norm of the outgoing weights).
        seed: Seed of the random order.
    """

    def __init__(self, by: str, seed: int = 0):
        self.by, self.seed = by, seed

    def curve(self, group: GroupView, context: Context) -> Curve:
        """Order the units by their size, or at random."""
        size = np.linalg.norm(group.weight_sets, axis=1).astype(np.float64)
        if self.by == "product":
            size = size * np.linalg.norm(group.outgoing_matrix(), axis=1)
        if self.by == "random":
            size = np.random.default_rng(self.seed).random(group.units)
        order = np.argsort(size, kind="stable")[:-1]

        def merge(count: int) -> SurvivorMerge:
            no_survivor = np.full(count, -1)
            return follow_survivors(
                group.units, order[:count], no_survivor, np.zeros(count), np.zeros(count)
            )

        return Curve(order=order, costs=size[order], merge=merge)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {"by": self.by, "seed": self.seed}


class Ward(Method):
    """Ward's clusters of `[W, b, a]`, the outgoing weights of each cluster summed.

    If the activation is positively homogeneous, outgoing weights are scaled by the ratio of the
    norms of the weight-sets before they are summed, as in the paper's surgery.
    """

    def curve(self, group: GroupView, context: Context) -> Curve:
        """Merge the two nearest clusters repeatedly; the unit with the larger weights survives.

        The size of a unit is the norm of its weight-set times the norm of its outgoing weights.
        """
        sets, outgoing = group.weight_sets.astype(np.float64), group.outgoing_matrix()
        norms = np.maximum(np.linalg.norm(sets, axis=1), 1e-12)
        size = norms * np.linalg.norm(outgoing, axis=1)
        tree = linkage(np.concatenate([sets, outgoing], axis=1), "ward")
        representative = list(range(group.units))  # of each cluster
        goes_to = []  # pairs of a removed unit and its survivor
        for left, right in tree[:, :2].astype(int):
            stays, goes = sorted(
                (representative[left], representative[right]), key=lambda unit: -size[unit]
            )
            goes_to.append((goes, stays))
            representative.append(stays)
        removed, survivor = np.array(goes_to, int).reshape(-1, 2).T
        homogeneous = group.activation.homogeneous
        scale = norms[removed] / norms[survivor] if homogeneous else np.ones(len(removed))

        def merge(count: int) -> SurvivorMerge:
            return follow_survivors(
                group.units, removed[:count], survivor[:count], scale[:count], np.zeros(count)
            )

        return Curve(order=removed, costs=tree[:, 2], merge=merge)

    def get_config(self) -> dict:
        """Return an empty dict: there are no arguments."""
        return {}


def folded(model: keras.Model, plan: dfprune.PruningPlan) -> keras.Model:
    """Apply a plan of `Ward`, then give each cluster the mean incoming weights of its members.

    Works on dense layers that follow one another. With relu it takes the mean direction, each
    member counting with the norm of its weight-set, at the norm that the surgery assumes. A layer
    in front of a BatchNormalization keeps the weights of its survivors.
    """
    narrow, previous = plan.apply(model), None
    for group in plan.groups:
        layer, merge = model.get_layer(group.layer), group.merge
        sets = np.concatenate([np.asarray(part).reshape(-1, group.units)
                               for part in layer.get_weights()]).astype(np.float64)  # fmt: skip
        if previous is not None:
            sets = np.concatenate([previous.absorb(sets[:-1]), sets[-1:]])
        activation = keras.activations.serialize(layer.activation)
        if activation != "linear":
            means = _means(sets, merge, homogeneous=activation == "relu")
            narrow.get_layer(group.layer).set_weights([means[:-1], means[-1]])
        previous = merge
    return narrow


def _means(sets: np.ndarray, merge: SurvivorMerge, *, homogeneous: bool) -> np.ndarray:
    """Return the mean weight-sets of the clusters, shape `(inputs + 1, kept)`."""
    cluster = np.empty(merge.units, int)
    cluster[merge.kept] = np.arange(len(merge.kept))
    cluster[merge.removed] = merge.survivor
    norms = np.ones(merge.units)
    if homogeneous:
        norms = np.maximum(np.linalg.norm(sets, axis=0), 1e-12)
    total = np.zeros((len(merge.kept), len(sets)))
    np.add.at(total, cluster, sets.T)  # each direction counts with its norm
    if not homogeneous:
        return (total / np.bincount(cluster)[:, None]).T
    length = np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)
    return (total / length * norms[merge.kept, None]).T
