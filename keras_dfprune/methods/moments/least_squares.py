"""Second moments of units and of features into the units rebuilt from the features.

`R = (S + ridge I)^-1 (B + ridge R_0)` with the features' second moments S and theirs with the
units, B, and what that changes in the outputs.
"""

import functools

import numpy as np
import tensorflow as tf

from keras_dfprune.methods.moments.outgoing_weights import Outgoing
from keras_dfprune.methods.moments.symmetric_matrices import inverse, with_ridge

# Mean second moments below are none: times a ridge of 1e-6 they would leave the range of float64.
_NOTHING = 1e-290


def ridge_of(second: tf.Tensor, relative: float) -> float:
    """What is added to the diagonal: `relative` times the mean second moment.

    Where all units are zero under the prior (a relu behind `-abs(x)`), `relative` itself.

    Args:
        second: Float64 tensor, shape `(units, units)`.
        relative: Non-negative float.
    """
    mean = float(tf.linalg.trace(second)) / max(len(second), 1)
    return relative * (mean if mean > _NOTHING else 1.0)


class LeastSquares:
    """Units rebuilt from features: `argmin_R E|h - h_features R|^2 + ridge |R - R_0|^2`.

    Centred on a merge `R_0` that is sane by itself, so that directions which `within` does not
    know (near-copies, strongly coloured priors) keep it instead of growing without bound.

    Args:
        within: Float64 tensor, shape `(features, features)`: second moments of the features;
            covariances where a constant takes over, too.
        across: Float64 tensor, shape `(features, units)`: theirs with the units.
        nearest: Int array, shape `(units,)`: each unit's only feature in `R_0`.
        scale: Float array, shape `(units,)`: what that is multiplied by.
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
    ):
        self._ridge, self._pull = ridge, ridge * scale
        self._inverse = inverse(with_ridge(within, ridge))
        # Where each unit's only feature is.
        self._places = np.stack([nearest, np.arange(len(nearest))], axis=1)
        self._right = across
        if len(across):
            self._right = tf.tensor_scatter_nd_add(across, self._places, self._pull)

    @functools.cached_property
    def coefficients(self) -> tf.Tensor:
        """R: float64, shape `(features, units)`."""
        return tf.matmul(self._inverse, self._right)

    def error(self, square: float, outgoing: Outgoing, units: np.ndarray) -> float:
        """The expected squared change of the outputs, `E|(h - h_features R) A|^2`, without ridge.

        With the features' second moments S and `across` B it is
        `E|h A|^2 - tr(A^T R^T (2 B - S R) A)`, where `S R = B + ridge (R_0 - R)`.

        Args:
            square: Float, `E|h A|^2`: what leaving the units out would change.
            outgoing: The outgoing weights of all units.
            units: Int array, shape `(units,)`: which of them these are.

        Returns:
            Float, summed over the outputs.
        """
        if len(self._right) == 0:
            return square
        weights = outgoing.of(units)
        if weights.shape[1] < len(units):
            right = tf.matmul(self._right, weights)
            rebuilt = through = tf.matmul(self._inverse, right)
            nearest = tf.gather(through, self._places[:, 0])
            pulled = tf.reduce_sum(nearest * weights, axis=1)
        else:
            right, rebuilt = self._right, self.coefficients
            through = tf.matmul(rebuilt, outgoing.between(units))
            pulled = tf.gather_nd(through, self._places)
        gained = tf.reduce_sum(through * (right + self._ridge * rebuilt))
        gained -= 2.0 * tf.reduce_sum(self._pull * pulled)
        return max(square - float(gained), 0.0)
