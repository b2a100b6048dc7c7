"""Normal pre-activations into the first and second moments of activated units.

For `z ~ N(m, K)` and `h = phi(z)`: `mean = E[h]`, `second = E[h h^T]`, in closed form
(`activated.py`); equal mixtures of them; and the same from samples.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_dfprune.methods.moments import symmetric_matrices
from keras_dfprune.methods.moments.activated_units import activated
from keras_dfprune.methods.weighted_sums import summed_tensor
from keras_dfprune.rules.activations import Activation


@dataclasses.dataclass(frozen=True, eq=False)
class UnitMoments:
    """First and second moments of a group's units.

    Attributes:
        mean: Float64 array, shape `(units,)`: `E[h]`.
        second: Float64 tensor, shape `(units, units)`: `E[h h^T]`.
    """

    mean: np.ndarray
    second: tf.Tensor

    @property
    def covariance(self) -> tf.Tensor:
        """`E[h h^T] - E[h] E[h]^T`, shape `(units, units)`."""
        return self.second - self.mean[:, None] * tf.constant(self.mean)

    def select(self, units: np.ndarray) -> "UnitMoments":
        """The moments of some of the units, in the order given."""
        if np.array_equal(units, np.arange(len(self.mean))):
            return self
        return UnitMoments(self.mean[units], symmetric_matrices.select(self.second, units, units))


def normal_moments(activation: Activation, mean: np.ndarray, covariance: tf.Tensor) -> UnitMoments:
    """Moments of `phi(z)` for `z ~ N(mean, covariance)`.

    Args:
        activation: An element-wise activation.
        mean: Float array, shape `(units,)`.
        covariance: Float64 tensor, shape `(units, units)`.

    Returns:
        The `UnitMoments` of the activated units, in float64.
    """
    return Preactivations(mean[None], covariance).moments(activation)


@dataclasses.dataclass(frozen=True, eq=False)
class Preactivations:
    """Normal pre-activations with an uncertain mean.

    Attributes:
        means: Float64 array, shape `(means, units)`: equally likely ones.
        covariance: Float64 tensor, shape `(units, units)`: around each of them.
    """

    means: np.ndarray
    covariance: tf.Tensor

    @property
    def variance(self) -> np.ndarray:
        """Around each of the means: float64, shape `(units,)`."""
        return tf.linalg.diag_part(self.covariance).numpy()

    def moments(self, activation: Activation) -> UnitMoments:
        """The moments of the units, in float64."""
        units = activated(activation, self.means, self.variance)
        return UnitMoments(units.expected, units.product(units, self.covariance))

    def select(self, units: np.ndarray) -> "Preactivations":
        """Those of some of the units."""
        if np.array_equal(units, np.arange(self.means.shape[1])):
            return self
        return Preactivations(
            self.means[:, units], symmetric_matrices.select(self.covariance, units, units)
        )

    def with_sums(
        self, activation: Activation, shares: np.ndarray, level: np.ndarray
    ) -> tuple[UnitMoments, tf.Tensor]:
        """Moments of new units, and second moments of the old ones with them.

        Args:
            activation: An element-wise activation.
            shares: Float array, shape `(new, units)`: the new pre-activations in the old.
            level: Float array, shape `(new,)`: constants added to them.

        Returns:
            The `UnitMoments` of the new units, and a float64 tensor, shape `(new, units)`.
        """
        mixed = summed_tensor(shares, self.covariance)
        inner = summed_tensor(shares, tf.transpose(mixed))
        old = activated(activation, self.means, self.variance)
        variance = tf.linalg.diag_part(inner).numpy()
        new = activated(activation, self.means @ shares.T + level, variance)
        across = new.product(old, mixed)
        return UnitMoments(new.expected, new.product(new, inner)), across


def mixture(parts: Sequence[UnitMoments]) -> UnitMoments:
    """The moments of an equal mixture of distributions."""
    return UnitMoments(
        np.mean([part.mean for part in parts], axis=0),
        tf.add_n([part.second for part in parts]) / len(parts),
    )


def sample_moments(values: np.ndarray) -> UnitMoments:
    """Moments of units over samples: the same result from data instead of a prior.

    Args:
        values: Float array, shape `(samples, units)`: activated units.

    Returns:
        The `UnitMoments` over the samples.
    """
    values = tf.constant(values, tf.float64)
    second = tf.matmul(values, values, transpose_a=True) / values.shape[0]
    return UnitMoments(tf.reduce_mean(values, axis=0).numpy(), second)
