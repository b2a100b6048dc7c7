"""Units with normal pre-activations, one by one, into the second moments of any two of them.

Each unit into the coefficients that `dual_activation.py` takes, in closed form or by quadrature; no
sampling anywhere.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from keras_dfprune.methods.moments import symmetric_matrices
from keras_dfprune.methods.moments.dual_activation import Coefficients, reach_of, second_moments
from keras_dfprune.rules.activations import Activation

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
# Above this correlation kinks take an integral over an angle instead: up to a tenth of the pairs
# of a trained layer.
_REACH_OF_POWERS = reach_of(_TERMS)
# Beyond so many standard deviations the normal density is 0 in float64.
_NEVER = 40.0
_BLOCK_ENTRIES = 2**18  # 2 MiB of float64 at a time: they stay in the cache
_WHOLE = 512  # units from which on those above the diagonal are not computed


@dataclasses.dataclass(frozen=True, eq=False)
class Activated:
    """Units `phi(z)` with normal `z`, one by one: what their products with others are made of.

    Attributes:
        expected: Float64 array, shape `(units,)`: `E[phi(z)]`.
        coefficients: The `Coefficients`.
        jumps: Float64 array, shape `(kinks,)`: of the slope; empty for curves.
    """

    expected: np.ndarray
    coefficients: Coefficients
    jumps: np.ndarray

    def product(self, other: "Activated", covariance: tf.Tensor) -> tf.Tensor:
        """`E[phi(z_i) phi(z_j)]` of these units and others, shape `(units, others)`.

        Args:
            other: Units with the same activation; they may be the same ones.
            covariance: Float64 tensor, shape `(units, others)`: of `z`.
        """

        def block(rows: slice, columns: slice) -> tf.Tensor:
            step = max(1, _BLOCK_ENTRIES // (columns.stop - columns.start))
            starts = range(rows.start, rows.stop, step)
            parts = [slice(first, min(first + step, rows.stop)) for first in starts]
            right = other.coefficients.select(columns)
            found = [
                second_moments(
                    self.coefficients.select(part),
                    right,
                    self.jumps,
                    _REACH_OF_POWERS,
                    covariance[part, columns],
                )
                for part in parts
            ]
            return tf.concat(found, axis=0)

        units, others = slice(0, len(self.expected)), slice(0, len(other.expected))
        if other is self:
            return symmetric_matrices.by_halves(block, units, _WHOLE)
        return block(units, others)


def activated(activation: Activation, means: np.ndarray, variance: np.ndarray) -> Activated:
    """Units `phi(z)` with normal `z`.

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
        powers, levels, jumps = _curved(activation, means, std), np.zeros((0, *means.T.shape)), []
    else:
        powers, levels, jumps = _piecewise_linear(activation, means, std)
    coefficients = (std, powers / math.sqrt(len(means)), levels)
    return Activated(
        np.mean(powers[0], axis=1),
        Coefficients(*(tf.constant(one) for one in coefficients)),
        np.asarray(jumps, np.float64),
    )


def _piecewise_linear(
    activation: Activation, means: np.ndarray, std: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The powers, levels and jumps in closed form: beyond the first two only the kinks count.

    By Price's theorem the second derivative in the correlation r of `E[h_i h_j]` is the normal
    density at the kinks, `sum_k He_k(x) He_k(y) r^k / k!` times both densities (Mehler).
    """
    slopes, intercepts = np.array(activation.linear_pieces, np.float64).T
    kinks = np.array(activation.kinks, np.float64)
    level = (kinks - means[..., None]) / std[:, None]  # (means, units, kinks)
    edge = np.full((*means.shape, 1), np.inf)
    bounds = np.concatenate([-edge, level, edge], axis=-1)
    mass = np.diff(0.5 * tf.math.erfc(-bounds / math.sqrt(2.0)).numpy())
    dense = np.exp(-0.5 * bounds**2) / math.sqrt(2.0 * math.pi)
    within = means[..., None] * mass - std[:, None] * np.diff(dense)
    powers = np.zeros((_TERMS if len(kinks) else 2, len(std), len(means)))
    powers[0] = (within @ slopes + mass @ intercepts).T
    powers[1] = (std * (mass @ slopes)).T
    bent = std[:, None] * dense[..., 1:-1] * np.diff(slopes)
    hermite = _hermite(np.clip(level, -_NEVER, _NEVER), len(powers) - 2)
    for k, values in enumerate(hermite, 2):
        powers[k] = np.sum(bent * values, axis=-1).T / math.sqrt(k * (k - 1))
    return powers, level.transpose(2, 1, 0), np.diff(slopes)


def _curved(activation: Activation, means: np.ndarray, std: np.ndarray) -> np.ndarray:
    """The powers by quadrature.

    What they leave out of `E[h_i^2]` is added as one further power: the diagonal is exact, and
    the matrix stays positive semidefinite (a sum of Schur products).
    """
    powers = []
    for mean in means:
        coefficients, square = _coefficients(activation.values, activation.kinks, mean, std)
        tail = np.sqrt(np.maximum(square - np.sum(coefficients**2, axis=0), 0.0))
        powers.append(np.concatenate([coefficients, tail[None]]))
    return np.stack(powers, axis=-1)


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
