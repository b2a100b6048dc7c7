"""Compute second moments of units from the correlations of their pre-activations.

`E[phi(z_i) phi(z_j)]` of normal `z` is the *dual activation*, in the arc-cosine kernels of Cho &
Saul (2009) that of the relu. It is summed as a power series in the correlation, or integrated over
an angle. One graph, traced once, computes a block of pairs and reuses the memory of its sums.
"""

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

# Largest error of a truncated power series, relative to the units' root second moments.
_PRECISION = 1e-8
# Nodes of the integral over an angle: its relative error is 2e-7 at correlation 1, 1e-8 below
# 0.9999 and far less elsewhere. The ridge of the surgery is 1e-6.
_ANGLES = 12
# Share of the pairs of a block, the most correlated ones, that always take the integral: the other
# pairs then need fewer powers.
_MOST_CORRELATED = 0.005


class HermiteCoefficients(NamedTuple):
    """Units `phi(z)` with normal `z`: `E[h_i h_j] = sum_k c_ik c_jk r^k`, r the correlation of `z`.

    Attributes:
        std: Float64 tensor, shape `(units,)`: standard deviation of `z`, positive.
        powers: Float64 tensor, shape `(powers, units, components)`: normalised Hermite coefficients
            `c_k` of `phi(m + s t)` for each component of a mixture, times the root of its share.
            Summed over the components, the products are their average.
        kinks: Float64 tensor, shape `(kinks, units, components)`: standardised kinks
            `(kink - m) / s`. There are none where only `powers` are known.
        factors: Float64 tensor, shape `(components,)`: share of each component times its squared
            scale. A component's standard deviations are `std` times its scale.
    """

    std: tf.Tensor
    powers: tf.Tensor
    kinks: tf.Tensor
    factors: tf.Tensor

    def take_units(self, units: slice) -> "HermiteCoefficients":
        """Take the coefficients of some of the units."""
        powers, kinks = self.powers[:, units], self.kinks[:, units]
        return HermiteCoefficients(self.std[units], powers, kinks, self.factors)


def series_reach(powers: int) -> float:
    """Return the largest correlation at which a series of `powers` powers is precise."""
    return _PRECISION ** (1.0 / powers)


def _spec(*shape: int | None) -> tf.TensorSpec:
    return tf.TensorSpec(shape, tf.float64)


_COEFFICIENTS = HermiteCoefficients(
    _spec(None), _spec(None, None, None), _spec(None, None, None), _spec(None)
)


@tf.function(
    input_signature=[_COEFFICIENTS, _COEFFICIENTS, _spec(None), _spec(), _spec(None, None)],
    autograph=False,
)
def second_moments(
    left: HermiteCoefficients,
    right: HermiteCoefficients,
    jumps: tf.Tensor,
    reach: tf.Tensor,
    covariance: tf.Tensor,
) -> tf.Tensor:
    """Return `E[phi(z_i) phi(z_j)]`, shape `(left, right)`.

    Args:
        left: Units of the rows.
        right: Units of the columns, with the same activation.
        jumps: Float64 tensor, shape `(kinks,)`: jumps of the slope.
        reach: Float64 scalar, at most 1. Units with kinks take the integral at larger correlations.
        covariance: Float64 tensor, shape `(left, right)`: covariance of `z`.
    """
    r = covariance / (left.std[:, None] * right.std)
    r = tf.clip_by_value(r, -1.0, 1.0)
    size = tf.abs(r)
    reach = tf.where(tf.size(jumps) > 0, tf.minimum(reach, _rarely_exceeded(size)), 1.0)
    close = size > reach
    total = _power_series(left.powers, right.powers, tf.where(close, tf.zeros_like(r), r))
    pairs = tf.where(close)
    integrated = _angle_integral(left, right, jumps, pairs, tf.gather_nd(r, pairs))
    return tf.tensor_scatter_nd_update(total, pairs, integrated)


