"""Assume a distribution of a layer's inputs without data: the prior.

Inputs that the user describes have the given mean and deviation. For other inputs both are
estimated from the weights that receive them, because gradient descent leaves traces of the data
there.
"""

import dataclasses
import math
import numbers
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from keras_dfprune.methods.feed import Feed
from keras_dfprune.methods.full_precision import full_precision
from keras_dfprune.methods.moments.symmetric_matrices import add_ridge, gram

# What `read_prior` takes: the name of a prior, or (mean, std) by input.
PriorArgument = str | Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]]

# Share of the weights' correlations in the prior's: weights trained by gradient descent lie in the
# span of the data. The second value is for features whose deviations are known. These constants,
# and those below, were measured: docs/research/measurements.md.
WEIGHTS_SHARE = 0.5
KNOWN_SHARE = 0.8
# The scale of unknown inputs is not known. Second moments are averaged over standard deviations of
# the pre-activations (root mean square over the units) of these multiples of their biases, but of
# PREACTIVATION_STD at least: a network works where its activations bend and its biases matter. So
# the inputs' unit of measure does not matter.
STD_OVER_BIAS = (0.7, 1.5, 3.0, 7.0, 14.0)
PREACTIVATION_STD = 0.5
# The inputs' mean is t times a vector read off the weights (`assume_inputs`). That vector moves the
# pre-activations by one standard deviation, root mean square, and t is uniform on this interval.
# Images lie at 0.5 to 1.3. Standardised inputs lie at 0, so the interval reaches below it.
MEAN_RANGE = (-0.25, 0.75)
# Nodes of a Gauss-Legendre rule of two nodes: they have the interval's mean and variance.
MEAN_NODES = np.mean(MEAN_RANGE) + np.array([-1.0, 1.0]) * np.ptp(MEAN_RANGE) / math.sqrt(12.0)
# Ridge relative to the mean variance. It keeps directions in which the weights hardly vary from
# explaining a measured mean.
MEAN_RIDGE = 1e-2


class KnownInput(NamedTuple):
    """Known distribution of inputs.

    Attributes:
        mean: Float64 array: a number, or one value for each feature.
        spread: Float64 array: standard deviations of the same form, or a covariance of shape
            `(features, features)`.
    """

    mean: np.ndarray
    spread: np.ndarray

    @property
    def std(self) -> np.ndarray:
        """Standard deviations: float64, one number or one for each feature."""
        return np.sqrt(np.diagonal(self.spread)) if self.spread.ndim == 2 else self.spread


@dataclasses.dataclass(frozen=True, eq=False)
class Prior:
    """Distribution that the inputs are assumed to have.

    Attributes:
        kind: `"weights"`: `Sigma ~ I/2 + R/2` with the correlations R of the weights, around an
            uncertain mean. `"isotropic"`: `Sigma ~ I` and zero mean.
        scale: Mean variance of the inputs. With `"auto"` it is one of several, which follow from
            the biases (`assumed_stds`).
        inputs: Model inputs that the user describes, by name.
    """

    kind: str
    scale: float | str
    inputs: Mapping[str, KnownInput]

    @property
    def known_share(self) -> float:
        """Share of the weights' correlations where the features' deviations are known."""
        return KNOWN_SHARE if self.kind == "weights" else 0.0


def read_prior(prior: PriorArgument, scale: float | str) -> Prior:
    """Check the arguments `prior` and `prior_scale` of `Moments`.

    Args:
        prior: `"weights"`, `"isotropic"`, or a dict `{input name: (mean, std)}`. Mean and std are
            numbers or arrays with one value for each feature. The correlations of the features come
            from the weights, unless a covariance of shape `(features, features)` replaces `std`.
        scale: `"auto"` or a positive number.

    Returns:
        The `Prior`; inputs that a dict does not name get the `"weights"` prior.

    Raises:
        ValueError: If an argument is none of these.
    """
    if scale != "auto" and not _is_positive(scale):
        raise ValueError(
            f'`prior_scale` must be "auto" or a positive number. Received: prior_scale={scale!r}'
        )
    if isinstance(prior, Mapping):
        inputs = {str(name): _read_input(name, value) for name, value in prior.items()}
        return Prior("weights", scale, inputs)
    if prior not in ("weights", "isotropic"):
        raise ValueError(
            '`prior` must be "weights", "isotropic" or a dict {input name: (mean, std)}. '
            f"Received: prior={prior!r}"
        )
    return Prior(prior, scale, {})


