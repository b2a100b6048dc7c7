"""Second moments and outgoing weights into an order of removal.

Optimal Brain Surgeon (Hassibi & Stork 1993) for whole units: with `C = E[h h^T]`, taking out unit
j and letting all others take over costs `|a_j|^2 / (C^-1)_jj`.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from keras_dfprune.methods.least_squares import with_ridge
from keras_dfprune.methods.outgoing import Outgoing
from keras_dfprune.methods.symmetric import inverse
from keras_dfprune.progress import SILENT, Progress

# Updates between two flushes: one product per block instead of one memory-bound update per removal.
BLOCK = 256
# Removed units leave the matrices when they are a quarter of them, and a block: copying costs more
# than carrying them on for a while.
_CARRIED = 1 / 4


@dataclasses.dataclass(frozen=True, eq=False)
class Greedy:
    """Units in the order of their removal, and what each removal costs.

    Attributes:
        order: Int array, shape `(removals,)`.
        costs: Float64 array, shape `(removals,)`: the growth of the expected squared change.
    """

    order: np.ndarray
    costs: np.ndarray


def greedy_order(
    second: np.ndarray,
    outgoing: Outgoing,
    *,
    ridge: float,
    block: int = BLOCK,
    progress: Progress = SILENT,
) -> Greedy:
    """Removes all units but one, each time the one whose removal costs least.

    With `P = C^-1`, `M = A A^T` and `p = P_:j / P_jj` the cost of j is `M_jj / P_jj`, and its
    removal is `A -= p a_j^T`, `P -= P_:j p^T`. Of either matrix a step needs one column and the
    diagonal.

    Args:
        second: Float array, shape `(units, units)`: second moments; the covariance where a
            constant takes over, too, for then it is what is left to be explained.
        outgoing: The outgoing weights.
        ridge: Non-negative float, added to the diagonal.
        block: Int: updates between two flushes.
        progress: Shows the removals.

    Returns:
        The `Greedy` order; ties go to the smallest unit.
    """
    units, few = len(outgoing.weights), outgoing.products is None
    alive, there = np.arange(units), np.ones(units, bool)  # units in the matrices
    inverted = _Delayed(inverse(with_ridge(second, ridge)), block)
    changes = _FewOutputs(outgoing.weights) if few else _ManyOutputs(outgoing.products, block)
    order, costs = [], []
    for _ in progress.over("Removing units", range(units - 1), "unit"):
        cost = np.maximum(changes.diagonal, 0.0) / np.maximum(inverted.diagonal, 1e-300)
        j = int(np.argmin(np.where(there, cost, np.inf)))
        order.append(int(alive[j]))
        costs.append(float(cost[j]))
        column = inverted.column(j)
        share = column / column[j]
        changes.remove(j, share)
        inverted.subtract(column, share)
        there[j] = False
        left = np.flatnonzero(there)
        if len(there) - len(left) > max(block, _CARRIED * len(there)):
            inverted.select(left)
            changes.select(left)
            alive, there = alive[left], np.ones(len(left), bool)
    return Greedy(np.array(order, np.int64), np.array(costs, np.float64))


class _Delayed:
    """A symmetric matrix and the products that are yet to be subtracted from it."""

    def __init__(self, matrix: tf.Tensor, block: int):
        self.matrix = tf.Variable(matrix)  # is changed in place: a copy would take as long
        self.diagonal = tf.linalg.diag_part(matrix).numpy()
        self.left, self.right = (np.empty((block, matrix.shape[0])) for _ in range(2))
        self.pending = 0

    def column(self, j: int) -> np.ndarray:
        """The current column j."""
        read = tf.raw_ops.ResourceGather(  # a tenth of the time of `matrix[j]`
            resource=self.matrix.handle, indices=j, dtype=tf.float64
        )
        return read.numpy() - self.left[: self.pending, j] @ self.right[: self.pending]

    def subtract(self, left: np.ndarray, right: np.ndarray) -> None:
        """Subtracts `left right^T`."""
        self.left[self.pending], self.right[self.pending] = left, right
        self.diagonal -= left * right
        self.pending += 1
        if self.pending == len(self.left):
            self.flush()

    def flush(self) -> None:
        """Does what is pending."""
        left, right = self.left[: self.pending], self.right[: self.pending]
        self.matrix.assign_sub(tf.matmul(left, right, transpose_a=True))
        self.pending = 0

    def select(self, left: np.ndarray) -> None:
        """Drops the other rows and columns."""
        self.flush()
        rows = tf.transpose(tf.gather(self.matrix, left))  # whole rows are gathered faster
        self.matrix = tf.Variable(tf.gather(rows, left))
        self.diagonal = self.diagonal[left]
        self.left, self.right = (np.empty((len(self.left), len(left))) for _ in range(2))


class _ManyOutputs(_Delayed):
    """`M = A A^T`: with `m = M_:j` and `q = m - p m_j / 2` a removal is `M -= p q^T + q p^T`."""

    def remove(self, j: int, share: np.ndarray) -> None:
        """Removes unit j, with `p` as the others' shares."""
        column = self.column(j)
        half = column - 0.5 * column[j] * share
        self.subtract(share, half)
        self.subtract(half, share)


class _FewOutputs:
    """The same from `A`, shape `(units, outputs)`."""

    def __init__(self, outgoing: np.ndarray):
        self.outgoing = np.array(outgoing, np.float64)

    @property
    def diagonal(self) -> np.ndarray:
        """`|a_j|^2` of every unit."""
        return np.einsum("uo,uo->u", self.outgoing, self.outgoing)

    def remove(self, j: int, share: np.ndarray) -> None:
        """Removes unit j, with `p` as the others' shares."""
        self.outgoing -= np.outer(share, self.outgoing[j])

    def select(self, left: np.ndarray) -> None:
        """Drops the other units."""
        self.outgoing = self.outgoing[left]
