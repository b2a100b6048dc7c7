"""Hold outgoing weights and their products, and measure the units' share of the outputs.

The expected square of the outputs is `E|h A|^2 = tr(A^T E[h h^T] A)`, the sum of `E[h h^T]` times
`A A^T`, entry by entry.
"""

import numpy as np
import tensorflow as tf

from keras_dfprune.methods.moments.symmetric_matrices import gram, submatrix

# With at least this many units for each output, `A` itself is used and updated at every step. With
# fewer, `A A^T` is computed and its updates are delayed (docs/research/measurements.md).
_UNITS_PER_OUTPUT = 16


class OutgoingWeights:
    """Outgoing weights `A` of the units, and their products where there are many outputs.

    Args:
        weights: Float array, shape `(units, outputs)`.

    Attributes:
        weights: Float64 tensor, shape `(units, outputs)`.
        products: `A A^T`, float64 tensor of shape `(units, units)`, or None where `A` is much
            smaller.
    """

    def __init__(self, weights: np.ndarray) -> None:
        self.weights = tf.cast(weights, tf.float64)
        units, outputs = self.weights.shape
        few_outputs = outputs * _UNITS_PER_OUTPUT <= units
        self.products = None if few_outputs else gram(self.weights)

    def expected_square(self, second: tf.Tensor, units: np.ndarray) -> float:
        """Return `E|h A|^2` of some units alone: the change of the outputs without them.

        Args:
            second: Float64 tensor, shape `(units, units)`: second moments of all units, or their
                covariance where a constant makes up for the means.
            units: Int array: the units to leave out.

        Returns:
            Float, summed over the outputs.
        """
        chosen = np.zeros(len(self.weights))
        chosen[units] = 1.0
        if self.products is None:
            weights = chosen[:, None] * self.weights
            return float(tf.reduce_sum(weights * tf.matmul(second, weights)))
        sums = tf.linalg.matvec(second * self.products, chosen)
        return float(tf.reduce_sum(chosen * sums))

    def rows_of(self, units: np.ndarray) -> tf.Tensor:
        """Take the rows of some units in the given order, or all rows in their own order."""
        if len(units) == len(self.weights):
            return self.weights
        return tf.gather(self.weights, units)

    def products_of(self, units: np.ndarray) -> tf.Tensor:
        """Take `A A^T` of some units in the given order, or of all units in their own order."""
        if self.products is None:
            weights = self.rows_of(units)
            return tf.matmul(weights, weights, transpose_b=True)
        if len(units) == len(self.weights):
            return self.products
        return submatrix(self.products, units, units)
