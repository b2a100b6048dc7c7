"""Order units by repeatedly removing the cheapest unit.

This is Optimal Brain Surgeon (Hassibi & Stork 1993) for whole units. With `C = E[h h^T]`, removing
unit j and letting all other units take over costs `|a_j|^2 / (C^-1)_jj`.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from keras_dfprune.methods.moments.outgoing_weights import OutgoingWeights
from keras_dfprune.methods.moments.symmetric_matrices import add_ridge, inverse, submatrix
from keras_dfprune.report.progress import SILENT, Progress

# Removals between two flushes: one product for a block replaces a memory-bound update for each.
BLOCK = 128
# Columns that are read at a time: those of the cheapest units, which are likely to go next.
_AHEAD = 64
# Removed units are dropped from the matrices when they are this share of them, and a block at
# least: until then, copying the matrices costs more than carrying the removed units.
_CARRIED = 1 / 4


@dataclasses.dataclass(frozen=True, eq=False)
class RemovalOrder:
    """Units in the order of their removal, and the cost of each removal.

    Attributes:
        units: Int array, shape `(removals,)`.
        costs: Float64 array, shape `(removals,)`: increase of the expected squared change.
    """

    units: np.ndarray
    costs: np.ndarray


def greedy_order(
    second: tf.Tensor,
    outgoing: OutgoingWeights,
    *,
    ridge: float,
    block: int = BLOCK,
    progress: Progress = SILENT,
) -> RemovalOrder:
    """Order the units by removing all but one, each time the unit whose removal costs least.

    With `P = C^-1`, `M = A A^T` and `p = P_:j / P_jj`, the cost of unit j is `M_jj / P_jj` and its
    removal is `A -= p a_j^T`, `P -= P_:j p^T`. A step needs one column and the diagonal of each.

    Args:
        second: Float64 tensor, shape `(units, units)`: second moments, or the covariance where a
            constant makes up for the means.
        outgoing: The outgoing weights.
        ridge: Non-negative float, added to the diagonal.
        block: Int: removals between two flushes.
        progress: Shows the removals.

    Returns:
        The `RemovalOrder`; of equally cheap units the smallest index goes first.
    """
    count = len(outgoing.weights)
    inverted = _DelayedUpdates(inverse(add_ridge(second, ridge)), block)
    weights: _OutgoingProducts | _OutgoingRows
    if outgoing.products is None:
        weights = _OutgoingRows(outgoing.weights)
    else:
        weights = _OutgoingProducts(outgoing.products, 2 * block)
    carried, present = np.arange(count), np.ones(count, bool)  # units in the matrices
    units, costs = [], []
    for _ in progress.over("Removing units", range(count - 1), "unit"):
        cost = np.maximum(weights.diagonal, 0.0) / np.maximum(inverted.diagonal, 1e-300)
        cost[~present] = np.inf
        j = int(np.argmin(cost))
        units.append(int(carried[j]))
        costs.append(float(cost[j]))
        if not inverted.has_column(j):
            cheapest = np.argpartition(cost, min(_AHEAD, len(cost)) - 1)[:_AHEAD]
            ahead = np.unique(np.append(cheapest, j))
            inverted.read_columns(ahead)  # both forget their columns in the same step
            weights.read_columns(ahead)
        column = inverted.column(j)
        share = column / column[j]
        weights.remove(j, share)
        inverted.subtract(column, share)
        present[j] = False
        if np.sum(~present) > max(block, _CARRIED * len(present)):
            rest = np.flatnonzero(present)
            inverted.keep_only(rest)
            weights.keep_only(rest)
            carried, present = carried[rest], np.ones(len(rest), bool)
    return RemovalOrder(np.array(units, np.int64), np.array(costs, np.float64))


class _DelayedUpdates:
    """Symmetric matrix with products that are yet to be subtracted from it.

    TensorFlow holds the matrix. A step needs one of its columns and is too small for calls into
    TensorFlow. So some columns at a time are copied to the host, and the updates stay there until
    there is a block of them.

    Args:
        matrix: Float64 tensor, shape `(units, units)`.
        block: Int: updates between two flushes.

    Attributes:
        diagonal: Float64 array, shape `(units,)`: the current diagonal.
    """

    def __init__(self, matrix: tf.Tensor, block: int) -> None:
        self.diagonal = tf.linalg.diag_part(matrix).numpy()  # a copy, changed in place
        self._matrix = matrix
        self._left, self._right = (np.empty((block, len(self.diagonal))) for _ in range(2))
        self._pending = 0
        self._columns: dict[int, np.ndarray] = {}  # as they were after the last flush

    def has_column(self, j: int) -> bool:
        """Return whether column j has been read."""
        return j in self._columns

    def read_columns(self, units: np.ndarray) -> None:
        """Read the columns of some units."""
        columns = tf.gather(self._matrix, units).numpy()  # rows: the matrix is symmetric
        self._columns = dict(zip(units.tolist(), columns, strict=True))

    def column(self, j: int) -> np.ndarray:
        """Return the current column j, which must have been read."""
        pending = slice(self._pending)
        return self._columns[j] - self._left[pending, j] @ self._right[pending]

    def subtract(self, left: np.ndarray, right: np.ndarray) -> None:
        """Subtract `left right^T`. The products of a block must sum to a symmetric matrix."""
        self._left[self._pending], self._right[self._pending] = left, right
        self.diagonal -= left * right
        self._pending += 1
        if self._pending == len(self._left):
            self._matrix -= self._block_sum()
            self._pending, self._columns = 0, {}

    def _block_sum(self) -> tf.Tensor:
        """Sum the products of a whole block."""
        return tf.matmul(self._left, self._right, transpose_a=True)

    def keep_only(self, units: np.ndarray) -> None:
        """Drop the rows and columns of all other units."""
        self._matrix = submatrix(self._matrix, units, units)
        self._left, self._right = self._left.take(units, axis=1), self._right.take(units, axis=1)
        self.diagonal, self._columns = self.diagonal[units], {}


class _OutgoingProducts(_DelayedUpdates):
    """Products `M = A A^T` of the outgoing weights.

    With `m = M_:j` and `q = m - p m_j / 2`, the removal of unit j is `M -= p q^T + q p^T`.
    """

    def remove(self, j: int, share: np.ndarray) -> None:
        """Remove unit j, which the units take over with the shares `p`."""
        column = self.column(j)
        half = column - 0.5 * column[j] * share
        self.subtract(share, half)
        self.subtract(half, share)

    def _block_sum(self) -> tf.Tensor:
        half = tf.matmul(self._left[::2], self._right[::2], transpose_a=True)
        return half + tf.transpose(half)


class _OutgoingRows:
    """Outgoing weights `A` themselves, on the host.

    Args:
        weights: Float64 tensor, shape `(units, outputs)`.
    """

    def __init__(self, weights: tf.Tensor) -> None:
        self._transposed = np.array(tf.transpose(weights))  # long rows are quicker

    @property
    def diagonal(self) -> np.ndarray:
        """Squared norms `|a_j|^2` of all units."""
        return np.einsum("ou,ou->u", self._transposed, self._transposed)

    def read_columns(self, units: np.ndarray) -> None:
        """Do nothing: all weights are on the host."""

    def remove(self, j: int, share: np.ndarray) -> None:
        """Remove unit j, which the units take over with the shares `p`."""
        self._transposed -= np.outer(self._transposed[:, j], share)

    def keep_only(self, units: np.ndarray) -> None:
        """Drop all other units."""
        # Not `[:, units]`, whose result doesn't lie in memory row by row.
        self._transposed = self._transposed.take(units, axis=1)
