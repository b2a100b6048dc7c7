"""Compute the first and second moments of activated units.

For `z ~ N(m, K)` and `h = phi(z)` these are `mean = E[h]` and `second = E[h h^T]`, in closed form
(`activated_units.py`). Equal mixtures of such distributions and samples give the same moments.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_dfprune.methods.moments.activated_units import activate
from keras_dfprune.methods.moments.symmetric_matrices import submatrix
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
        """Covariance `E[h h^T] - E[h] E[h]^T`, shape `(units, units)`."""
        return self.second - self.mean[:, None] * tf.constant(self.mean)

    def take_units(self, units: np.ndarray) -> "UnitMoments":
        """Take the moments of some of the units, in the given order."""
        if np.array_equal(units, np.arange(len(self.mean))):
            return self
        return UnitMoments(self.mean[units], submatrix(self.second, units, units))


@dataclasses.dataclass(frozen=True, eq=False)
class Preactivations:
    """Normal pre-activations with an uncertain mean.

    Attributes:
        means: Float64 array, shape `(means, units)`: equally likely means.
        covariance: Float64 tensor, shape `(units, units)`: covariance around each of them.
    """

    means: np.ndarray
    covariance: tf.Tensor

    @property
    def variance(self) -> np.ndarray:
        """Variance around each of the means: float64, shape `(units,)`."""
        return tf.linalg.diag_part(self.covariance).numpy()

    def moments(self, activation: Activation) -> UnitMoments:
        """Compute the moments of the activated units."""
        units = activate(activation, self.means, self.variance)
        return UnitMoments(units.expected, units.cross_moments(units, self.covariance))

    def take_units(self, units: np.ndarray) -> "Preactivations":
        """Take the pre-activations of some of the units, in the given order."""
        if np.array_equal(units, np.arange(self.means.shape[1])):
            return self
        return Preactivations(self.means[:, units], submatrix(self.covariance, units, units))

    def moments_of_sums(
        self, activation: Activation, shares: np.ndarray, bias: np.ndarray
    ) -> tuple[UnitMoments, tf.Tensor]:
        """Compute the moments of new units whose pre-activations are weighted sums of these.

        Args:
            activation: An element-wise activation of the old and the new units.
            shares: Float array, shape `(new, units)`: weights of the sums.
            bias: Float array, shape `(new,)`: constants added to the sums.

        Returns:
            The `UnitMoments` of the new units, and the second moments of new and old units, a
            float64 tensor of shape `(new, units)`.
        """
        mixed = summed_tensor(shares, self.covariance)
        covariance = summed_tensor(shares, tf.transpose(mixed))
        old = activate(activation, self.means, self.variance)
        variance = tf.linalg.diag_part(covariance).numpy()
        new = activate(activation, self.means @ shares.T + bias, variance)
        across = new.cross_moments(old, mixed)
        return UnitMoments(new.expected, new.cross_moments(new, covariance)), across


def normal_moments(activation: Activation, mean: np.ndarray, covariance: tf.Tensor) -> UnitMoments:
    """Compute the moments of `phi(z)` for `z ~ N(mean, covariance)`.

    Args:
        activation: An element-wise activation.
        mean: Float array, shape `(units,)`.
        covariance: Float64 tensor, shape `(units, units)`.

    Returns:
        The `UnitMoments` of the activated units.
    """
    return Preactivations(mean[None], covariance).moments(activation)


def mixture_moments(parts: Sequence[UnitMoments]) -> UnitMoments:
    """Compute the moments of an equal mixture of distributions."""
    return UnitMoments(
        np.mean([part.mean for part in parts], axis=0),
        tf.add_n([part.second for part in parts]) / len(parts),
    )


def sample_moments(values: np.ndarray) -> UnitMoments:
    """Compute the moments of units from samples of their values.

    Args:
        values: Float array, shape `(samples, units)`: activated units.

    Returns:
        The `UnitMoments` over the samples.
    """
    values = tf.constant(values, tf.float64)
    second = tf.matmul(values, values, transpose_a=True) / values.shape[0]
    return UnitMoments(tf.reduce_mean(values, axis=0).numpy(), second)
