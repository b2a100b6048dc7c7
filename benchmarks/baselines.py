"""A group of units into what simpler methods remove, as pruning methods of a few lines each.

Random and smallest units dropped without surgery, and Ward's clusters of units (as in "model
folding", Wang et al. 2025), whose members become one unit.
"""

import keras
import numpy as np
from scipy.cluster.hierarchy import linkage

import keras_dfprune as dfprune
from keras_dfprune.methods.base import Context, Curve, GroupView, Method
from keras_dfprune.methods.merge import SurvivorMerge, follow_survivors


class Drop(Method):
    """Units go without anything taking over: at random, or the smallest first.

    Args:
        by: `"random"`, `"weights"` (norm of the weight-set) or `"product"` (that times the norm
            of the outgoing weights).
        seed: For the random order.
    """

    def __init__(self, by: str, seed: int = 0):
        self.by, self.seed = by, seed

    def curve(self, group: GroupView, context: Context) -> Curve:
        """Orders the units by their size, or shuffles them."""
        size = np.linalg.norm(group.weight_sets, axis=1).astype(np.float64)
        if self.by == "product":
            size = size * np.linalg.norm(group.outgoing_matrix(), axis=1)
        if self.by == "random":
            size = np.random.default_rng(self.seed).random(group.units)
        order = np.argsort(size, kind="stable")[:-1]

        def merge(count: int) -> SurvivorMerge:
            none = np.full(count, -1)
            return follow_survivors(
                group.units, order[:count], none, np.zeros(count), np.zeros(count)
            )

        return Curve(order=order, costs=size[order], merge=merge)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {"by": self.by, "seed": self.seed}


class Ward(Method):
    """Ward's clusters of `[W, b, a]`; the outgoing weights of a cluster are summed.

    Where the activation is positively homogeneous, at the scale of each unit's weight-set, as the
    paper's surgery does it.
    """

    def curve(self, group: GroupView, context: Context) -> Curve:
        """The tree's merges from the leaves up; the unit with more weight behind it stays."""
        sets, outgoing = group.weight_sets.astype(np.float64), group.outgoing_matrix()
        norms = np.maximum(np.linalg.norm(sets, axis=1), 1e-12)
        weight = norms * np.linalg.norm(outgoing, axis=1)
        tree = linkage(np.concatenate([sets, outgoing], axis=1), "ward")
        head = list(range(group.units))
        removed, survivor = [], []
        for left, right in tree[:, :2].astype(int):
            stays, goes = sorted((head[left], head[right]), key=lambda unit: -weight[unit])
            removed.append(goes)
            survivor.append(stays)
            head.append(stays)
        removed, survivor = np.array(removed), np.array(survivor)
        homogeneous = group.activation.homogeneous
        scale = norms[removed] / norms[survivor] if homogeneous else np.ones(len(removed))

        def merge(count: int) -> SurvivorMerge:
            return follow_survivors(
                group.units, removed[:count], survivor[:count], scale[:count], np.zeros(count)
            )

        return Curve(order=removed, costs=tree[:, 2], merge=merge)

    def get_config(self) -> dict:
        """No arguments."""
        return {}


def folded(model: keras.Model, plan: dfprune.PruningPlan) -> keras.Model:
    """Applies a plan of `Ward`, then gives each cluster the mean incoming weights of its members.

    For dense layers that follow one another. With relu the mean direction, each member counting
    with its weight, at the norm that the surgery assumes. A layer in front of a
    BatchNormalization keeps its survivors' own weights.
    """
    narrow, before = plan.apply(model), None
    for group in plan.groups:
        layer, merge = model.get_layer(group.layer), group.merge
        sets = np.concatenate([np.asarray(part).reshape(-1, group.units)
                               for part in layer.get_weights()]).astype(np.float64)  # fmt: skip
        if before is not None:
            sets = np.concatenate([before.absorb(sets[:-1]), sets[-1:]])
        activation = keras.activations.serialize(layer.activation)
        if activation != "linear":
            means = _means(sets, merge, homogeneous=activation == "relu")
            narrow.get_layer(group.layer).set_weights([means[:-1], means[-1]])
        before = merge
    return narrow


def _means(sets: np.ndarray, merge: SurvivorMerge, *, homogeneous: bool) -> np.ndarray:
    """Mean weight-sets of the clusters, shape `(inputs + 1, kept)`."""
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
