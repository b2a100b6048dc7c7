"""Describe units with normal pre-activations by the coefficients of their second moments.

The coefficients, which `dual_activation.py` takes, are in closed form or by quadrature. Nothing is
sampled.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_dfprune.methods.moments.dual_activation import (
    HermiteCoefficients,
    second_moments,
    series_reach,
)
from keras_dfprune.methods.moments.symmetric_matrices import assemble_symmetric
from keras_dfprune.rules.activations import Activation

# The quadrature over t, z = m + s t, has panels on [-_RANGE, _RANGE]. Their ends are uniform in t,
# where the normal density varies, and at fixed z, where activations bend. Its precision was
# measured: docs/research/measurements.md.
_RANGE = 9.0
_PANELS = np.linspace(-_RANGE, _RANGE, 13)
_BENDS = np.array([-16.0, -8.0, -4.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0])
_NODES = 12
# Powers of the correlation. The part of E[phi^2] that they leave out is kept as one further power,
# so that the diagonal of a smooth activation is exact for any number of them.
_TERMS = 48
# Units with kinks are integrated over an angle above this correlation.
_SERIES_REACH = series_reach(_TERMS)
# The normal density is 0 in float64 beyond this many standard deviations.
_NO_DENSITY = 40.0
_BLOCK_ENTRIES = 2**18  # 2 MiB of float64 at a time stay in the cache
_WHOLE = 512  # with fewer units the whole matrix is computed, else only half of it


@dataclasses.dataclass(frozen=True, eq=False)
class ActivatedUnits:
    """Units `phi(z)` with normal `z`, each described by itself.

    Attributes:
        expected: Float64 array, shape `(units,)`: `E[phi(z)]`.
        coefficients: Coefficients of their second moments.
        jumps: Float64 array, shape `(kinks,)`: jumps of the activation's slope; empty where the
            activation is not piecewise linear.
    """

    expected: np.ndarray
    coefficients: HermiteCoefficients
    jumps: np.ndarray

    def cross_moments(self, other: "ActivatedUnits", covariance: tf.Tensor) -> tf.Tensor:
        """Return `E[phi(z_i) phi(z_j)]`, shape `(units, other units)`.

        Args:
            other: Units with the same activation, or these units themselves.
            covariance: Float64 tensor, shape `(units, other units)`: covariance of `z`.
        """

        def block(rows: slice, columns: slice) -> tf.Tensor:
            step = max(1, _BLOCK_ENTRIES // (columns.stop - columns.start))
            starts = range(rows.start, rows.stop, step)
            parts = [slice(first, min(first + step, rows.stop)) for first in starts]
            right = other.coefficients.take_units(columns)
            moments = [
                second_moments(
                    self.coefficients.take_units(part),
                    right,
                    self.jumps,
                    _SERIES_REACH,
                    covariance[part, columns],
                )
                for part in parts
            ]
            return tf.concat(moments, axis=0)

        rows, columns = slice(0, len(self.expected)), slice(0, len(other.expected))
        if other is self:
            return assemble_symmetric(block, rows, _WHOLE)
        return block(rows, columns)


class Components(NamedTuple):
    """Components of a mixture of normal distributions whose covariances differ in scale only.

    Attributes:
        means: Float64 array, shape `(components, units)`.
        scales: Float64 array, shape `(components,)`: factors of the standard deviations.
        shares: Float64 array, shape `(components,)`: probabilities, with a sum of 1.
    """

    means: np.ndarray
    scales: np.ndarray
    shares: np.ndarray

    def with_means(self, means: np.ndarray) -> "Components":
        """Return the components of other units."""
        return Components(means, self.scales, self.shares)


def equal_components(means: np.ndarray) -> Components:
    """Return equally likely components of scale 1 with the given means."""
    ones = np.ones(len(means))
    return Components(np.asarray(means, np.float64), ones, ones / len(means))


def activate(
    activation: Activation, components: Components, variance: np.ndarray
) -> ActivatedUnits:
    """Describe the units `phi(z)` where `z` is a mixture of normal distributions.

    Args:
        activation: An element-wise activation.
        components: The components of `z`.
        variance: Float array, shape `(units,)`: variance of `z` in a component of scale 1.

    Returns:
        The `ActivatedUnits`.
    """
    means, scales, shares = components
    std = np.sqrt(np.maximum(variance, 0.0))
    # A unit that never varies: any small deviation gives the same moments without a division by 0.
    std = np.maximum(std, 1e-12 * (1.0 + np.max(np.abs(means), axis=0)))
    expand = _piecewise_linear if is_piecewise_linear(activation) else _smooth
    powers, kinks, jumps = expand(activation, means, scales[:, None] * std)
    coefficients = (std, powers * np.sqrt(shares), kinks, shares * scales**2)
    return ActivatedUnits(
        powers[0] @ shares,
        HermiteCoefficients(*(tf.constant(part) for part in coefficients)),
        jumps,
    )


def mean_squares(
    activation: Activation, components: Components, variance: np.ndarray
) -> np.ndarray:
    """Return the mean square of the units in each component: float64, shape `(components,)`."""
    units = activate(activation, components, variance)
    squares = tf.reduce_mean(tf.reduce_sum(tf.square(units.coefficients.powers), axis=0), axis=0)
    return np.asarray(squares) / components.shares


def is_piecewise_linear(activation: Activation) -> bool:
    """Return whether an activation is piecewise linear and continuous.

    Such units have their moments in closed form.
    """
    return activation.linear_pieces is not None and math.isfinite(activation.slope)


def _piecewise_linear(
    activation: Activation, means: np.ndarray, std: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return powers, standardised kinks and jumps of the slope in closed form.

    By Price's theorem the second derivative of `E[h_i h_j]` in the correlation r is the normal
    density at the kinks, `sum_k He_k(x) He_k(y) r^k / k!` times both densities (Mehler). So only
    the kinks count beyond the first two powers.
    """
    slopes, intercepts = np.array(activation.linear_pieces, np.float64).T
    kinks = (np.array(activation.kinks, np.float64) - means[..., None]) / std[..., None]
    edge = np.full((*means.shape, 1), np.inf)
    bounds = np.concatenate([-edge, kinks, edge], axis=-1)  # (components, units, pieces + 1)
    mass = np.diff(0.5 * tf.math.erfc(-bounds / math.sqrt(2.0)).numpy())
    density = np.exp(-0.5 * bounds**2) / math.sqrt(2.0 * math.pi)
    partial_mean = means[..., None] * mass - std[..., None] * np.diff(density)
    terms = _TERMS if len(activation.kinks) else 2
    powers = np.zeros((terms, *means.T.shape))
    powers[0] = (partial_mean @ slopes + mass @ intercepts).T
    powers[1] = (std * (mass @ slopes)).T
    bent = std[..., None] * density[..., 1:-1] * np.diff(slopes)
    hermite = _hermite(np.clip(kinks, -_NO_DENSITY, _NO_DENSITY), terms - 2)
    for k, values in enumerate(hermite, 2):
        powers[k] = np.sum(bent * values, axis=-1).T / math.sqrt(k * (k - 1))
    return powers, kinks.transpose(2, 1, 0), np.diff(slopes)


