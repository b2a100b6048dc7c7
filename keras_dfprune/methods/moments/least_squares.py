"""Rebuild units from features by least squares, and measure how the outputs change.

With the second moments S of the features, and B of features and units, the coefficients are
`R = (S + ridge I)^-1 (B + ridge R_0)`.
"""

import functools

import numpy as np
import tensorflow as tf

from keras_dfprune.methods.moments.outgoing_weights import OutgoingWeights
from keras_dfprune.methods.moments.symmetric_matrices import add_ridge, inverse

# A smaller mean second moment counts as 0: times a ridge of 1e-6 it would leave float64's range.
_ZERO = 1e-290


def ridge_of(second: tf.Tensor, relative: float) -> float:
    """Return the ridge: `relative` times the mean second moment.

    It is `relative` itself where all units are zero under the prior (a relu behind `-abs(x)`).

    Args:
        second: Float64 tensor, shape `(units, units)`: second moments.
        relative: Non-negative float.

    Returns:
        Float, to be added to the diagonal.
    """
    mean = float(tf.linalg.trace(second)) / max(len(second), 1)
    return relative * (mean if mean > _ZERO else 1.0)


class LeastSquares:
    """Units rebuilt from features: `argmin_R E|h - h_features R|^2 + ridge |R - R_0|^2`.

    The centre `R_0` is the paper's merge, which rebuilds each unit from one feature. Near-copies
    and strongly coloured priors leave some directions of R undetermined: those stay at `R_0`, where
    they would otherwise grow without bound.

    Args:
        within: Float64 tensor, shape `(features, features)`: second moments of the features, or
            covariances where a constant makes up for the means.
        across: Float64 tensor, shape `(features, units)`: the same of features and units.
        nearest: Int array, shape `(units,)`: the one feature in `R_0` of each unit.
        scale: Float array, shape `(units,)`: its coefficient in `R_0`.
        ridge: Non-negative float, added to the diagonal.
    """

    def __init__(
        self,
        within: tf.Tensor,
        across: tf.Tensor,
        *,
        nearest: np.ndarray,
        scale: np.ndarray,
        ridge: float,
    ) -> None:
        self._ridge, self._pull = ridge, ridge * scale
        self._inverse = inverse(add_ridge(within, ridge))
        # Rows and columns of the entries of `R_0`.
        self._centre = np.stack([nearest, np.arange(len(nearest))], axis=1)
        self._right = across
        if len(across):
            self._right = tf.tensor_scatter_nd_add(across, self._centre, self._pull)

    @functools.cached_property
    def coefficients(self) -> tf.Tensor:
        """Coefficients R: float64, shape `(features, units)`."""
        return tf.matmul(self._inverse, self._right)

    def error(self, square: float, outgoing: OutgoingWeights, units: np.ndarray) -> float:
        """Return the expected squared change of the outputs, `E|(h - h_features R) A|^2`.

        With the features' second moments S and `across` B it is
        `E|h A|^2 - tr(A^T R^T (2 B - S R) A)`, where `S R = B + ridge (R_0 - R)`. The ridge itself
        does not count.

        Args:
            square: Float, `E|h A|^2`: the change if nothing rebuilt the units.
            outgoing: The outgoing weights of all units.
            units: Int array, shape `(units,)`: positions there of the rebuilt units.

        Returns:
            Float, summed over the outputs.
        """
        if len(self._right) == 0:
            return square
        weights = outgoing.rows_of(units)
        if weights.shape[1] < len(units):
            right = tf.matmul(self._right, weights)
            rebuilt = through = tf.matmul(self._inverse, right)
            nearest = tf.gather(through, self._centre[:, 0])
            pulled = tf.reduce_sum(nearest * weights, axis=1)
        else:
            right, rebuilt = self._right, self.coefficients
            through = tf.matmul(rebuilt, outgoing.products_of(units))
            pulled = tf.gather_nd(through, self._centre)
        gained = tf.reduce_sum(through * (right + self._ridge * rebuilt))
        gained -= 2.0 * tf.reduce_sum(self._pull * pulled)
        return max(square - float(gained), 0.0)
