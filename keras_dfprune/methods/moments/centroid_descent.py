"""Move new units, weighted sums of old units, until they rebuild the outputs best.

With pre-activations `z' = M z + c` of the new units and the best linear surgery behind them, the
expected squared change of the outputs is
`tr(A^T E[h h^T] A) - tr(B^T E[h' h'^T]^-1 B)`, `B = E[h' h^T] A`. That is a closed form in `M` and
`c`, so its gradient can be followed without draws, under the same prior as everything else.
"""

import abc
import math
from typing import TypeVar

import numpy as np
import tensorflow as tf

from keras_dfprune.methods.adam import Adam
from keras_dfprune.methods.moments.activated_units import is_piecewise_linear
from keras_dfprune.methods.moments.unit_moments import Preactivations
from keras_dfprune.rules.activations import Activation

# First learning rate, relative to the root mean square of the coordinates; it falls to 0 with a
# cosine. Measured: docs/research/measurements.md.
RATE = 0.2
# Directions of the pre-activations with less than this share of the largest variance are dropped.
_NEGLIGIBLE = 1e-10
# Nodes of the integral over an angle: the gradient needs no more, and the result is measured again
# in full precision.
_ANGLES = 16
_NODES, _TERMS = 96, 24  # Gauss-Hermite nodes, and Hermite terms, of smooth activations


class CentroidProblem:
    """Choice of new units that rebuild a layer's outputs, in convenient coordinates.

    In these coordinates the old pre-activations are nearly white.

    Args:
        preactivations: Pre-activations of the old units.
        activation: Activation of the old and the new units.
        outgoing: Float64 tensor, shape `(units, outputs)`: outgoing weights of the old units.
        offset_allowed: Whether a constant makes up for the means.
        ridge: Non-negative float, relative to the mean second moment of the new units.
    """

    def __init__(
        self,
        preactivations: Preactivations,
        activation: Activation,
        outgoing: tf.Tensor,
        *,
        offset_allowed: bool,
        ridge: float,
    ) -> None:
        means, covariance = preactivations.means, preactivations.covariance
        spread = tf.matmul(means, means, transpose_a=True) / len(means)
        values, vectors = tf.linalg.eigh(covariance + spread)
        large = values > _NEGLIGIBLE * tf.maximum(values[-1], 0.0)
        root, vectors = tf.sqrt(values[large]), tf.boolean_mask(vectors, large, axis=1)
        self._factor, self._inverse = vectors * root, tf.transpose(vectors / root)
        within = tf.matmul(self._inverse, covariance)
        self._within = tf.matmul(within, self._inverse, transpose_b=True)
        self._across = tf.matmul(self._factor, self._within)
        self._means = [tf.linalg.matvec(self._inverse, mean) for mean in means]
        self._activation = activation
        self._outgoing = tf.convert_to_tensor(outgoing)
        self._offset_allowed, self._ridge = offset_allowed, ridge
        std = tf.constant(np.sqrt(np.maximum(preactivations.variance, 1e-300)))
        self._old = [_activate(activation, tf.constant(mean), std) for mean in means]

    def coordinates(self, shares: np.ndarray) -> tf.Tensor:
        """Convert weights of sums, shape `(new, units)`, into coordinates."""
        return tf.matmul(shares, self._factor)

    def shares(self, coordinates: tf.Tensor) -> np.ndarray:
        """Convert coordinates into weights of sums, shape `(new, units)`."""
        return tf.matmul(coordinates, self._inverse).numpy()

    def gain(self, coordinates: tf.Tensor, bias: tf.Tensor | float = 0.0) -> tf.Tensor:
        """Return the part of the outputs' expected square that the new units rebuild.

        It is `tr(B^T E[h' h'^T]^-1 B)`, with covariances where a constant makes up for the means.

        Args:
            coordinates: Float64 tensor: the new units.
            bias: Float64 tensor, shape `(new,)`: constants added to the new pre-activations.

        Returns:
            Float64 scalar.
        """
        across = tf.matmul(self._across, coordinates, transpose_b=True)
        within = tf.matmul(tf.matmul(coordinates, self._within), coordinates, transpose_b=True)
        std = tf.sqrt(tf.maximum(tf.linalg.diag_part(within), 1e-300))
        cross = second = old_mean = new_mean = tf.zeros((), tf.float64)
        for old, mean in zip(self._old, self._means, strict=True):
            new = _activate(self._activation, tf.linalg.matvec(coordinates, mean) + bias, std)
            cross += old.cross_moments(new, across) / len(self._old)
            second += new.cross_moments(new, within) / len(self._old)
            new_mean += new.expected / len(self._old)
            old_mean += old.expected / len(self._old)
        mean_square = tf.reduce_mean(tf.linalg.diag_part(second))
        if self._offset_allowed:
            cross -= old_mean[:, None] * new_mean[None]
            second -= new_mean[:, None] * new_mean[None]
        second += self._ridge * mean_square * tf.eye(std.shape[0], dtype=tf.float64)
        target = tf.matmul(cross, self._outgoing, transpose_a=True)
        half = tf.linalg.triangular_solve(tf.linalg.cholesky(second), target)
        return tf.reduce_sum(half**2)


