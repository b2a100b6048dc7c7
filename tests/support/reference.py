"""Compute the paper's algorithm in plain loops, as a reference for the tests.

`weight_sets` is `(units, inputs + 1)`, the bias last; `blocks` holds one array
`(units, positions, outputs)` for each consumer. All in float64.
"""

import math

import numpy as np


def importance(blocks, unit, aggregate="mean"):
    """Compute `<a_j^2>`: squares summed over positions, then their mean or largest over outputs."""
    squares = []
    for block in blocks:
        for output in range(block.shape[2]):
            squares.append(sum(float(value) ** 2 for value in block[unit, :, output]))
    return max(squares) if aggregate == "max" else sum(squares) / len(squares)


def squared_distance(first, second):
    """Compute `||W_i - W_j||^2`, Equation 4."""
    return sum((float(a) - float(b)) ** 2 for a, b in zip(first, second, strict=True))


def ratio(above, below):
    """Divide; 0/0 is 0 and x/0 is infinite."""
    if above == 0:
        return 0.0
    return above / below if below > 0 else math.inf


def squared_ratio(first, second):
    """Compute the squared distance of Section 3.4, of weights (without bias) of unit norm."""
    weights = ratio(
        np.linalg.norm(first[:-1] - second[:-1]), np.linalg.norm(first[:-1] + second[:-1])
    )
    return (weights + ratio(abs(first[-1] - second[-1]), abs(first[-1] + second[-1]))) ** 2


def norm_of(weight_set, distance="weights"):
    """Compute `alpha_j`, the norm of the weight-set; for the ratio without the bias."""
    return float(np.linalg.norm(weight_set[:-1] if distance == "ratio" else weight_set))


def scaled(weight_sets, blocks, normalize, distance):
    """Return the weight-sets to compare, the scaled outgoing weights, and `alpha`."""
    sets = np.array(weight_sets, np.float64)
    norms = np.array([norm_of(weight_set, distance) for weight_set in sets])
    alpha = norms if normalize else np.ones(len(sets))
    if normalize or distance == "ratio":
        sets = sets / norms[:, None]
    return sets, [np.array(b, np.float64) * alpha[:, None, None] for b in blocks], alpha


def saliency(sets, blocks, i, j, distance="weights", aggregate="mean"):
    """Compute the cost of removing j if i survives; 0 if `<a_j^2>` is 0, even times infinity."""
    weight = importance(blocks, j, aggregate)
    squared = squared_ratio if distance == "ratio" else squared_distance
    return 0.0 if weight == 0 else weight * squared(sets[i], sets[j])


def greedy(weight_sets, blocks, count, surgery=True, normalize=False, **how):
    """Remove `count` units one by one, computing all saliencies anew each time.

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
    """Compute `s_ij` of all ordered pairs of the layer before any removal."""
    sets, out, _ = scaled(weight_sets, blocks, normalize, "weights")
    return [saliency(sets, out, i, j) for i in range(len(sets)) for j in range(len(sets)) if i != j]
