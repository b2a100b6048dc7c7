"""What is assumed of the inputs into their distribution: the prior.

Inputs that the user knows have their mean and deviation; of the others both are read off the
weights that receive them, for gradient descent leaves its trace there.
"""

import dataclasses
import math
import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from keras_dfprune.methods.base import Feed
from keras_dfprune.methods.full_precision import full_precision
from keras_dfprune.methods.moments.symmetric_matrices import gram, with_ridge

# Weights that gradient descent has trained lie in the span of the data: half of the prior's
# covariance is theirs; between 0.5 and 0.8 nothing changes beyond noise. Where the features'
# deviations are known: 8.9 points lost at 0.5, 7.6 at 0.8 (mean of 13 networks, 60 to 98 %).
WEIGHTS_SHARE = 0.5
KNOWN_SHARE = 0.8
# The automatic scale sets the root mean square deviation of the pre-activations over the units: a
# network works where its activations bend and its biases matter. Ten times the biases, but half a
# unit at least: measured from 0.15 to 2, flat from 0.3 to 1. It doesn't depend on the inputs' unit
# of measure: a fixed variance of the inputs loses 70 points where they are a hundred times smaller.
PREACTIVATION_STD = 0.5
STD_OVER_BIAS = 10.0
# The inputs' mean is t times a vector read off the weights (`assume`) that moves the
# pre-activations by t standard deviations, root mean square; t uniform on this interval. Images
# lie at 0.5 to 1.3 (and the vector's correlation with the truth at 0.5 to 0.8), standardised
# inputs at 0, hence more room above. LeNet-300-100 on Fashion-MNIST at 60, 70, 80 % of the units,
# mean of two seeds: 86.1, 83.8, 75.2 at zero mean, 87.0, 86.0, 80.2 so; MNIST, gelu, digits and
# standardised inputs change less than their noise. Refined: 88.1 and 89.5 (`sampler.ACTIVE`).
MEAN_RANGE = (-0.25, 0.75)
# Gauss-Legendre with two nodes: the interval's mean and variance.
MEAN_NODES = np.mean(MEAN_RANGE) + np.array([-1.0, 1.0]) * np.ptp(MEAN_RANGE) / math.sqrt(12.0)
# Relative to the mean variance: what keeps a measured mean from being explained by directions
# that the weights hardly see.
MEAN_RIDGE = 1e-2


@dataclasses.dataclass(frozen=True, eq=False)
class Prior:
    """What is assumed of the inputs.

    Attributes:
        kind: `"weights"`: `Sigma ~ I/2 + R/2` with the correlations R of the weights, around an
            uncertain mean, or `"isotropic"`: `Sigma ~ I` and zero mean.
        scale: Mean variance of such inputs, or `"auto"`: so that the root mean square deviation
            of the pre-activations is 10 times that of their biases, 0.5 at least.
        inputs: Mean and standard deviation (or covariance) of the model inputs that the user
            knows, by name.
    """

    kind: str
    scale: float | str
    inputs: Mapping[str, tuple[np.ndarray, np.ndarray]]

    @property
    def known_share(self) -> float:
        """The weights' share in the correlations of features whose deviations are known."""
        return KNOWN_SHARE if self.kind == "weights" else 0.0


def read_prior(prior: Any, scale: Any) -> Prior:
    """Checks the arguments `prior` and `prior_scale` of `Moments`.

    Args:
        prior: `"weights"`, `"isotropic"`, or a dict `{input name: (mean, std)}`: each a number or
            an array with one value for each feature. How the features are correlated comes from
            the weights, unless a covariance, shape `(features, features)`, stands for `std`.
        scale: `"auto"` or a positive number.

    Returns:
        The `Prior`; where inputs are given, the others get the `"weights"` prior.

    Raises:
        ValueError: If they are none of these.
    """
    number = isinstance(scale, numbers.Real) and not isinstance(scale, bool)
    if scale != "auto" and not (number and 0 < scale < np.inf):
        raise ValueError(
            f'`prior_scale` must be "auto" or a positive number. Received: prior_scale={scale!r}'
        )
    if isinstance(prior, Mapping):
        return Prior("weights", scale, {str(k): _read_input(k, v) for k, v in prior.items()})
    if prior not in ("weights", "isotropic"):
        raise ValueError(
            '`prior` must be "weights", "isotropic" or a dict {input name: (mean, std)}. '
            f"Received: prior={prior!r}"
        )
    return Prior(prior, scale, {})


def _read_input(name: str, value: Any) -> tuple[np.ndarray, np.ndarray]:
    try:
        mean, spread = (np.asarray(part, np.float64) for part in value)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"The prior of an input must be a pair (mean, std). Received: {name!r}: {value!r}"
        ) from error
    finite = np.all(np.isfinite(mean)) and np.all(np.isfinite(spread))
    if not finite or spread.ndim > 2 or (spread.ndim < 2 and np.any(spread < 0)):
        raise ValueError(
            f"The prior of input {name!r} must be finite, with std >= 0 (a number, one for each "
            f"feature, or a covariance matrix). Received: mean={mean}, std={spread}"
        )
    return mean, spread