def descend(
    problem: CentroidProblem, shares: np.ndarray, *, with_bias: bool, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Move new units down the gradient of the expected error.

    Args:
        problem: The old units and their outputs.
        shares: Float array, shape `(new, units)`: weights of the sums to start from.
        with_bias: Whether the new units may get biases.
        steps: Int: steps of Adam.

    Returns:
        The best weights seen, shape `(new, units)`, and the new units' biases, shape `(new,)`.
    """
    start = problem.coordinates(shares)
    variables = [tf.Variable(start)]
    if with_bias:
        variables.append(tf.Variable(tf.zeros(len(shares), tf.float64)))
    size = math.sqrt(tf.reduce_mean(start**2))
    adam = Adam(variables, new_square=0.01, epsilon=1e-300)

    @tf.function(autograph=False)
    def gain_and_gradients(values: list[tf.Tensor]) -> tuple[tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            tape.watch(values)
            gain = problem.gain(*values)
        return gain, tape.gradient(gain, values)

    best_gain, best = -math.inf, [tf.identity(variable) for variable in variables]
    for step in range(steps):
        values = [tf.identity(variable) for variable in variables]
        gain, gradients = gain_and_gradients(values)
        if not math.isfinite(float(gain)):
            break
        if float(gain) > best_gain:
            best_gain, best = float(gain), values
        rate = 0.5 * RATE * (1.0 + math.cos(math.pi * step / steps))
        adam.apply([-gradient for gradient in gradients], rate * size)  # up: it is a gain
    bias = best[1].numpy() if with_bias else np.zeros(len(shares))
    return problem.shares(best[0]), bias


_Units = TypeVar("_Units", bound="_NormalUnits")


class _NormalUnits(abc.ABC):
    """Units with normal pre-activations, as tensors that gradients pass.

    Attributes:
        expected: Float64 tensor, shape `(units,)`: their expected values.
    """

    expected: tf.Tensor

    @abc.abstractmethod
    def cross_moments(self: _Units, other: _Units, covariance: tf.Tensor) -> tf.Tensor:
        """Return the second moments of these and other units, shape `(units, other units)`.

        Args:
            other: Units with the same activation.
            covariance: Float64 tensor, shape `(units, other units)`: covariance of the
                pre-activations.
        """


class _PiecewiseLinearUnits(_NormalUnits):
    """Piecewise-linear units, in closed form as in `activated_units.py`.

    Args:
        activation: A piecewise-linear activation without jumps.
        mean: Float64 tensor, shape `(units,)`: mean of the pre-activations.
        std: Float64 tensor, shape `(units,)`: their standard deviation.
    """

    def __init__(self, activation: Activation, mean: tf.Tensor, std: tf.Tensor) -> None:
        slopes, intercepts = np.array(activation.linear_pieces, np.float64).T
        kinks = tf.constant(activation.kinks, tf.float64)
        self.std, self.jumps = std, np.diff(slopes)
        self.kinks = (kinks - mean[:, None]) / std[:, None]
        below = 0.5 * tf.math.erfc(-self.kinks / math.sqrt(2.0))
        density = tf.exp(-0.5 * self.kinks**2) / math.sqrt(2.0 * math.pi)
        end = tf.zeros_like(mean)[:, None]
        below = tf.concat([end, below, end + 1.0], axis=1)
        density = tf.concat([end, density, end], axis=1)
        mass = below[:, 1:] - below[:, :-1]
        partial_mean = mean[:, None] * mass - std[:, None] * (density[:, 1:] - density[:, :-1])
        self.expected = tf.linalg.matvec(partial_mean, slopes) + tf.linalg.matvec(mass, intercepts)
        self.linear = std * tf.linalg.matvec(mass, slopes)

    def cross_moments(self, other: "_PiecewiseLinearUnits", covariance: tf.Tensor) -> tf.Tensor:
        width = self.std[:, None] * other.std[None]
        r = tf.clip_by_value(covariance / width, -1.0 + 1e-9, 1.0 - 1e-9)
        total = self.expected[:, None] * other.expected[None]
        total += self.linear[:, None] * other.linear[None] * r
        half = 0.5 * tf.asin(r)
        for angle, weight in zip(*np.polynomial.legendre.leggauss(_ANGLES), strict=True):
            sine = tf.sin(half * (angle + 1.0))
            share = weight * (r - sine) * half * width / (2.0 * math.pi)
            for a, jump in enumerate(self.jumps):
                for b, other_jump in enumerate(other.jumps):
                    x, y = self.kinks[:, a][:, None], other.kinks[:, b][None]
                    distance = (x * x + y * y - 2.0 * x * y * sine) / (1.0 - sine * sine)
                    total += jump * other_jump * share * tf.exp(-0.5 * distance)
        return total


class _SmoothUnits(_NormalUnits):
    """Other units by their Hermite expansion at fixed nodes.

    Args:
        activation: An element-wise activation.
        mean: Float64 tensor, shape `(units,)`: mean of the pre-activations.
        std: Float64 tensor, shape `(units,)`: their standard deviation.
    """

    def __init__(self, activation: Activation, mean: tf.Tensor, std: tf.Tensor) -> None:
        nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
        powers = [np.ones(_NODES), nodes]
        for k in range(1, _TERMS - 1):
            powers.append((nodes * powers[k] - math.sqrt(k) * powers[k - 1]) / math.sqrt(k + 1))
        density = weights / math.sqrt(2.0 * math.pi)
        value = activation.function(mean[:, None] + std[:, None] * nodes)
        self.std = std
        self.coefficients = tf.matmul(value, tf.constant((np.stack(powers) * density).T))
        square = tf.linalg.matvec(value**2, density)
        left_out = square - tf.reduce_sum(self.coefficients**2, axis=1)
        self.left_out = tf.sqrt(tf.maximum(left_out, 1e-12 * square + 1e-300))
        self.expected = self.coefficients[:, 0]

    def cross_moments(self, other: "_SmoothUnits", covariance: tf.Tensor) -> tf.Tensor:
        r = tf.clip_by_value(covariance / (self.std[:, None] * other.std[None]), -1.0, 1.0)
        total = self.left_out[:, None] * other.left_out[None]
        for k in range(_TERMS - 1, -1, -1):
            total = total * r + self.coefficients[:, k][:, None] * other.coefficients[:, k][None]
        return total


def _activate(activation: Activation, mean: tf.Tensor, std: tf.Tensor) -> _NormalUnits:
    kind = _PiecewiseLinearUnits if is_piecewise_linear(activation) else _SmoothUnits
    return kind(activation, mean, std)