def _is_positive(value: object) -> bool:
    """Return whether a value is a positive finite number."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    return 0 < float(value) < math.inf


def _read_input(name: str, value: tuple[npt.ArrayLike, npt.ArrayLike]) -> KnownInput:
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
    return KnownInput(mean, spread)


def known_input(feed: Feed, prior: Prior) -> KnownInput | None:
    """Return the distribution of a feed before its scale and shift, or None if it is not known.

    Behind a LayerNormalization the mean is 0 and the standard deviation 1.
    """
    if feed.normalized:
        return KnownInput(np.zeros(()), np.ones(()))
    if feed.group is not None or feed.origin is None:
        return None
    return prior.inputs.get(feed.origin)


@dataclasses.dataclass(frozen=True, eq=False)
class AssumedInputs:
    """Factor model of inputs about which nothing is known.

    `x = t shift + independent_std e + c @ loadings`, where `e` and `c` have independent entries of
    unit variance, and `t` is uniform on MEAN_RANGE.

    Attributes:
        shift: Float64 array, shape `(features,)`: direction of the mean.
        independent_std: Float: standard deviation of each feature's independent part.
        weights: Float64 array, shape `(units, features)`.
        loading_scale: Float64 array, shape `(features,)`: `loadings = weights * loading_scale`.
        covariance: Float64 tensor, shape `(units, units)`: covariance of the pre-activations at a
            given `t`.
    """

    shift: np.ndarray
    independent_std: float
    weights: np.ndarray
    loading_scale: np.ndarray
    covariance: tf.Tensor

    @property
    def loadings(self) -> np.ndarray:
        """Loadings of the factors that the features share: float64, shape `(units, features)`."""
        return self.weights * self.loading_scale

    def scaled(self, factor: float, shift: np.ndarray) -> "AssumedInputs":
        """Multiply the deviations by a factor and replace the shift."""
        return AssumedInputs(
            shift,
            factor * self.independent_std,
            self.weights,
            factor * self.loading_scale,
            factor**2 * self.covariance,
        )


def assumed_stds(biases: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the standard deviations that pre-activations of unknown scale may have.

    Args:
        biases: Float array, shape `(units,)`.

    Returns:
        Distinct root mean squares over the units, ascending, and their shares, whose sum is 1.
    """
    stds = np.maximum(PREACTIVATION_STD, np.array(STD_OVER_BIAS) * _root_mean_square(biases))
    distinct, counts = np.unique(stds, return_counts=True)
    return distinct, counts / len(stds)


def assume_inputs(weights: np.ndarray, prior: Prior) -> AssumedInputs:
    """Estimate the distribution of unknown inputs from the weights that receive them.

    With the scale `"auto"` the pre-activations have a standard deviation of 1, root mean square
    over the units, for others to scale.

    The features are correlated as their weights: `R = V^T V` with `V` the weights at unit norm for
    each feature. The mean is the same for all features but smaller where the weights are large,
    because rare features get the largest weights from optimizers with adaptive steps.

    Args:
        weights: Float array, shape `(units, features)`.
        prior: The prior.

    Returns:
        The `AssumedInputs`.
    """
    features = weights.shape[1]
    tensor = tf.cast(weights, tf.float64)
    weights = np.asarray(tensor)  # the same memory on a CPU
    energy = np.einsum("uf,uf->f", weights, weights)
    share = WEIGHTS_SHARE if prior.kind == "weights" and np.any(energy) else 0.0
    independent_std = math.sqrt(1.0 - share)
    shift, loading_scale = np.zeros(features), np.zeros(features)
    if share:
        loading_scale = np.sqrt(share / np.where(energy > 0.0, energy, 1.0))
        shift = 1.0 / (energy + np.mean(energy))
    covariance = _covariance(tensor, independent_std, loading_scale)
    std = root_mean(tf.linalg.diag_part(covariance))
    if not isinstance(prior.scale, str):
        scale = math.sqrt(prior.scale)
    else:
        scale = 1.0 / std if std > 0.0 else 1.0
    moved = _root_mean_square(tf.linalg.matvec(tensor, shift).numpy())
    shift = shift * (scale * std / moved) if moved > 0.0 else shift
    assumed = AssumedInputs(shift, independent_std, weights, loading_scale, covariance)
    return assumed.scaled(scale, shift)


def measured_inputs(
    assumed: AssumedInputs, weights: np.ndarray, mean: np.ndarray, std: np.ndarray
) -> tuple[np.ndarray, AssumedInputs]:
    """Estimate the inputs of pre-activations that a BatchNormalization has measured.

    The mean is the likeliest one under the assumed covariance. The scale fits the mean variance.

    Args:
        assumed: The inputs as the prior assumes them.
        weights: Float array, shape `(units, features)`.
        mean: Float array, shape `(units,)`: measured mean without the bias.
        std: Float array, shape `(units,)`: measured standard deviation.

    Returns:
        The inputs' mean, shape `(features,)`, and the scaled deviations around it.
    """
    covariance = assumed.covariance
    variance = float(tf.reduce_mean(tf.linalg.diag_part(covariance)))
    if variance <= 0.0:
        return np.zeros(weights.shape[1]), assumed
    factor = _root_mean_square(std) / math.sqrt(variance)
    ridged = add_ridge(covariance, MEAN_RIDGE * variance)
    solved = tf.linalg.solve(ridged, np.asarray(mean, np.float64)[:, None])
    back = weights.T @ solved.numpy()[:, 0]
    loadings = assumed.loadings
    centre = assumed.independent_std**2 * back + loadings.T @ (loadings @ back)
    return centre, assumed.scaled(factor, np.zeros_like(assumed.shift))


def unit_columns(weights: np.ndarray) -> np.ndarray:
    """Scale each column to unit norm; zero columns stay zero."""
    norms = np.linalg.norm(weights, axis=0)
    return weights / np.where(norms > 0.0, norms, 1.0)


def root_mean(squares: np.ndarray) -> float:
    """Return the root of the mean of squares, 0 without any."""
    return math.sqrt(np.mean(np.asarray(squares, np.float64))) if len(squares) else 0.0


def _root_mean_square(values: np.ndarray) -> float:
    return root_mean(np.asarray(values, np.float64) ** 2)


def _covariance(weights: tf.Tensor, independent_std: float, loading_scale: np.ndarray) -> tf.Tensor:
    """Compute the pre-activations' covariance without a matrix of features by features."""
    # The shared part is an assumption, so float32 is precise enough for it.
    scaled = np.empty(weights.shape, np.float32)
    np.multiply(weights, np.sqrt(loading_scale), out=scaled, casting="same_kind")
    with full_precision():
        mixed = tf.cast(gram(tf.constant(scaled)), tf.float64)  # weights @ loadings.T
    return independent_std**2 * gram(weights) + gram(mixed)
