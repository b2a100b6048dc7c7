"""Normal pre-activations and an activation into the first and second moments of the units.

For `z ~ N(m, K)` and `h = phi(z)`: `mean = E[h]`, `second = E[h h^T]`, the dual activation of the
arc-cosine kernels (Cho & Saul 2009). No sampling anywhere.
"""

import abc
import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from keras_dfprune.activations import Activation

# Panels of the quadrature over t in [-T, T], z = m + s t: uniform in t, where the normal density
# varies, and at fixed z, where activations bend. 12 nodes each: E[phi^2] of gelu, tanh and softplus
# to 1e-12 for s from 1e-3 to 100 (tests/test_gaussian.py).
_REACH = 9.0
_PANELS = np.linspace(-_REACH, _REACH, 13)
_BENDS = np.array([-16.0, -8.0, -4.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0])
_NODES = 12
# The expansion's tail is kept as one further power, so the diagonal is exact at any length.
_TERMS = 48
# Nodes over the angle in Price's integral: relative error 2e-7 at correlation 1, 1e-8 below 0.9999,
# far less elsewhere; the ridge of the surgery is 1e-6. It is half of a plan's time.
_ANGLES = 12
_BLOCK_ENTRIES = 2**18  # 2 MiB of float64 at a time: they stay in the cache


@dataclasses.dataclass(frozen=True, eq=False)
class UnitMoments:
    """First and second moments of a group's units.

    Attributes:
        mean: Float64 array, shape `(units,)`: `E[h]`.
        second: Float64 array, shape `(units, units)`: `E[h h^T]`.
    """

    mean: np.ndarray
    second: np.ndarray

    @property
    def covariance(self) -> np.ndarray:
        """`E[h h^T] - E[h] E[h]^T`, shape `(units, units)`."""
        return self.second - np.outer(self.mean, self.mean)

    def select(self, units: np.ndarray) -> "UnitMoments":
        """The moments of some of the units, in the order given."""
        return UnitMoments(self.mean[units], self.second[np.ix_(units, units)])

    def with_constant(self) -> np.ndarray:
        """The second moments of `(h, 1)`, shape `(units + 1, units + 1)`, the constant last."""
        mean = self.mean[:, None]
        return np.block([[self.second, mean], [mean.T, np.ones((1, 1))]])


def normal_moments(activation: Activation, mean: np.ndarray, covariance: np.ndarray) -> UnitMoments:
    """Moments of `phi(z)` for `z ~ N(mean, covariance)`.

    Piecewise-linear activations in closed form but for one smooth integral over an angle; the
    others by their Hermite expansion.

    Args:
        activation: An element-wise activation.
        mean: Float array, shape `(units,)`.
        covariance: Float array, shape `(units, units)`.

    Returns:
        The `UnitMoments` of the activated units, in float64.
    """
    units = activated(activation, mean, np.diagonal(covariance))
    return UnitMoments(units.expected, units.product(units, covariance))


def activated(activation: Activation, mean: np.ndarray, variance: np.ndarray) -> "Activated":
    """Units `phi(z)` with normal `z`, one by one: what their products with others are made of.

    Args:
        activation: An element-wise activation.
        mean: Float array, shape `(units,)`.
        variance: Float array, shape `(units,)`.
    """
    mean = np.asarray(mean, np.float64)
    std = np.sqrt(np.maximum(variance, 0.0))
    # A unit that never moves: any small width gives the same moments without a division by 0.
    std = np.maximum(std, 1e-12 * (1.0 + np.abs(mean)))
    if activation.linear_pieces is None or not math.isfinite(activation.slope):  # curves, or jumps
        return _Curved(activation, mean, std)
    return _PiecewiseLinear(activation, mean, std)


