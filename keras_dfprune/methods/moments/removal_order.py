"""Second moments and outgoing weights into an order of removal.

Optimal Brain Surgeon (Hassibi & Stork 1993) for whole units: with `C = E[h h^T]`, taking out unit
j and letting all others take over costs `|a_j|^2 / (C^-1)_jj`.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from keras_dfprune.methods.moments import symmetric_matrices
from keras_dfprune.methods.moments.outgoing_weights import Outgoing
from keras_dfprune.report.progress import SILENT, Progress

# Removals between two flushes: one product per block instead of one memory-bound update for each.
BLOCK = 128
# Columns that are read at a time, those of the cheapest units: they are likely to go next.
_AHEAD = 64
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
    second: tf.Tensor,
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
        second: Float64 tensor, shape `(units, units)`: second moments; the covariance where a
            constant takes over, too, for then it is what is left to be explained.
        outgoing: The outgoing weights.
        ridge: Non-negative float, added to the diagonal.
        block: Int: removals between two flushes.
        progress: Shows the removals.

    Returns:
        The `Greedy` order; ties go to the smallest unit.
    """
    units, few = len(outgoing.weights), outgoing.products is None
    alive, there = np.arange(units), np.ones(units, bool)  # units in the matrices
    inverted = _Delayed(
        symmetric_matrices.inverse(symmetric_matrices.with_ridge(second, ridge)), block
    )
    changes = _FewOutputs(outgoing.weights) if few else _ManyOutputs(outgoing.products, 2 * block)
    order, costs, gone = [], [], 0
    for _ in progress.over("Removing units", range(units - 1), "unit"):
        cost = np.maximum(changes.diagonal, 0.0) / np.maximum(inverted.diagonal, 1e-300)
        cost[~there] = np.inf
        j = int(np.argmin(cost))
        order.append(int(alive[j]))
        costs.append(float(cost[j]))
        if not inverted.has(j):
            ahead = np.append(np.argpartition(cost, min(_AHEAD, len(cost)) - 1)[:_AHEAD], j)
            for matrix in (inverted, changes):  # both forget in the same step
                matrix.read(np.unique(ahead))
        column = inverted.column(j)
        share = column / column[j]
        changes.remove(j, share)
        inverted.subtract(column, share)
        there[j] = False
        gone += 1
        if gone > max(block, _CARRIED * len(there)):
            left, gone = np.flatnonzero(there), 0
            inverted.select(left)
            changes.select(left)
            alive, there = alive[left], np.ones(len(left), bool)
    return Greedy(np.array(order, np.int64), np.array(costs, np.float64))


class _Delayed:
    """A symmetric matrix and the products that are yet to be subtracted from it.

    The matrix is TensorFlow's. A step needs one column of it: those are copied to the host, some
    at a time, and changes stay there until there is a block of them, for a step is too small for
    calls into TensorFlow.
    """

    def __init__(self, matrix: tf.Tensor, block: int):
        self.matrix = matrix
        self.diagonal = tf.linalg.diag_part(matrix).numpy()  # a copy, changed in place
        self.left, self.right = (np.empty((block, len(self.diagonal))) for _ in range(2))
        self.pending = 0
        self._columns: dict[int, np.ndarray] = {}  # as they were after the last flush

    def has(self, j: int) -> bool:
        """Whether column j has been read."""
        return j in self._columns

    def read(self, units: np.ndarray) -> None:
        """Reads the columns of some units."""
        columns = tf.gather(self.matrix, units).numpy()  # rows: it is symmetric
        self._columns = dict(zip(units.tolist(), columns, strict=True))

    def column(self, j: int) -> np.ndarray:
        """The current column j, which has been read."""
        return self._columns[j] - self.left[: self.pending, j] @ self.right[: self.pending]

    def subtract(self, left: np.ndarray, right: np.ndarray) -> None:
        """Subtracts `left right^T`, one of some whose sum is symmetric."""
        self.left[self.pending], self.right[self.pending] = left, right
        self.diagonal -= left * right
        self.pending += 1
        if self.pending == len(self.left):
            self.matrix -= self._change()
            self.pending, self._columns = 0, {}

    def _change(self) -> tf.Tensor:
        """The sum of what is pending."""
        return tf.matmul(self.left, self.right, transpose_a=True)

    def select(self, left: np.ndarray) -> None:
        """Drops the other rows and columns."""
        self.matrix = symmetric_matrices.select(self.matrix, left, left)
        self.left, self.right = (one.take(left, axis=1) for one in (self.left, self.right))
        self.diagonal, self._columns = self.diagonal[left], {}


class _ManyOutputs(_Delayed):
    """`M = A A^T`: with `m = M_:j` and `q = m - p m_j / 2` a removal is `M -= p q^T + q p^T`."""

    def remove(self, j: int, share: np.ndarray) -> None:
        """Removes unit j, with `p` as the others' shares."""
        column = self.column(j)
        half = column - 0.5 * column[j] * share
        self.subtract(share, half)
        self.subtract(half, share)

    def _change(self) -> tf.Tensor:
        half = tf.matmul(self.left[::2], self.right[::2], transpose_a=True)
        return half + tf.transpose(half)


class _FewOutputs:
    """The same from `A`, shape `(units, outputs)`, on the host."""

    def __init__(self, outgoing: tf.Tensor):
        self.outgoing = np.array(tf.transpose(outgoing))  # long rows are quicker

    @property
    def diagonal(self) -> np.ndarray:
        """`|a_j|^2` of every unit."""
        return np.einsum("ou,ou->u", self.outgoing, self.outgoing)

    def read(self, units: np.ndarray) -> None:
        """There are no columns to read."""

    def remove(self, j: int, share: np.ndarray) -> None:
        """Removes unit j, with `p` as the others' shares."""
        self.outgoing -= np.outer(self.outgoing[:, j], share)

    def select(self, left: np.ndarray) -> None:
        """Drops the other units."""
        self.outgoing = self.outgoing.take(left, axis=1)  # `[:, left]` is not made of long rows
