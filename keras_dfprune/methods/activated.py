"""Units with normal pre-activations, one by one, into the second moments of any two of them.

The dual activation `E[phi(z_i) phi(z_j)]` of the arc-cosine kernels (Cho & Saul 2009) as a power
series in the correlation, or as an integral over an angle. No sampling anywhere.
"""

import abc
import math
from collections.abc import Callable, Iterator

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
# Powers of the correlation. What they leave out of E[phi^2] is kept as one further power, so the
# diagonal of a smooth activation is exact at any length.
_TERMS = 48
# The next power is below this at the largest correlation of a block: how many powers it takes.
_PRECISION = 1e-8
# Above this correlation `_TERMS` powers don't reach that, and kinks take an integral over an angle
# instead, with so many nodes: relative error 2e-7 at correlation 1, 1e-8 below 0.9999, far less
# elsewhere; the ridge of the surgery is 1e-6. Up to a tenth of the pairs of a trained layer.
_REACH_OF_POWERS = _PRECISION ** (1.0 / _TERMS)
_ANGLES = 12
# The closest pairs of a block take the integral in any case, for as much time as some 200 powers:
# the others need fewer.
_FEW_PAIRS = 0.005
# Beyond so many standard deviations the normal density is 0 in float64.
_NEVER = 40.0
_BLOCK_ENTRIES = 2**18  # 2 MiB of float64 at a time: they stay in the cache


def activated(activation: Activation, means: np.ndarray, variance: np.ndarray) -> "Activated":
    """Units `phi(z)` with normal `z`, one by one: what their products with others are made of.

    Args:
        activation: An element-wise activation.
        means: Float array, shape `(means, units)`: equally likely ones.
        variance: Float array, shape `(units,)`: around each of them.
    """
    means = np.asarray(means, np.float64)
    std = np.sqrt(np.maximum(variance, 0.0))
    # A unit that never moves: any small width gives the same moments without a division by 0.
    std = np.maximum(std, 1e-12 * (1.0 + np.max(np.abs(means), axis=0)))
    if activation.linear_pieces is None or not math.isfinite(activation.slope):  # curves, or jumps
        return _Curved(activation, means, std)
    return _PiecewiseLinear(activation, means, std)


