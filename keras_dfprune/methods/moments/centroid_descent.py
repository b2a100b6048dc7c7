"""New units that are weighted sums of old ones, moved until they rebuild them best.

With `z' = M z + c` and the best linear surgery behind them, the expected squared change of the
outputs is `tr(A^T E[h h^T] A) - tr(B^T E[h' h'^T]^-1 B)`, `B = E[h' h^T] A`: a closed form in `M`
and `c`, followed down its gradient. No draws; the same prior as everywhere else.
"""

import math

import numpy as np
import tensorflow as tf

from keras_dfprune.methods.moments.unit_moments import Preactivations
from keras_dfprune.rules.activations import Activation

# Adam's first step, relative to the root mean square of what it moves; it falls to 0 with a
# cosine. Between 0.1 and 0.3 and from 150 steps on little changes (LeNet-5, 10 to 60 units).
RATE = 0.2
# Directions of the pre-activations with less than this share of the largest variance are dropped.
_CUT = 1e-10
_ANGLES = 16  # the gradient needs no more; the result is measured anew in full precision
_NODES, _TERMS = 96, 24  # Gauss-Hermite nodes and terms for activations that are curves


def descend(
    normal: Preactivations,
    activation: Activation,
    shares: np.ndarray,
    outgoing: tf.Tensor,
    *,
    constant: bool,
    level: bool,
    ridge: float,
    steps: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Moves new units downhill.

    Args:
        normal: The old units' pre-activations.
        activation: Theirs, and the new units'.
        shares: Float array, shape `(new, units)`: where to start.
        outgoing: Float64 tensor, shape `(units, outputs)`.
        constant: Whether a constant may take over, too.
        level: Whether new pre-activations may get a constant of their own.
        ridge: Relative ridge of the surgery.
        steps: Int: steps of Adam.

    Returns:
        The shares, shape `(new, units)`, and the new units' constants, shape `(new,)`.
    """
    problem = _Problem(normal, activation, outgoing, constant, ridge)
    moved = [tf.matmul(shares, problem.factor)]
    if level:
        moved.append(tf.zeros(len(shares), tf.float64))
    size = math.sqrt(tf.reduce_mean(moved[0] ** 2))
    slots = [[tf.zeros_like(one)] * 2 for one in moved]

    @tf.function(autograph=False)
    def gradients(moved: list[tf.Tensor]) -> tuple[tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            tape.watch(moved)
            gain = problem.gain(*moved)
        return gain, tape.gradient(gain, moved)

    best, kept = -math.inf, list(moved)
    for step in range(1, steps + 1):
        gain, slopes = gradients(moved)
        if not math.isfinite(float(gain)):
            break
        if float(gain) > best:
            best, kept = float(gain), list(moved)
        rate = 0.5 * RATE * (1.0 + math.cos(math.pi * (step - 1) / steps))
        correction = math.sqrt(1.0 - 0.99**step) / (1.0 - 0.9**step)
        for place, slope in enumerate(slopes):
            first, second = slots[place]
            first, second = 0.9 * first + 0.1 * slope, 0.99 * second + 0.01 * slope**2
            slots[place] = [first, second]
            moved[place] += rate * size * correction * first / (tf.sqrt(second) + 1e-300)
    found = tf.matmul(kept[0], problem.inverse).numpy()
    return found, kept[1].numpy() if level else np.zeros(len(found))


def gain_of(
    normal: Preactivations,
    activation: Activation,
    shares: np.ndarray,
    level: np.ndarray,
    outgoing: tf.Tensor,
    *,
    constant: bool,
    ridge: float,
) -> float:
    """How much of the outputs' expected square the new units save, `tr(B^T E[h' h'^T]^-1 B)`."""
    problem = _Problem(normal, activation, outgoing, constant, ridge)
    return float(problem.gain(tf.matmul(shares, problem.factor), tf.constant(level)))


class _Problem:
    """What the new units gain, in coordinates in which the old pre-activations are nearly white."""

    def __init__(self, normal, activation, outgoing, constant, ridge):
        spread = tf.matmul(normal.means, normal.means, transpose_a=True) / len(normal.means)
        values, vectors = tf.linalg.eigh(normal.covariance + spread)
        big = values > _CUT * tf.maximum(values[-1], 0.0)
        root, vectors = tf.sqrt(values[big]), tf.boolean_mask(vectors, big, axis=1)
        self.factor = vectors * root
        self.inverse = tf.transpose(vectors / root)
        white = tf.matmul(self.inverse, normal.covariance)
        self._white = white = tf.matmul(white, self.inverse, transpose_b=True)
        self._across = tf.matmul(self.factor, white)
        self._constant, self._ridge = constant, ridge
        self._outgoing = tf.convert_to_tensor(outgoing)
        std = np.sqrt(np.maximum(normal.variance, 1e-300))
        self._old = [
            _units(activation, tf.constant(mean), tf.constant(std)) for mean in normal.means
        ]
        self._means = [tf.linalg.matvec(self.inverse, mean) for mean in normal.means]
        self._activation = activation

    def gain(self, moved: tf.Tensor, level: tf.Tensor | float = 0.0) -> tf.Tensor:
        """`tr(B^T E[h' h'^T]^-1 B)`; with a constant that takes over, of the covariances."""
        across = tf.matmul(self._across, moved, transpose_b=True)
        within = tf.matmul(tf.matmul(moved, self._white), moved, transpose_b=True)
        std = tf.sqrt(tf.maximum(tf.linalg.diag_part(within), 1e-300))
        cross, second, first, wide = 0.0, 0.0, 0.0, 0.0
        for old, mean in zip(self._old, self._means, strict=True):
            new = _units(self._activation, tf.linalg.matvec(moved, mean) + level, std)
            cross += old.product(new, across) / len(self._old)
            second += new.product(new, within) / len(self._old)
            first += new.expected / len(self._old)
            wide += old.expected / len(self._old)
        width = tf.reduce_mean(tf.linalg.diag_part(second))
        if self._constant:
            cross -= wide[:, None] * first[None]
            second -= first[:, None] * first[None]
        second += self._ridge * width * tf.eye(std.shape[0], dtype=tf.float64)
        target = tf.matmul(cross, self._outgoing, transpose_a=True)
        half = tf.linalg.triangular_solve(tf.linalg.cholesky(second), target)
        return tf.reduce_sum(half**2)


def _units(activation: Activation, mean: tf.Tensor, std: tf.Tensor):
    bent = activation.linear_pieces is not None and math.isfinite(activation.slope)
    return (_Bent if bent else _Curved)(activation, mean, std)


class _Bent:
    """Piecewise-linear units, as in `activated.py`, on tensors that a gradient passes."""

    def __init__(self, activation: Activation, mean: tf.Tensor, std: tf.Tensor):
        slopes, intercepts = np.array(activation.linear_pieces, np.float64).T
        kinks = tf.constant(activation.kinks, tf.float64)
        self.std, self.jumps = std, np.diff(slopes)
        self.level = (kinks - mean[:, None]) / std[:, None]
        below = 0.5 * tf.math.erfc(-self.level / math.sqrt(2.0))
        dense = tf.exp(-0.5 * self.level**2) / math.sqrt(2.0 * math.pi)
        end = tf.zeros_like(mean)[:, None]
        below = tf.concat([end, below, end + 1.0], axis=1)
        dense = tf.concat([end, dense, end], axis=1)
        mass = below[:, 1:] - below[:, :-1]
        within = mean[:, None] * mass - std[:, None] * (dense[:, 1:] - dense[:, :-1])
        self.expected = tf.linalg.matvec(within, slopes) + tf.linalg.matvec(mass, intercepts)
        self.linear = std * tf.linalg.matvec(mass, slopes)

    def product(self, other: "_Bent", covariance: tf.Tensor) -> tf.Tensor:
        width = self.std[:, None] * other.std[None]
        r = tf.clip_by_value(covariance / width, -1.0 + 1e-9, 1.0 - 1e-9)
        total = self.expected[:, None] * other.expected[None]
        total += self.linear[:, None] * other.linear[None] * r
        half = 0.5 * tf.asin(r)
        for angle, weight in zip(*np.polynomial.legendre.leggauss(_ANGLES), strict=True):
            sine = tf.sin(half * (angle + 1.0))
            share = weight * (r - sine) * half * width / (2.0 * math.pi)
            for a, jump in enumerate(self.jumps):
                for b, against in enumerate(other.jumps):
                    x, y = self.level[:, a][:, None], other.level[:, b][None]
                    distance = (x * x + y * y - 2.0 * x * y * sine) / (1.0 - sine * sine)
                    total += jump * against * share * tf.exp(-0.5 * distance)
        return total


class _Curved:
    """Other units by their Hermite expansion at fixed nodes."""

    def __init__(self, activation: Activation, mean: tf.Tensor, std: tf.Tensor):
        nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
        powers = [np.ones(_NODES), nodes]
        for k in range(1, _TERMS - 1):
            powers.append((nodes * powers[k] - math.sqrt(k) * powers[k - 1]) / math.sqrt(k + 1))
        density = weights / math.sqrt(2.0 * math.pi)
        value = activation.function(mean[:, None] + std[:, None] * nodes)
        self.std = std
        self.coefficients = tf.matmul(value, tf.constant((np.stack(powers) * density).T))
        square = tf.linalg.matvec(value**2, density)
        left = square - tf.reduce_sum(self.coefficients**2, axis=1)
        self.tail = tf.sqrt(tf.maximum(left, 1e-12 * square + 1e-300))
        self.expected = self.coefficients[:, 0]

    def product(self, other: "_Curved", covariance: tf.Tensor) -> tf.Tensor:
        r = tf.clip_by_value(covariance / (self.std[:, None] * other.std[None]), -1.0, 1.0)
        total = self.tail[:, None] * other.tail[None]
        for k in range(_TERMS - 1, -1, -1):
            total = total * r + self.coefficients[:, k][:, None] * other.coefficients[:, k][None]
        return total
