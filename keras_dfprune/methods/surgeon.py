"""Second moments and outgoing weights into an order of removal and least-squares coefficients.

Optimal Brain Surgeon (Hassibi & Stork 1993) for whole units: with `C = E[h h^T]`, taking out unit
j and letting all others take over costs `|a_j|^2 / (C^-1)_jj`.
"""

import dataclasses
import functools

import numpy as np
import tensorflow as tf

from keras_dfprune.methods.symmetric import gram, inverse

# Updates between two flushes: one product per block instead of one memory-bound update per removal.
BLOCK = 256
# Removed units leave the matrices when they are a quarter of them, and a block: copying costs more
# than carrying them on for a while.
_CARRIED = 1 / 4
# `A A^T` as a matrix, with delayed updates, or `A` itself, updated at every step: the latter where
# there are this many units for each output, about half of the time of a plan at 2,048 units.
_FEW_OUTPUTS = 16
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


class Outgoing:
    """Outgoing weights `A`, and their products where there are many outputs.

    Args:
        weights: Float array, shape `(units, outputs)`.

    Attributes:
        weights: Float64 array, shape `(units, outputs)`.
        products: `A A^T`, tensor of shape `(units, units)`, or None where `A` is much smaller.
    """

    def __init__(self, weights: np.ndarray):
        self.weights = np.asarray(weights, np.float64)
        units, outputs = self.weights.shape
        few = outputs * _FEW_OUTPUTS <= units
        self.products = None if few else gram(tf.constant(self.weights))

    def square(self, second: np.ndarray, units: np.ndarray) -> float:
        """`E|h A|^2`, what leaving some units out would change; summed over the outputs.

        Args:
            second: Float array, shape `(units, units)`: second moments of all units, or their
                covariance where a constant takes over, too.
            units: Int array: the ones to leave out.
        """
        out = np.zeros(len(self.weights))
        out[units] = 1.0
        if self.products is None:
            alone = out[:, None] * self.weights
            return float(np.vdot(alone, second @ alone))
        return float(out @ np.einsum("ij,ij,j->i", second, self.products, out))

    def between(self, units: np.ndarray) -> np.ndarray:
        """`A A^T` of some of the units, in the order given."""
        if self.products is None:
            return self.weights[units] @ self.weights[units].T
        whole = np.asarray(self.products)
        return whole if len(units) == len(whole) else whole[np.ix_(units, units)]


def greedy_order(
    second: np.ndarray, outgoing: Outgoing, *, ridge: float, block: int = BLOCK
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

    Returns:
        The `Greedy` order; ties go to the smallest unit.
    """
    units, few = len(outgoing.weights), outgoing.products is None
    alive, there = np.arange(units), np.ones(units, bool)  # units in the matrices
    inverted = _Delayed(inverse(_with_ridge(second, ridge)), block)
    changes = _FewOutputs(outgoing.weights) if few else _ManyOutputs(outgoing.products, block)
    order, costs = [], []
    while len(order) < units - 1:
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


def _with_ridge(matrix: np.ndarray, ridge: float) -> tf.Tensor:
    return tf.linalg.set_diag(tf.convert_to_tensor(matrix), np.diagonal(matrix) + ridge)


class LeastSquares:
    """Units rebuilt from features: `argmin_R E|h - h_features R|^2 + ridge |R - R_0|^2`.

    Centred on a merge `R_0` that is sane by itself, so that directions which `within` does not
    know (near-copies, strongly coloured priors) keep it instead of growing without bound.

    Args:
        within: Float array, shape `(features, features)`: second moments of the features;
            covariances where a constant takes over, too.
        across: Float array, shape `(features, units)`: theirs with the units. Taken over: it is
            changed in place.
        nearest: Int array, shape `(units,)`: each unit's only feature in `R_0`.
        scale: Float array, shape `(units,)`: what that is multiplied by.
        ridge: Non-negative float, added to the diagonal.
    """

    def __init__(
        self,
        within: np.ndarray,
        across: np.ndarray,
        *,
        nearest: np.ndarray,
        scale: np.ndarray,
        ridge: float,
    ):
        self._within, self._right = within, across
        self._nearest, self._pull = nearest, ridge * scale
        self._inverse = inverse(_with_ridge(within, ridge))
        if len(across):
            self._right[nearest, np.arange(len(nearest))] += self._pull

    @functools.cached_property
    def coefficients(self) -> np.ndarray:
        """R: float64, shape `(features, units)`."""
        return np.asarray(tf.matmul(self._inverse, self._right))

    def error(self, square: float, outgoing: Outgoing, units: np.ndarray) -> float:
        """The expected squared change of the outputs, `E|(h - h_features R) A|^2`, without ridge.

        With the features' second moments S and `across` B it is
        `E|h A|^2 - tr(A^T R^T (2 B - S R) A)`.

        Args:
            square: Float, `E|h A|^2`: what leaving the units out would change.
            outgoing: The outgoing weights of all units.
            units: Int array, shape `(units,)`: which of them these are.

        Returns:
            Float, summed over the outputs.
        """
        if len(self._right) == 0:
            return square
        weights = (
            outgoing.weights[units] if len(units) < len(outgoing.weights) else outgoing.weights
        )
        if weights.shape[1] < len(units):
            right = tf.matmul(self._right, weights)
            rebuilt = through = tf.matmul(self._inverse, right)
            pulled = np.einsum("uo,uo->u", np.asarray(through)[self._nearest], weights)
        else:
            right, rebuilt = self._right, self.coefficients
            through = np.asarray(tf.matmul(rebuilt, outgoing.between(units)))
            pulled = through[self._nearest, np.arange(len(units))]
        theirs = np.vdot(through, right) - self._pull @ pulled
        gained = 2.0 * theirs - np.vdot(through, tf.matmul(self._within, rebuilt))
        return max(square - float(gained), 0.0)