@dataclasses.dataclass(frozen=True, eq=False)
class Assumed:
    """Inputs that nothing is known of: `x = t shift + own e + c @ codes`.

    `e` and `c` have independent entries of unit variance, `t` is uniform on MEAN_RANGE.

    Attributes:
        shift: Float64 array, shape `(features,)`.
        own: Float: standard deviation of what each feature has for itself.
        weights: Float64 array, shape `(units, features)`.
        shared: Float64 array, shape `(features,)`: `codes = weights * shared`.
        covariance: Float64 tensor, shape `(units, units)`: of the pre-activations, `t` given.
    """

    shift: np.ndarray
    own: float
    weights: np.ndarray
    shared: np.ndarray
    covariance: tf.Tensor

    @property
    def codes(self) -> np.ndarray:
        """What the features share: float64, shape `(units, features)`."""
        return self.weights * self.shared

    def scaled(self, factor: float, shift: np.ndarray) -> "Assumed":
        """The same deviations times a factor, around another mean."""
        covariance = factor**2 * self.covariance
        return Assumed(shift, factor * self.own, self.weights, factor * self.shared, covariance)


def assume(weights: np.ndarray, biases: np.ndarray, prior: Prior) -> Assumed:
    """Reads the distribution of unknown inputs off the weights that receive them.

    Each feature's correlations are those of its weights, `R = V^T V` with `V` the weights at unit
    norm for each feature. The mean is the same for all features, less where the weights are
    large: with adaptive steps rare features grow the largest weights.

    Args:
        weights: Float array, shape `(units, features)`.
        biases: Float array, shape `(units,)`.
        prior: What is assumed of the inputs.
    """
    features = weights.shape[1]
    tensor = tf.cast(weights, tf.float64)
    weights = np.asarray(tensor)  # the same memory on a CPU
    energy = np.einsum("uf,uf->f", weights, weights)
    share = WEIGHTS_SHARE if prior.kind == "weights" and np.any(energy) else 0.0
    own, shift = math.sqrt(1.0 - share), np.zeros(features)
    shared = np.zeros(features)
    if share:
        shared = np.sqrt(share / np.where(energy > 0.0, energy, 1.0))
        shift = 1.0 / (energy + np.mean(energy))
    covariance = _covariance(tensor, own, shared)
    std = _root_mean_square(tf.linalg.diag_part(covariance), power=1)
    scale = 1.0
    if prior.scale != "auto":
        scale = math.sqrt(prior.scale)
    elif std > 0.0:
        scale = max(PREACTIVATION_STD, STD_OVER_BIAS * _root_mean_square(biases)) / std
    moved = _root_mean_square(tf.linalg.matvec(tensor, shift).numpy())
    shift = shift * (scale * std / moved) if moved > 0.0 else shift
    return Assumed(shift, own, weights, shared, covariance).scaled(scale, shift)


def measured_inputs(
    assumed: Assumed, weights: np.ndarray, mean: np.ndarray, std: np.ndarray
) -> tuple[np.ndarray, Assumed]:
    """Inputs that give the pre-activations which a BatchNormalization has measured.

    The mean is the likeliest one under the assumed covariance, the scale fits the mean variance.

    Args:
        assumed: What is assumed of the inputs.
        weights: Float array, shape `(units, features)`.
        mean: Float array, shape `(units,)`: measured, without the bias.
        std: Float array, shape `(units,)`.

    Returns:
        The inputs' mean, shape `(features,)`, and the scaled deviations around it.
    """
    covariance = assumed.covariance
    variance = float(tf.reduce_mean(tf.linalg.diag_part(covariance)))
    if variance <= 0.0:
        return np.zeros(weights.shape[1]), assumed
    factor = _root_mean_square(std) / math.sqrt(variance)
    ridged = with_ridge(covariance, MEAN_RIDGE * variance)
    solved = tf.linalg.solve(ridged, np.asarray(mean, np.float64)[:, None])
    back = weights.T @ solved.numpy()[:, 0]
    codes = assumed.codes
    centre = assumed.own**2 * back + codes.T @ (codes @ back)
    return centre, assumed.scaled(factor, 0.0 * assumed.shift)


def _root_mean_square(values: np.ndarray, power: int = 2) -> float:
    return math.sqrt(np.mean(np.asarray(values, np.float64) ** power)) if len(values) else 0.0


def _covariance(weights: tf.Tensor, own: float, shared: np.ndarray) -> tf.Tensor:
    """That of the pre-activations around a given mean; no features x features matrix is made."""
    scaled = np.empty(weights.shape, np.float32)  # what inputs share is assumed: this is enough
    np.multiply(weights, np.sqrt(shared), out=scaled, casting="same_kind")
    with full_precision():
        mixed = tf.cast(gram(tf.constant(scaled)), tf.float64)  # weights @ codes.T
    return own**2 * gram(weights) + gram(mixed)


def known_input(feed: Feed, prior: Prior) -> tuple[np.ndarray, np.ndarray] | None:
    """Mean and standard deviation (or covariance) of what a feed scales and shifts, or None.

    Behind a LayerNormalization they are 0 and 1. Feed-forward blocks of a transformer on digits
    at 50, 70, 90 % of the units, mean of three trainings: 95.9, 91.9, 73.7 without, 95.6, 93.5,
    79.9 with it (`examples/transformer.py`).
    """
    if feed.normalized:
        return np.zeros(()), np.ones(())
    return prior.inputs.get(feed.origin) if feed.group is None else None
