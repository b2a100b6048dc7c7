"""Second moments and outgoing weights into an order of removal and least-squares coefficients.

Optimal Brain Surgeon (Hassibi & Stork 1993) for whole units: with `C = E[h h^T]`, taking out unit
j and letting all others take over costs `|a_j|^2 / (C^-1)_jj`.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from keras_dfprune.methods.symmetric import inverse

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


def ridge_of(second: np.ndarray, relative: float) -> float:
    """What is added to the diagonal: `relative` times the mean second moment.

    Where all units are zero under the prior (a relu behind `-abs(x)`), `relative` itself.

    Args:
        second: Float array, shape `(units, units)`.
        relative: Non-negative float.
    """
    mean = float(np.trace(second)) / max(len(second), 1)
    return relative * (mean if mean > _NOTHING else 1.0)


def greedy_order(
    second: np.ndarray, outgoing_gram: np.ndarray, *, ridge: float, block: int = BLOCK
) -> Greedy:
    """Removes all units but one, each time the one whose removal costs least.

    `P = C^-1` and `M = A A^T` are kept as of the last flush; a step needs one current column of
    each, and updates the two diagonals: with `p = P_:j / P_jj`, `m = M_:j`, `q = m - p m_j / 2`,
    the downdates are `P -= p p^T P_jj` and `M -= p q^T + q p^T`.

    Args:
        second: Float array, shape `(units, units)`: second moments; the covariance where a
            constant takes over, too, for then it is what is left to be explained.
        outgoing_gram: Float array, shape `(units, units)`: `A A^T` of the outgoing weights.
        ridge: Non-negative float, added to the diagonal.
        block: Int: removals between two flushes.

    Returns:
        The `Greedy` order; ties go to the smallest unit.
    """
    units = len(second)
    alive = np.arange(units)  # units in the current matrices
    inverted, gram = inverse(_with_ridge(second, ridge)), tf.constant(outgoing_gram, tf.float64)
    order, costs = [], []
    while len(order) < units - 1:
        pending = _Pending(inverted, gram, min(block, units - 1 - len(order)))
        while pending.done < len(pending.pivots):
            position, cost = pending.remove_cheapest()
            order.append(int(alive[position]))
            costs.append(cost)
        inverted, gram, left = pending.flush()
        alive = alive[left]
    return Greedy(np.array(order, np.int64), np.array(costs, np.float64))


class _Pending:
    """The delayed updates of one block: the matrices as of the last flush, and what is to come."""

    def __init__(self, inverted: tf.Tensor, gram: tf.Tensor, steps: int):
        self.inverted, self.gram = inverted, gram
        self.inverted_diagonal = tf.linalg.diag_part(inverted).numpy()
        self.gram_diagonal = tf.linalg.diag_part(gram).numpy()
        size = len(self.inverted_diagonal)
        self.open = np.ones(size, bool)
        self.done = 0
        self.pivots = np.empty(steps)  # P_jj
        self.shares = np.empty((steps, size))  # p
        self.halves = np.empty((steps, size))  # q

    def remove_cheapest(self) -> tuple[int, float]:
        """Removes one unit; returns its position and its cost."""
        cost = np.maximum(self.gram_diagonal, 0.0) / np.maximum(self.inverted_diagonal, 1e-300)
        j = int(np.argmin(np.where(self.open, cost, np.inf)))
        shares, halves = self.shares[: self.done], self.halves[: self.done]
        own = np.stack([shares[:, j] * self.pivots[: self.done], halves[:, j]]) @ shares
        column = _row(self.inverted, j) - own[0]
        m = _row(self.gram, j) - own[1] - shares[:, j] @ halves
        share = column / column[j]
        half = m - 0.5 * m[j] * share
        self.pivots[self.done] = column[j]
        self.shares[self.done], self.halves[self.done] = share, half
        self.done += 1
        self.inverted_diagonal -= column * share
        self.gram_diagonal -= 2.0 * share * half
        self.open[j] = False
        return j, float(cost[j])

    def flush(self) -> tuple[tf.Tensor, tf.Tensor, np.ndarray]:
        """The current matrices without the removed units, and the positions that are left."""
        left = np.flatnonzero(self.open)
        shares, halves = self.shares[:, left], self.halves[:, left]
        pivoted = tf.matmul(shares, self.pivots[:, None] * shares, transpose_a=True)
        both = np.concatenate([shares, halves]), np.concatenate([halves, shares])
        inverted = _submatrix(self.inverted, left) - pivoted
        gram = _submatrix(self.gram, left) - tf.matmul(*both, transpose_a=True)
        return inverted, gram, left


def _row(matrix: tf.Tensor, j: int) -> np.ndarray:
    return tf.raw_ops.GatherV2(params=matrix, indices=j, axis=0).numpy()  # a third of `matrix[j]`


def _submatrix(matrix: tf.Tensor, rows: np.ndarray) -> tf.Tensor:
    """Of a symmetric matrix; whole rows are gathered faster than single entries."""
    return tf.gather(tf.transpose(tf.gather(matrix, rows)), rows)


def _with_ridge(matrix: np.ndarray, ridge: float) -> tf.Tensor:
    return tf.linalg.set_diag(tf.constant(matrix), np.diagonal(matrix) + ridge)


def least_squares(
    within: np.ndarray, across: np.ndarray, *, centre: np.ndarray, ridge: float
) -> np.ndarray:
    """Rebuilds units from features: `argmin_R E|h - h_features R|^2 + ridge |R - centre|^2`.

    Centred on a merge that is sane by itself, so that directions which `within` does not know
    (near-copies, strongly coloured priors) keep it instead of growing without bound.

    Args:
        within: Float array, shape `(features, features)`: their second moments; covariances
            where a constant takes over, too.
        across: Float array, shape `(features, units)`: theirs with the units.
        centre: Float array, shape `(features, units)`.
        ridge: Non-negative float, added to the diagonal.

    Returns:
        Float64 array, shape `(features, units)`.
    """
    matrix, right = _with_ridge(within, ridge), tf.constant(across + ridge * centre)
    solved = tf.linalg.cholesky_solve(tf.linalg.cholesky(matrix), right).numpy()
    if np.all(np.isfinite(solved)):
        return solved
    return np.linalg.lstsq(matrix, right, rcond=None)[0]  # singular to machine precision


def rebuild_error(
    own: np.ndarray,
    within: np.ndarray,
    across: np.ndarray,
    coefficients: np.ndarray,
    outgoing: np.ndarray,
) -> float:
    """The expected squared change of the outputs, `E|(h - h_features R) A|^2`.

    Args:
        own: Float array, shape `(units, units)`: second moments of the units, without any ridge.
        within: Float array, shape `(features, features)`: those of the features.
        across: Float array, shape `(features, units)`.
        coefficients: Float array R, shape `(features, units)`.
        outgoing: Float array A, shape `(units, outputs)`.

    Returns:
        Float, summed over the outputs.
    """
    through = tf.matmul(coefficients, outgoing)
    missed = outgoing * (
        tf.matmul(own, outgoing) - 2.0 * tf.matmul(across, through, transpose_a=True)
    )
    return max(
        float(tf.reduce_sum(missed) + tf.reduce_sum(through * tf.matmul(within, through))), 0.0
    )