@dataclasses.dataclass(frozen=True, eq=False)
class Preactivations:
    """Normal pre-activations with an uncertain mean.

    Attributes:
        means: Float64 array, shape `(means, units)`: equally likely ones.
        covariance: Float64 array, shape `(units, units)`: around each of them.
    """

    means: np.ndarray
    covariance: np.ndarray

    def moments(self, activation: Activation) -> UnitMoments:
        """The moments of the units."""
        return mixture([normal_moments(activation, mean, self.covariance) for mean in self.means])

    def select(self, units: np.ndarray) -> "Preactivations":
        """Those of some of the units."""
        return Preactivations(self.means[:, units], self.covariance[np.ix_(units, units)])

    def with_sums(
        self, activation: Activation, shares: np.ndarray, level: np.ndarray
    ) -> np.ndarray:
        """Second moments of new units, and of the old ones with them.

        Args:
            activation: An element-wise activation.
            shares: Float array, shape `(new, units)`: the new pre-activations in the old.
            level: Float array, shape `(new,)`: constants added to them.

        Returns:
            Float64 array, shape `(units + new + 1, new + 1)`: `E[(h, h_new, 1) (h_new, 1)^T]`.
        """
        mixed = tf.matmul(shares, self.covariance).numpy()
        inner = tf.matmul(mixed, shares, transpose_b=True).numpy()
        parts = []
        for mean in self.means:
            old = activated(activation, mean, np.diagonal(self.covariance))
            new = activated(activation, shares @ mean + level, np.diagonal(inner))
            expected = np.concatenate([old.expected, new.expected, [1.0]])[:, None]
            rows = [old.product(new, mixed.T), new.product(new, inner), new.expected[None]]
            parts.append(np.concatenate([np.concatenate(rows), expected], axis=1))
        return np.mean(parts, axis=0)


