"""Outgoing weights into their products, and the expected square of what units add to the outputs.

`E|h A|^2 = tr(A^T E[h h^T] A)`, the sum of `E[h h^T]` times `A A^T`, entry by entry.
"""

import numpy as np
import tensorflow as tf

from keras_dfprune.methods.moments.symmetric_matrices import gram, select

# `A A^T` as a matrix, with delayed updates, or `A` itself, updated at every step: the latter where
# there are this many units for each output, about half of the time of a plan at 2,048 units.
_FEW_OUTPUTS = 16


class Outgoing:
    """Outgoing weights `A`, and their products where there are many outputs.

    Args:
        weights: Float array, shape `(units, outputs)`.

    Attributes:
        weights: Float64 tensor, shape `(units, outputs)`.
        products: `A A^T`, tensor of shape `(units, units)`, or None where `A` is much smaller.
    """

    def __init__(self, weights: np.ndarray):
        self.weights = tf.cast(weights, tf.float64)
        units, outputs = self.weights.shape
        few = outputs * _FEW_OUTPUTS <= units
        self.products = None if few else gram(self.weights)

    def square(self, second: tf.Tensor, units: np.ndarray) -> float:
        """`E|h A|^2`, what leaving some units out would change; summed over the outputs.

        Args:
            second: Float64 tensor, shape `(units, units)`: second moments of all units, or their
                covariance where a constant takes over, too.
            units: Int array: the ones to leave out.
        """
        out = np.zeros(len(self.weights))
        out[units] = 1.0
        if self.products is None:
            alone = out[:, None] * self.weights
            return float(tf.reduce_sum(alone * tf.matmul(second, alone)))
        alone = tf.linalg.matvec(second * self.products, out)
        return float(tf.reduce_sum(out * alone))

    def of(self, units: np.ndarray) -> tf.Tensor:
        """The weights of some of the units, in the order given, or of all in theirs."""
        everything = len(units) == len(self.weights)
        return self.weights if everything else tf.gather(self.weights, units)

    def between(self, units: np.ndarray) -> tf.Tensor:
        """`A A^T` of some of the units, in the order given, or of all in theirs."""
        if self.products is None:
            weights = self.of(units)
            return tf.matmul(weights, weights, transpose_b=True)
        everything = len(units) == len(self.weights)
        return self.products if everything else select(self.products, units, units)