class Activated(abc.ABC):
    """Units `phi(z)` with normal `z`: `E[h_i h_j] = sum_k c_ik c_jk r^k`, r the correlation of `z`.

    `c_k` are the normalised Hermite coefficients of `phi(m + s t)`; over several means, each
    equally likely, `c_ik c_jk` is the mean of the products.

    Args:
        means: Float array, shape `(means, units)`: of `z`.
        std: Float array, shape `(units,)`: of `z`, positive.
        powers: Float array, shape `(powers, units, means)`: the coefficients.
    """

    def __init__(self, means: np.ndarray, std: np.ndarray, powers: np.ndarray):
        self.means, self.std = means, std
        self.expected = np.mean(powers[0], axis=1)
        self.powers = powers / math.sqrt(len(means))

    def product(self, other: "Activated", covariance: np.ndarray) -> np.ndarray:
        """`E[phi(z_i) phi(z_j)]` of these units and others, shape `(units, others)`.

        Args:
            other: Units with the same activation; they may be the same ones.
            covariance: Float array, shape `(units, others)`: of `z`.
        """
        found = np.empty(covariance.shape)
        step = max(1, _BLOCK_ENTRIES // max(len(other.std), 1))
        for k in range(0, len(self.std), step):
            rows, columns = slice(k, k + step), slice(k if other is self else 0, None)
            r = covariance[rows, columns] / self.std[rows, None]
            r /= other.std[None, columns]
            block = self._block(rows, columns, other, np.clip(r, -1.0, 1.0, out=r))
            found[rows, columns] = block
            if other is self:
                found[columns, rows] = block.T
        return found

    @abc.abstractmethod
    def _block(self, rows: slice, columns: slice, other: "Activated", r: np.ndarray) -> np.ndarray:
        """A block of `product`, with the correlations `r`."""

    def _series(self, rows: slice, columns: slice, other: "Activated", r: np.ndarray) -> np.ndarray:
        """The sum over as many powers as the largest correlation needs, by Horner's scheme."""
        largest, terms = np.max(np.abs(r), initial=0.0), len(self.powers)
        if largest < _REACH_OF_POWERS:
            terms = min(terms, 1 + int(math.log(_PRECISION) / math.log(max(largest, 1e-300))))
        left, right = self.powers[:terms, rows], other.powers[:terms, columns]
        right = np.ascontiguousarray(right.transpose(0, 2, 1))  # long rows are quicker
        total, one = left[terms - 1] @ right[terms - 1], np.empty_like(r)
        for k in range(terms - 2, -1, -1):
            total *= r
            total += np.matmul(left[k], right[k], out=one)
        return total


class _PiecewiseLinear(Activated):
    """Closed-form coefficients: beyond the first two only the kinks count.

    By Price's theorem the second derivative in the correlation r of `E[h_i h_j]` is the normal
    density at the kinks, `sum_k He_k(x) He_k(y) r^k / k!` times both densities (Mehler); near
    r = 1 it is integrated twice with r = sin(angle), and its singularity there is gone.
    """

    def __init__(self, activation: Activation, means: np.ndarray, std: np.ndarray):
        slopes, intercepts = np.array(activation.linear_pieces, np.float64).T
        kinks = np.array(activation.kinks, np.float64)
        level = (kinks - means[..., None]) / std[:, None]  # (means, units, kinks)
        edge = np.full((*means.shape, 1), np.inf)
        bounds = np.concatenate([-edge, level, edge], axis=-1)
        mass = np.diff(0.5 * tf.math.erfc(-bounds / math.sqrt(2.0)).numpy())
        dense = np.exp(-0.5 * bounds**2) / math.sqrt(2.0 * math.pi)
        within = means[..., None] * mass - std[:, None] * np.diff(dense)
        powers = np.zeros((_TERMS, len(std), len(means)))
        powers[0] = (within @ slopes + mass @ intercepts).T
        powers[1] = (std * (mass @ slopes)).T
        bent = std[:, None] * dense[..., 1:-1] * np.diff(slopes)
        for k, hermite in enumerate(_hermite(np.clip(level, -_NEVER, _NEVER), _TERMS - 2), 2):
            powers[k] = np.sum(bent * hermite, axis=-1).T / math.sqrt(k * (k - 1))
        super().__init__(means, std, powers)
        self.level, self._jumps = level, np.diff(slopes)

    def _block(
        self, rows: slice, columns: slice, other: "_PiecewiseLinear", r: np.ndarray
    ) -> np.ndarray:
        size = np.abs(r)
        reach = min(_REACH_OF_POWERS, np.quantile(size[::8, ::8], 1.0 - _FEW_PAIRS))
        far = np.flatnonzero(size > reach)
        close = r.reshape(-1)[far]
        r.reshape(-1)[far] = 0.0
        total = self._series(rows, columns, other, r)
        i, j = np.divmod(far, r.shape[1])
        found = self._integrated(i + rows.start, j + columns.start, other, close)
        total.reshape(-1)[far] = found
        return total

    def _integrated(
        self, i: np.ndarray, j: np.ndarray, other: "_PiecewiseLinear", r: np.ndarray
    ) -> np.ndarray:
        """Some pairs of units, with the correlations `r`, shape `(pairs,)`."""
        alone, linear = np.sum(self.powers[:2, i] * other.powers[:2, j], axis=-1)
        gain = np.zeros_like(r)
        for a, jump in enumerate(self._jumps):
            for b, against in enumerate(self._jumps):
                for x, y in zip(self.level[:, i, a], other.level[:, j, b], strict=True):
                    gain += jump * against * _price(r, x, y)
        return alone + linear * r + self.std[i] * other.std[j] * gain / len(self.means)


def _price(r: np.ndarray, level: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The integral over angles up to asin(r) of `(r - sin) exp(-q / 2 cos^2) / 2 pi`."""
    squares, product = 0.5 * (level**2 + other**2), level * other
    half = 0.5 * np.arcsin(r)
    total = np.zeros_like(r)
    for angle, weight in zip(*np.polynomial.legendre.leggauss(_ANGLES), strict=True):
        sine = np.sin(half * (angle + 1.0))
        cosine2 = np.maximum(1.0 - sine * sine, 1e-300)
        total += weight * (r - sine) * np.exp((product * sine - squares) / cosine2)
    return half * total / (2.0 * math.pi)


class _Curved(Activated):
    """Coefficients by quadrature.

    What they leave out of `E[h_i^2]` is added as one further power: the diagonal is exact, and
    the matrix stays positive semidefinite (a sum of Schur products).
    """

    def __init__(self, activation: Activation, means: np.ndarray, std: np.ndarray):
        powers = []
        for mean in means:
            coefficients, square = _coefficients(activation.values, activation.kinks, mean, std)
            tail = np.sqrt(np.maximum(square - np.sum(coefficients**2, axis=0), 0.0))
            powers.append(np.concatenate([coefficients, tail[None]]))
        super().__init__(means, std, np.stack(powers, axis=-1))

    def _block(self, rows: slice, columns: slice, other: "_Curved", r: np.ndarray) -> np.ndarray:
        return self._series(rows, columns, other, r)


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
    return np.stack([np.sum(weighted * hermite, axis=1) for hermite in _hermite(t, _TERMS)])


def _hermite(t: np.ndarray, terms: int) -> Iterator[np.ndarray]:
    """The normalised Hermite polynomials `He_k(t) / sqrt(k!)`, k from 0."""
    before, now = np.zeros_like(t), np.ones_like(t)
    for k in range(terms):
        yield now
        before, now = now, (t * now - math.sqrt(k) * before) / math.sqrt(k + 1)