def mixture(parts: Sequence[UnitMoments]) -> UnitMoments:
    """The moments of an equal mixture of distributions."""
    return UnitMoments(
        np.mean([part.mean for part in parts], axis=0),
        np.mean([part.second for part in parts], axis=0),
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
    return UnitMoments(tf.reduce_mean(values, axis=0).numpy(), second.numpy())


class Activated(abc.ABC):
    """Units `phi(z)` with normal `z`.

    Args:
        mean: Float array, shape `(units,)`: of `z`.
        std: Float array, shape `(units,)`: of `z`, positive.

    Attributes:
        expected: Float64 array, shape `(units,)`: `E[phi(z)]`.
    """

    expected: np.ndarray

    def __init__(self, mean: np.ndarray, std: np.ndarray):
        self.mean, self.std = mean, std

    def product(self, other: "Activated", covariance: np.ndarray) -> np.ndarray:
        """`E[phi(z_i) phi(z_j)]` of these units and others, shape `(units, others)`.

        Args:
            other: Units with the same activation; they may be the same ones.
            covariance: Float array, shape `(units, others)`: of `z`.
        """
        correlation = np.clip(covariance / np.outer(self.std, other.std), -1.0, 1.0)
        if other is self:
            np.fill_diagonal(correlation, 1.0)
        found = np.empty_like(correlation)
        step = max(1, _BLOCK_ENTRIES // max(len(other.std), 1))
        for k in range(0, len(self.std), step):
            rows, columns = slice(k, k + step), slice(k if other is self else 0, None)
            block = self._block(rows, columns, other, tf.constant(correlation[rows, columns]))
            found[rows, columns] = block.numpy()
            if other is self:
                found[columns, rows] = found[rows, columns].T
        return found

    @abc.abstractmethod
    def _block(self, rows: slice, columns: slice, other: "Activated", r: tf.Tensor) -> tf.Tensor:
        """A block of `product`, with the correlations `r`."""


class _PiecewiseLinear(Activated):
    """`E[h_i h_j] = c0_i c0_j + c1_i c1_j r + sum over pairs of kinks`.

    By Price's theorem the second derivative in the correlation r of `E[h_i h_j]` is the normal
    density at the kinks; integrated twice with r = sin(angle) its singularity at r = 1 is gone.
    """

    def __init__(self, activation: Activation, mean: np.ndarray, std: np.ndarray):
        super().__init__(mean, std)
        slopes, intercepts = np.array(activation.linear_pieces, np.float64).T
        kinks = np.array(activation.kinks, np.float64)
        self.level = (kinks[None, :] - mean[:, None]) / std[:, None]
        edge = np.full((len(mean), 1), np.inf)
        bounds = np.concatenate([-edge, self.level, edge], axis=1)
        mass = np.diff(0.5 * tf.math.erfc(-bounds / math.sqrt(2.0)).numpy(), axis=1)
        dense = np.diff(np.exp(-0.5 * bounds**2) / math.sqrt(2.0 * math.pi), axis=1)
        within = mean[:, None] * mass - std[:, None] * dense
        self.expected = within @ slopes + mass @ intercepts
        self.linear = std * (mass @ slopes)
        self._jumps = np.diff(slopes)

    def _block(
        self, rows: slice, columns: slice, other: "_PiecewiseLinear", r: tf.Tensor
    ) -> tf.Tensor:
        total = tf.constant(np.outer(self.linear[rows], other.linear[columns])) * r
        total += tf.constant(np.outer(self.expected[rows], other.expected[columns]))
        width = tf.constant(np.outer(self.std[rows], other.std[columns]))
        for a, jump in enumerate(self._jumps):
            for b, against in enumerate(self._jumps):
                gain = _price(r, self.level[rows, a], other.level[columns, b])
                total += jump * against * width * gain
        return total


def _price(r: tf.Tensor, level: np.ndarray, other: np.ndarray) -> tf.Tensor:
    """The integral over angles up to asin(r) of `(r - sin) exp(-q / 2 cos^2) / 2 pi`."""
    x, y = tf.constant(level[:, None]), tf.constant(other[None, :])
    squares, product = x * x + y * y, 2.0 * x * y
    half = 0.5 * tf.asin(r)
    total = tf.zeros_like(r)
    for angle, weight in zip(*np.polynomial.legendre.leggauss(_ANGLES), strict=True):
        theta = half * (angle + 1.0)
        sine = tf.sin(theta)
        cosine2 = tf.maximum(1.0 - sine * sine, 1e-300)
        total += weight * (r - sine) * tf.exp(-0.5 * (squares - product * sine) / cosine2)
    return half * total / (2.0 * math.pi)


class _Curved(Activated):
    """`E[h_i h_j] = sum_k c_ik c_jk r^k` with the normalised Hermite coefficients of each unit.

    What the expansion leaves out of `E[h_i^2]` is added as one further power: the diagonal is
    exact, and the matrix stays positive semidefinite (a sum of Schur products).
    """

    def __init__(self, activation: Activation, mean: np.ndarray, std: np.ndarray):
        super().__init__(mean, std)
        coefficients, square = _coefficients(activation.values, activation.kinks, mean, std)
        tail = np.sqrt(np.maximum(square - np.sum(coefficients**2, axis=1), 0.0))
        self.powers = np.concatenate([coefficients, tail[:, None]], axis=1)
        self.expected = coefficients[:, 0]

    def _block(self, rows: slice, columns: slice, other: "_Curved", r: tf.Tensor) -> tf.Tensor:
        total = tf.zeros_like(r)
        for k in range(self.powers.shape[1] - 1, -1, -1):  # Horner's scheme
            outer = np.outer(self.powers[rows, k], other.powers[columns, k])
            total = total * r + tf.constant(outer)
        return total


def _coefficients(
    values: Callable[[np.ndarray], np.ndarray],
    kinks: tuple[float, ...],
    mean: np.ndarray,
    std: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Normalised Hermite coefficients of `phi(m + s t)` and `E[phi^2]`, for each unit."""
    bends = np.concatenate([_BENDS, np.asarray(kinks, np.float64)])
    moved = (bends[None, :] - mean[:, None]) / std[:, None]
    fixed = np.broadcast_to(_PANELS, (len(mean), len(_PANELS)))
    ends = np.sort(np.clip(np.concatenate([fixed, moved], axis=1), -_REACH, _REACH), axis=1)
    node, weight = np.polynomial.legendre.leggauss(_NODES)
    half = 0.5 * np.diff(ends, axis=1)[:, :, None]
    middle = 0.5 * (ends[:, 1:] + ends[:, :-1])[:, :, None]
    t = (middle + half * node).reshape(len(mean), -1)
    density = (half * weight).reshape(t.shape) * np.exp(-0.5 * t**2) / math.sqrt(2.0 * math.pi)
    value = values((mean[:, None] + std[:, None] * t).T).T  # units last: each may have its own
    with np.errstate(over="ignore", invalid="ignore"):  # infinite moments are the caller's to see
        return _project(density * value, t), np.sum(density * value**2, axis=1)


def _project(weighted: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Sums over the nodes `t` of `weighted` times each normalised Hermite polynomial."""
    coefficients = np.empty((len(t), _TERMS))
    before, now = np.zeros_like(t), np.ones_like(t)
    for k in range(_TERMS):
        coefficients[:, k] = np.sum(weighted * now, axis=1)
        before, now = now, (t * now - math.sqrt(k) * before) / math.sqrt(k + 1)
    return coefficients