def _rarely_exceeded(size: tf.Tensor) -> tf.Tensor:
    """Estimate from a sample the correlation that a share `_MOST_CORRELATED` exceeds."""
    sample = tf.reshape(size[::8, ::8], [-1])
    share = tf.cast(_MOST_CORRELATED * tf.cast(tf.size(sample), tf.float64), tf.int32)
    return tf.math.top_k(sample, 1 + share).values[-1]


def _power_series(left: tf.Tensor, right: tf.Tensor, r: tf.Tensor) -> tf.Tensor:
    """Sum as many powers as the correlations and coefficients need, by Horner's scheme."""
    terms = tf.shape(left)[0]
    largest = tf.reduce_max(tf.abs(r)) ** tf.range(tf.cast(terms, tf.float64))
    missing = tf.cumsum(_largest_shares(left) * _largest_shares(right) * largest, reverse=True)
    # Not `~(missing < ...)`: TensorFlow rewrites that as `>=`, which is false for NaN.
    needed = tf.maximum(1, tf.reduce_sum(tf.cast(missing >= _PRECISION, tf.int32)))
    # A bound that is not finite says nothing: all terms are summed.
    terms = tf.where(tf.math.is_finite(missing[0]), needed, terms)
    right = tf.transpose(right, (0, 2, 1))  # long rows are quicker

    def add(k: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return k - 1, total * r + tf.matmul(left[k], right[k])

    highest = terms - 1
    return tf.while_loop(
        lambda k, _: k >= 0, add, (highest - 1, tf.matmul(left[highest], right[highest]))
    )[1]


def _largest_shares(powers: tf.Tensor) -> tf.Tensor:
    """Find each power's largest share in a unit's root second moment, shape `(powers,)`."""
    squares = tf.reduce_sum(tf.square(powers), axis=2)
    whole = tf.maximum(tf.reduce_sum(squares, axis=0), 1e-300)
    return tf.sqrt(tf.reduce_max(squares / whole, axis=1))


def _angle_integral(
    left: HermiteCoefficients,
    right: HermiteCoefficients,
    jumps: tf.Tensor,
    pairs: tf.Tensor,
    r: tf.Tensor,
) -> tf.Tensor:
    """Integrate the second moments of the given pairs over an angle.

    By Price's theorem the second derivative of `E[h_i h_j]` in the correlation is the normal
    density at the kinks. It is integrated twice with r = sin(angle), which removes its
    singularity at 1: `(r - sin) exp(-q / 2 cos^2) / 2 pi`, over angles up to asin(r).

    Args:
        left: Units of the rows.
        right: Units of the columns.
        jumps: Float64 tensor, shape `(kinks,)`: jumps of the slope.
        pairs: Int64 tensor, shape `(pairs, 2)`: rows and columns.
        r: Float64 tensor, shape `(pairs,)`: their correlations.
    """
    rows, columns = pairs[:, 0], pairs[:, 1]
    linear = tf.gather(left.powers[:2], rows, axis=1) * tf.gather(right.powers[:2], columns, axis=1)
    constant, linear = tf.unstack(tf.reduce_sum(linear, axis=-1), num=2)
    x = tf.gather(left.kinks, rows, axis=1)[:, None]  # (kinks, 1, pairs, components)
    y = tf.gather(right.kinks, columns, axis=1)[None]
    squares, product = 0.5 * (x * x + y * y), x * y
    weights = (jumps[:, None] * jumps)[:, :, None, None]
    half = 0.5 * tf.asin(r)
    nodes, shares = (tf.constant(part) for part in np.polynomial.legendre.leggauss(_ANGLES))

    def add(k: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        sine = tf.sin(half * (nodes[k] + 1.0))
        cosine2 = tf.maximum(1.0 - sine * sine, 1e-300)
        density = tf.exp((product * sine[:, None] - squares) / cosine2[:, None])
        density = tf.linalg.matvec(tf.reduce_sum(weights * density, axis=(0, 1)), left.factors)
        return k + 1, total + shares[k] * (r - sine) * density

    total = tf.while_loop(lambda k, _: k < _ANGLES, add, (0, tf.zeros_like(r)))[1]
    width = tf.gather(left.std, rows) * tf.gather(right.std, columns)
    return constant + linear * r + width * half * total / (2.0 * math.pi)
