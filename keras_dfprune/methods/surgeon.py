"""Second moments and outgoing weights into an order of removal and least-squares coefficients.

Optimal Brain Surgeon (Hassibi & Stork 1993) for whole units: with `C = E[h h^T]`, taking out unit
j and letting all others take over costs `|a_j|^2 / (C^-1)_jj`.
"""

import dataclasses

import numpy as np
import tensorflow as tf

# Removals between two flushes of the delayed updates: one product per block instead of one
# memory-bound update per removal; flat between 32 and 128 at 2,048 units.
BLOCK = 64
# Mean second moments below are none: times a ridge of 1e-6 they would leave the range of float64.
_NOTHING = 1e-290


@dataclasses.dataclass(frozen=True, eq=False)
class Greedy:
    """Units in the order of their removal, and what each removal costs.

    Attributes:
        order: Int array, shape `(removals,)`.
        costs: Float64 array, shape `(removals,)`: the growth of the expected squared change.
    """

    order: np.ndarray
    costs: np.ndarray


def ridge_diagonal(units: int, second: np.ndarray, ridge: float) -> np.ndarray:
    """What is added to the diagonal: `ridge` times the mean second moment, 0 for the constant.

    Where all units are zero under the prior (a relu behind `-abs(x)`), `ridge` itself.

    Args:
        units: Number of units; further rows of `second` are constants.
        second: Float array, shape `(units or units + 1,) * 2`.
        ridge: Non-negative float, relative.

    Returns:
        Float64 array, shape `(len(second),)`.
    """
    diagonal = np.zeros(len(second))
    mean = np.trace(second[:units, :units]) / max(units, 1)
    diagonal[:units] = ridge * (mean if mean > _NOTHING else 1.0)
    return diagonal


def greedy_order(
    second: np.ndarray, outgoing_gram: np.ndarray, *, ridge: float = 1e-6, block: int = BLOCK
) -> Greedy:
    """Removes all units but one, each time the one whose removal costs least.

    `P = C^-1` and `M = A A^T` are kept as of the last flush; a step needs one current column of
    each, and updates the two diagonals: with `p = P_:j / P_jj`, `m = M_:j`, `q = m - p m_j / 2`,
    the downdates are `P -= p p^T P_jj` and `M -= p q^T + q p^T`.

    Args:
        second: Float array, shape `(units or units + 1,) * 2`: moments, the constant feature last
            where there is one. It is never removed.
        outgoing_gram: Float array, shape `(units, units)`: `A A^T` of the outgoing weights.
        ridge: Non-negative float, relative to the mean second moment.
        block: Int: removals between two flushes.

    Returns:
        The `Greedy` order; ties go to the smallest unit.
    """
    units, features = len(outgoing_gram), len(second)
    alive = np.arange(features)  # features in the current matrices; the constant stays last
    inverse = tf.linalg.inv(tf.constant(second + np.diag(ridge_diagonal(units, second, ridge))))
    padding = [[0, features - units]] * 2
    gram = tf.pad(tf.constant(outgoing_gram, tf.float64), padding)
    order, costs = [], []
    while len(order) < units - 1:
        steps = min(block, units - 1 - len(order))
        pending = _Pending(inverse, gram, features - units, steps)
        for _ in range(steps):
            position, cost = pending.remove_cheapest()
            order.append(int(alive[position]))
            costs.append(cost)
        inverse, gram, left = pending.flush()
        alive = alive[left]
    return Greedy(np.array(order, np.int64), np.array(costs, np.float64))


