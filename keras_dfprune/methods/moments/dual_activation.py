"""Correlations of normal pre-activations into second moments of units: the dual activation.

`E[phi(z_i) phi(z_j)]` of the arc-cosine kernels (Cho & Saul 2009) as a power series in the
correlation, or as an integral over an angle. One graph, traced once, for one block of pairs: what
it adds up stays in the same memory.
"""

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

# What powers left out have of a pair's root second moments, at most: how many a block takes.
_PRECISION = 1e-8
# The integral over an angle has so many nodes: relative error 2e-7 at correlation 1, 1e-8 below
# 0.9999, far less elsewhere; the ridge of the surgery is 1e-6.
_ANGLES = 12
# The closest pairs of a block take the integral in any case, for as much time as some 200 powers:
# the others need fewer.
_FEW_PAIRS = 0.005


class Coefficients(NamedTuple):
    """Units `phi(z)` with normal `z`: `E[h_i h_j] = sum_k c_ik c_jk r^k`, r the correlation of `z`.

    Attributes:
        std: Float64 tensor, shape `(units,)`: of `z`, positive.
        powers: Float64 tensor, shape `(powers, units, means)`: the normalised Hermite coefficients
            `c_k` of `phi(m + s t)` at each of several means, equally likely: the sum over means
            is the mean of the products.
        levels: Float64 tensor, shape `(kinks, units, means)`: `(kink - m) / s`; no kinks where
            `powers` are all that is known.
    """

    std: tf.Tensor
    powers: tf.Tensor
    levels: tf.Tensor

    def select(self, units: slice) -> "Coefficients":
        """Those of some of the units."""
        return Coefficients(self.std[units], self.powers[:, units], self.levels[:, units])


def reach_of(powers: int) -> float:
    """The largest correlation at which so many powers are enough."""
    return _PRECISION ** (1.0 / powers)


def _spec(*shape: int | None) -> tf.TensorSpec:
    return tf.TensorSpec(shape, tf.float64)


_COEFFICIENTS = Coefficients(_spec(None), _spec(None, None, None), _spec(None, None, None))


@tf.function(
    input_signature=[_COEFFICIENTS, _COEFFICIENTS, _spec(None), _spec(), _spec(None, None)],
    autograph=False,
)
def second_moments(
    left: Coefficients,
    right: Coefficients,
    jumps: tf.Tensor,
    reach: tf.Tensor,
    covariance: tf.Tensor,
) -> tf.Tensor:
    """`E[phi(z_i) phi(z_j)]`, shape `(units, others)`.

    Args:
        left: The units.
        right: The others, with the same activation.
        jumps: Float64 tensor, shape `(kinks,)`: of the slope.
        reach: Float64 scalar, at most 1: beyond this correlation kinks take the integral.
        covariance: Float64 tensor, shape `(units, others)`: of `z`.
    """
    r = covariance / (left.std[:, None] * right.std)
    r = tf.clip_by_value(r, -1.0, 1.0)
    size = tf.abs(r)
    reach = tf.where(tf.size(jumps) > 0, tf.minimum(reach, _all_but_few(size)), 1.0)
    close = size > reach
    total = _series(left.powers, right.powers, tf.where(close, tf.zeros_like(r), r))
    pairs = tf.where(close)
    found = _integrated(left, right, jumps, pairs, tf.gather_nd(r, pairs))
    return tf.tensor_scatter_nd_update(total, pairs, found)


def _all_but_few(size: tf.Tensor) -> tf.Tensor:
    """A correlation that few pairs are above, from a sample."""
    sample = tf.reshape(size[::8, ::8], [-1])
    few = 1 + tf.cast(_FEW_PAIRS * tf.cast(tf.size(sample), tf.float64), tf.int32)
    return tf.math.top_k(sample, few).values[-1]


def _series(left: tf.Tensor, right: tf.Tensor, r: tf.Tensor) -> tf.Tensor:
    """The sum over as many powers as correlations and coefficients need, by Horner's scheme."""
    terms = tf.shape(left)[0]
    largest = tf.reduce_max(tf.abs(r)) ** tf.range(tf.cast(terms, tf.float64))
    missing = tf.cumsum(_weight(left) * _weight(right) * largest, reverse=True)
    # Not as `~(missing < ...)`: TensorFlow makes that `>=`, which no NaN is.
    needed = tf.maximum(1, tf.reduce_sum(tf.cast(missing >= _PRECISION, tf.int32)))
    terms = tf.where(tf.math.is_finite(missing[0]), needed, terms)  # all where it is no number
    right = tf.transpose(right, (0, 2, 1))  # long rows are quicker

    def add(k: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return k - 1, total * r + tf.matmul(left[k], right[k])

    highest = terms - 1
    return tf.while_loop(
        lambda k, _: k >= 0, add, (highest - 1, tf.matmul(left[highest], right[highest]))
    )[1]


def _weight(powers: tf.Tensor) -> tf.Tensor:
    """The most that each power has of a unit's root second moment, shape `(powers,)`."""
    squares = tf.reduce_sum(tf.square(powers), axis=2)
    whole = tf.maximum(tf.reduce_sum(squares, axis=0), 1e-300)
    return tf.sqrt(tf.reduce_max(squares / whole, axis=1))


def _integrated(
    left: Coefficients, right: Coefficients, jumps: tf.Tensor, pairs: tf.Tensor, r: tf.Tensor
) -> tf.Tensor:
    """Some pairs, shape `(pairs, 2)`, with the correlations `r`, shape `(pairs,)`.

    By Price's theorem the second derivative in the correlation of `E[h_i h_j]` is the normal
    density at the kinks; it is integrated twice with r = sin(angle), and its singularity at 1 is
    gone: `(r - sin) exp(-q / 2 cos^2) / 2 pi`, over angles up to asin(r).
    """
    units, others = pairs[:, 0], pairs[:, 1]
    linear = tf.gather(left.powers[:2], units, axis=1) * tf.gather(right.powers[:2], others, axis=1)
    alone, linear = tf.unstack(tf.reduce_sum(linear, axis=-1), num=2)
    x = tf.gather(left.levels, units, axis=1)[:, None]  # (kinks, 1, pairs, means)
    y = tf.gather(right.levels, others, axis=1)[None]
    squares, product = 0.5 * (x * x + y * y), x * y
    weights = (jumps[:, None] * jumps)[:, :, None, None]
    half = 0.5 * tf.asin(r)
    nodes, shares = (tf.constant(one) for one in np.polynomial.legendre.leggauss(_ANGLES))

    def add(k: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        sine = tf.sin(half * (nodes[k] + 1.0))
        cosine2 = tf.maximum(1.0 - sine * sine, 1e-300)
        density = tf.exp((product * sine[:, None] - squares) / cosine2[:, None])
        density = tf.reduce_sum(weights * density, axis=(0, 1, 3))
        return k + 1, total + shares[k] * (r - sine) * density

    total = tf.while_loop(lambda k, _: k < _ANGLES, add, (0, tf.zeros_like(r)))[1]
    means = tf.cast(tf.shape(left.levels)[2], tf.float64)
    wide = tf.gather(left.std, units) * tf.gather(right.std, others)
    return alone + linear * r + wide * half * total / (2.0 * math.pi * means)