def _smooth(
    activation: Activation, means: np.ndarray, std: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return powers by quadrature, and empty arrays of kinks and jumps.

    The part of `E[h_i^2]` that the powers leave out is added as one further power. The diagonal is
    then exact, and the matrix is still positive semidefinite (a sum of Schur products).
    """
    powers = []
    for mean, deviation in zip(means, std, strict=True):
        coefficients, square = _hermite_coefficients(
            activation.values, activation.kinks, mean, deviation
        )
        left_out = np.sqrt(np.maximum(square - np.sum(coefficients**2, axis=0), 0.0))
        powers.append(np.concatenate([coefficients, left_out[None]]))
    return np.stack(powers, axis=-1), np.zeros((0, *means.T.shape)), np.zeros(0)


def _hermite_coefficients(
    values: Callable[[np.ndarray], np.ndarray],
    kinks: tuple[float, ...],
    mean: np.ndarray,
    std: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the normalised Hermite coefficients of `phi(m + s t)` and `E[phi^2]` of each unit."""
    bends = np.concatenate([_BENDS, np.asarray(kinks, np.float64)])
    bends = (bends[None, :] - mean[:, None]) / std[:, None]
    uniform = np.broadcast_to(_PANELS, (len(mean), len(_PANELS)))
    ends = np.sort(np.clip(np.concatenate([uniform, bends], axis=1), -_RANGE, _RANGE), axis=1)
    node, weight = np.polynomial.legendre.leggauss(_NODES)
    half = 0.5 * np.diff(ends, axis=1)[:, :, None]
    middle = 0.5 * (ends[:, 1:] + ends[:, :-1])[:, :, None]
    t = (middle + half * node).reshape(len(mean), -1)
    density = (half * weight).reshape(t.shape) * np.exp(-0.5 * t**2) / math.sqrt(2.0 * math.pi)
    value = values((mean[:, None] + std[:, None] * t).T).T  # units last: each may have its own
    with np.errstate(over="ignore", invalid="ignore"):  # callers check that moments are finite
        weighted = density * value
        projections = [np.sum(weighted * hermite, axis=1) for hermite in _hermite(t, _TERMS)]
        return np.stack(projections), np.sum(density * value**2, axis=1)


def _hermite(t: np.ndarray, terms: int) -> Iterator[np.ndarray]:
    """Yield the first normalised Hermite polynomials at `t`, `He_k(t) / sqrt(k!)` with k from 0."""
    before, now = np.zeros_like(t), np.ones_like(t)
    for k in range(terms):
        yield now
        before, now = now, (t * now - math.sqrt(k) * before) / math.sqrt(k + 1)