class _Pending:
    """The delayed updates of one block: the matrices as of the last flush, and what is to come."""

    def __init__(self, inverse: tf.Tensor, gram: tf.Tensor, constants: int, steps: int):
        self.inverse, self.gram = inverse, gram
        self.inverse_diagonal = tf.linalg.diag_part(inverse).numpy()
        self.gram_diagonal = tf.linalg.diag_part(gram).numpy()
        size = len(self.inverse_diagonal)
        self.constants = np.arange(size - constants, size)
        self.open = np.arange(size) < size - constants
        self.done = 0
        self.columns = np.empty((steps, size))  # p sqrt(P_jj)
        self.shares = np.empty((steps, size))  # p
        self.halves = np.empty((steps, size))  # q

    def remove_cheapest(self) -> tuple[int, float]:
        """Removes one unit; returns its position and its cost."""
        cost = np.maximum(self.gram_diagonal, 0.0) / np.maximum(self.inverse_diagonal, 1e-300)
        j = int(np.argmin(np.where(self.open, cost, np.inf)))
        columns, shares, halves = (
            rows[: self.done] for rows in (self.columns, self.shares, self.halves)
        )
        column = self.inverse[j].numpy() - columns[:, j] @ columns
        m = self.gram[j].numpy() - halves[:, j] @ shares - shares[:, j] @ halves
        share = column / column[j]
        half = m - 0.5 * m[j] * share
        self.columns[self.done] = column / np.sqrt(column[j])
        self.shares[self.done], self.halves[self.done] = share, half
        self.done += 1
        self.inverse_diagonal -= column * share
        self.gram_diagonal -= 2.0 * share * half
        self.open[j] = False
        return j, float(cost[j])

    def flush(self) -> tuple[tf.Tensor, tf.Tensor, np.ndarray]:
        """The current matrices without the removed units, and the positions that are left."""
        left = np.concatenate([np.flatnonzero(self.open), self.constants])
        columns, shares, halves = (
            tf.constant(rows[:, left]) for rows in (self.columns, self.shares, self.halves)
        )
        crossed = tf.matmul(shares, halves, transpose_a=True)
        inverse = _submatrix(self.inverse, left) - tf.matmul(columns, columns, transpose_a=True)
        gram = _submatrix(self.gram, left) - crossed - tf.transpose(crossed)
        return inverse, gram, left


def _submatrix(matrix: tf.Tensor, rows: np.ndarray) -> tf.Tensor:
    return tf.gather(tf.gather(matrix, rows), rows, axis=1)


def least_squares(
    second: np.ndarray,
    features: np.ndarray,
    removed: np.ndarray,
    *,
    centre: np.ndarray,
    ridge: np.ndarray,
) -> np.ndarray:
    """Rebuilds removed units: `argmin_R E|h_removed - h_features R|^2 + ridge |R - centre|^2`.

    Centred on a merge that is sane by itself, so that directions which `second` does not know
    (near-copies, strongly coloured priors) keep it instead of growing without bound.

    Args:
        second: Float array, shape `(n, n)`: second moments.
        features: Int array, shape `(features,)`: what may take over, a constant included.
        removed: Int array, shape `(removed,)`.
        centre: Float array, shape `(features, removed)`.
        ridge: Float array, shape `(n,)`: what is added to the diagonal (`ridge_diagonal`).

    Returns:
        Float64 array, shape `(features, removed)`.
    """
    weight = ridge[features]
    left = second[np.ix_(features, features)] + np.diag(weight)
    right = second[np.ix_(features, removed)] + weight[:, None] * centre
    factor = tf.linalg.cholesky(tf.constant(left))
    solved = tf.linalg.cholesky_solve(factor, tf.constant(right)).numpy()
    if np.all(np.isfinite(solved)):
        return solved
    return np.linalg.lstsq(left, right, rcond=None)[0]  # singular to machine precision


def rebuild_error(
    second: np.ndarray,
    features: np.ndarray,
    removed: np.ndarray,
    coefficients: np.ndarray,
    outgoing: np.ndarray,
) -> float:
    """The expected squared change of the outputs, `E|(h_removed - h_features R) A_removed|^2`.

    Args:
        second: Float array, shape `(n, n)`: second moments, without any ridge.
        features: Int array, shape `(features,)`.
        removed: Int array, shape `(removed,)`.
        coefficients: Float array, shape `(features, removed)`.
        outgoing: Float array, shape `(removed, outputs)`.

    Returns:
        Float, summed over the outputs.
    """
    difference = np.zeros((len(second), outgoing.shape[1]))
    difference[removed] = outgoing
    difference[features] -= coefficients @ outgoing
    return max(float(np.sum(difference * (second @ difference))), 0.0)
