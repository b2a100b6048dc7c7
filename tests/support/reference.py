"""The paper's algorithm once more, in plain loops from its formulas, for comparison.

`weight_sets` is `(units, inputs + 1)`, the bias last; `blocks` holds one array
`(units, positions, outputs)` for each consumer. All in float64.
"""

import math

import numpy as np


def importance(blocks, unit, aggregate="mean"):
    """`<a_j^2>`: squares summed over positions, then the mean (or the largest) of all outputs."""
    squares = []
    for block in blocks:
        for output in range(block.shape[2]):
            squares.append(sum(float(value) ** 2 for value in block[unit, :, output]))
    return max(squares) if aggregate == "max" else sum(squares) / len(squares)


def squared_distance(one, other):
    """`||W_i - W_j||^2`, Equation 4."""
    return sum((float(a) - float(b)) ** 2 for a, b in zip(one, other, strict=True))


def ratio(above, below):
    """A quotient in which 0/0 is 0 and x/0 is infinite."""
    if above == 0:
        return 0.0
    return above / below if below > 0 else math.inf


def squared_ratio(one, other):
    """Section 3.4, squared, of weight-sets whose weights without the bias have unit norm."""
    weights = ratio(np.linalg.norm(one[:-1] - other[:-1]), np.linalg.norm(one[:-1] + other[:-1]))
    return (weights + ratio(abs(one[-1] - other[-1]), abs(one[-1] + other[-1]))) ** 2


def norm_of(weight_set, distance="weights"):
    """`alpha_j`: the norm of the weight-set, without the bias for the ratio."""
    return float(np.linalg.norm(weight_set[:-1] if distance == "ratio" else weight_set))


def scaled(weight_sets, blocks, normalize, distance):
    """The weight-sets to compare, the outgoing weights to weigh them with, and `alpha`."""
    sets = np.array(weight_sets, np.float64)
    norms = np.array([norm_of(one, distance) for one in sets])
    alpha = norms if normalize else np.ones(len(sets))
    if normalize or distance == "ratio":
        sets = sets / norms[:, None]
    return sets, [np.array(b, np.float64) * alpha[:, None, None] for b in blocks], alpha


def saliency(sets, blocks, i, j, distance="weights", aggregate="mean"):
    """What it costs to remove j while i takes over; a zero `<a_j^2>` wins over infinity."""
    weight = importance(blocks, j, aggregate)
    apart = (squared_ratio if distance == "ratio" else squared_distance)(sets[i], sets[j])
    return 0.0 if weight == 0 else weight * apart


def greedy(weight_sets, blocks, count, surgery=True, normalize=False, **how):
    """Removes `count` units one by one, all saliencies computed anew each time.

    Returns:
        The removed units in order, their survivors, their costs, and the blocks left.
    """
    sets, out, alpha = scaled(weight_sets, blocks, normalize, how.get("distance", "weights"))
    alive, removed, survivors, costs = list(range(len(sets))), [], [], []
    for _ in range(count):
        best = (math.inf, None, None)
        for j in alive:  # ties: smallest removed unit, then smallest survivor
            for i in alive:
                cost = saliency(sets, out, i, j, **how) if i != j else math.inf
                if cost < best[0]:
                    best = (cost, j, i)
        cost, j, i = best
        alive.remove(j)
        if surgery:
            for block in out:
                block[i] += block[j]
        removed.append(j)
        survivors.append(i)
        costs.append(cost)
    return removed, survivors, costs, [block / alpha[:, None, None] for block in out]


def all_saliencies(weight_sets, blocks, normalize):
    """`s_ij` of all ordered pairs of the untouched layer."""
    sets, out, _ = scaled(weight_sets, blocks, normalize, "weights")
    return [saliency(sets, out, i, j) for i in range(len(sets)) for j in range(len(sets)) if i != j]
