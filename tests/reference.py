"""The paper's algorithm once more, in plain loops from its formulas, for comparison."""

import numpy as np


def saliencies(weight_sets, outgoing, alive):
    """Equation 4: `s[i, j] = <a_j^2> ||W_i - W_j||^2`, infinite where i or j is gone."""
    units = len(weight_sets)
    table = np.full((units, units), np.inf)
    for i in range(units):
        for j in range(units):
            if i != j and alive[i] and alive[j]:
                distance = sum((weight_sets[i] - weight_sets[j]) ** 2)
                table[i, j] = mean_square(outgoing[j]) * distance
    return table


def mean_square(block):
    """Squares summed over positions, mean over outputs; `block` is (positions, outputs)."""
    return float(np.mean(np.sum(np.square(block), axis=0)))


def greedy(weight_sets, outgoing, count, normalize, surgery):
    """Removes `count` units one by one.

    Args:
        weight_sets: `(units, inputs + 1)`.
        outgoing: `(units, positions, outputs)`.

    Returns:
        The removed units in order, their survivors, their costs, and the outgoing weights left.
    """
    sets = np.array(weight_sets, np.float64)
    out = np.array(outgoing, np.float64)
    norms = np.ones(len(sets))
    if normalize:
        norms = np.sqrt(np.sum(sets**2, axis=1))
        sets = sets / norms[:, None]
        out = out * norms[:, None, None]
    alive = np.ones(len(sets), bool)
    removed, survivors, costs = [], [], []
    for _ in range(count):
        table = saliencies(sets, out, alive)
        best = min(
            ((table[i, j], j, i) for i in range(len(sets)) for j in range(len(sets))),
            key=lambda entry: entry,
        )
        cost, j, i = best
        alive[j] = False
        if surgery:
            out[i] += out[j]
        removed.append(j)
        survivors.append(i)
        costs.append(cost)
    return removed, survivors, costs, out / norms[:, None, None]
