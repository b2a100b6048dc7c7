"""Compute the first and second moments of activated units.

For `z ~ N(m, K)` and `h = phi(z)` these are `mean = E[h]` and `second = E[h h^T]`, in closed form
(`activated_units.py`). Equal mixtures of such distributions and samples give the same moments.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_dfprune.methods.moments.activated_units import (
    Components,
    activate,
    equal_components,
    mean_squares,
)
from keras_dfprune.methods.moments.symmetric_matrices import is_finite, submatrix
from keras_dfprune.methods.weighted_sums import summed_tensor
from keras_dfprune.rules.activations import Activation


@dataclasses.dataclass(frozen=True, eq=False)
class UnitMoments:
    """First and second moments of a group's units.

    Attributes:
        mean: Float64 array, shape `(units,)`: `E[h]`.
        second: Float64 tensor, shape `(units, units)`: `E[h h^T]`.
        scale_known: Whether something ties their scale to the network: a normalisation, or inputs
            that are known.
    """

    mean: np.ndarray
    second: tf.Tensor
    scale_known: bool = False

    @property
    def covariance(self) -> tf.Tensor:
        """Covariance `E[h h^T] - E[h] E[h]^T`, shape `(units, units)`."""
        return self.second - self.mean[:, None] * tf.constant(self.mean)

    def take_units(self, units: np.ndarray) -> "UnitMoments":
        """Take the moments of some of the units, in the given order."""
        if np.array_equal(units, np.arange(len(self.mean))):
            return self
        second = submatrix(self.second, units, units)
        return UnitMoments(self.mean[units], second, self.scale_known)


@dataclasses.dataclass(frozen=True, eq=False)
class Preactivations:
    """Normal pre-activations of uncertain mean and scale.

    Attributes:
        components: The components of the mixture.
        covariance: Float64 tensor, shape `(units, units)`: covariance in a component of scale 1.
        scale_known: As in `UnitMoments`.
    """

    components: Components
    covariance: tf.Tensor
    scale_known: bool = False

    @property
    def variance(self) -> np.ndarray:
        """Variance in a component of scale 1: float64, shape `(units,)`."""
        return tf.linalg.diag_part(self.covariance).numpy()

    def moments(self, activation: Activation) -> UnitMoments:
        """Compute the moments of the activated units."""
        units = activate(activation, self.components, self.variance)
        second = units.cross_moments(units, self.covariance)
        return UnitMoments(units.expected, second, self.scale_known)

    def balanced(self, activation: Activation) -> "Preactivations":
        """Return the same with each component's share divided by the units' mean square in it."""
        squares = mean_squares(activation, self.components, self.variance)
        shares = self.components.shares / np.maximum(squares, 1e-300)
        if len(shares) == 1 or not np.all(np.isfinite(shares)):
            return self
        means, scales, _ = self.components
        components = Components(means, scales, shares / np.sum(shares))
        return dataclasses.replace(self, components=components)

    def take_units(self, units: np.ndarray) -> "Preactivations":
        """Take the pre-activations of some of the units, in the given order."""
        means = self.components.means
        if np.array_equal(units, np.arange(means.shape[1])):
            return self
        components = self.components.with_means(means[:, units])
        covariance = submatrix(self.covariance, units, units)
        return Preactivations(components, covariance, self.scale_known)

    def moments_of_sums(
        self, activation: Activation, shares: np.ndarray
    ) -> tuple[UnitMoments, tf.Tensor]:
        """Compute the moments of new units whose pre-activations are weighted sums of these.

        Args:
            activation: An element-wise activation of the old and the new units.
            shares: Float array, shape `(new, units)`: weights of the sums.

        Returns:
            The `UnitMoments` of the new units, and the second moments of new and old units, a
            float64 tensor of shape `(new, units)`.
        """
        mixed = summed_tensor(shares, self.covariance)
        covariance = summed_tensor(shares, tf.transpose(mixed))
        old = activate(activation, self.components, self.variance)
        variance = tf.linalg.diag_part(covariance).numpy()
        components = self.components.with_means(self.components.means @ shares.T)
        new = activate(activation, components, variance)
        across = new.cross_moments(old, mixed)
        second = new.cross_moments(new, covariance)
        return UnitMoments(new.expected, second, self.scale_known), across


def normal_moments(activation: Activation, joined: UnitMoments) -> UnitMoments:
    """Compute the moments of `phi(z)` for normal `z`.

    Args:
        activation: An element-wise activation.
        joined: Moments of `z`.

    Returns:
        The `UnitMoments` of the activated units.
    """
    components = equal_components(joined.mean[None])
    return Preactivations(components, joined.covariance, joined.scale_known).moments(activation)


def mixture_moments(parts: Sequence[UnitMoments]) -> UnitMoments:
    """Compute the moments of an equal mixture of distributions."""
    return UnitMoments(
        np.mean([part.mean for part in parts], axis=0),
        tf.add_n([part.second for part in parts]) / len(parts),
        all(part.scale_known for part in parts),
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
    return UnitMoments(tf.reduce_mean(values, axis=0).numpy(), second, scale_known=True)


def mixed_moments(samples: UnitMoments, prior: UnitMoments, prior_share: float) -> UnitMoments:
    """Mix the moments of few samples with those of a prior.

    The prior is scaled to the samples' mean square first, because its scale is only assumed.

    Args:
        samples: The moments of samples.
        prior: The prior's moments of the same units. They are left out if they are not finite.
        prior_share: Weight of the prior, 0 to 1.

    Returns:
        The mixed `UnitMoments`.
    """
    ratio = float(tf.linalg.trace(samples.second) / tf.linalg.trace(prior.second))
    if not (np.isfinite(ratio) and ratio > 0.0 and is_finite(prior.second)):
        return samples
    share = 1.0 - prior_share
    mean = share * samples.mean + prior_share * np.sqrt(ratio) * prior.mean
    second = share * samples.second + prior_share * ratio * prior.second
    return UnitMoments(mean, second, scale_known=True)
