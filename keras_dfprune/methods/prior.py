"""The assumed distribution of the inputs into the mean and covariance of the pre-activations.

`x ~ N(mu, Sigma)` gives `z = W^T x + b ~ N(W^T mu + b, W^T Sigma W)`. Inputs that an earlier group
feeds have its units' moments; what nothing is known of gets a prior read off the weights.
"""

import dataclasses
import functools
import math
import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from keras_dfprune.methods.base import Context, Feed, GroupView
from keras_dfprune.methods.distances import full_precision
from keras_dfprune.methods.gaussian import Preactivations, UnitMoments
from keras_dfprune.methods.symmetric import gram, product

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
# The same units at several taps of a kernel are correlated across them in a way that only the
# weights show: half, as for features that nothing is known of.
POSITIONS_SHARE = 0.5
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


def preactivations(group: GroupView, prior: Prior, context: Context) -> Preactivations:
    """Means and covariance of a group's pre-activations.

    The mean of inputs that nothing is known of isn't known either: several are given, equally
    likely, for a mixture. Inputs that come from different places are taken as independent. Where
    a BatchNormalization has measured the pre-activations, its mean and deviation replace the
    prior's, which is left to say how the units are correlated.

    Args:
        group: The group.
        prior: What is assumed of the inputs.
        context: Holds the moments of the earlier groups.

    Returns:
        The `Preactivations`.

    Raises:
        ValueError: If the prior of a model input doesn't fit its features.
    """
    weights = group.weight_sets[:, : group.inputs]
    mean = np.array(group.weight_sets[:, group.inputs], np.float64)
    covariances, unknown = [], np.ones(group.inputs, bool)
    for feed in group.feeds:
        known = _fed_by_group(group, feed, context) or _fed_by_input(group, feed, prior)
        if known is not None:
            mean = mean + known[0]
            covariances.append(known[1])
            unknown[feed.columns] = False
    means = mean[None]
    if np.any(unknown):
        part = weights if np.all(unknown) else weights[:, unknown]
        assumed = assume(part, group.weight_sets[:, group.inputs], prior)
        covariances.append(assumed.covariance)
        # Not for convolutions, whose moments are handed on as if they were known: LeNet-5 on MNIST
        # at 460, 480, 490 of the 500 units behind them lost 5, 10 and 15 points more with it.
        if np.any(assumed.shift) and not group.taps:
            means = mean + MEAN_NODES[:, None] * (assumed.weights @ assumed.shift)
    covariance = functools.reduce(np.add, covariances)
    if group.batch_mean is not None and group.batch_std is not None:
        mean, covariance = _measured(covariance, group.batch_mean, group.batch_std)
        means = mean[None]
    return Preactivations(means, covariance)


def _measured(
    covariance: np.ndarray, mean: np.ndarray, std: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The prior's correlations with the mean and deviation of a BatchNormalization."""
    own = np.sqrt(np.maximum(np.diagonal(covariance), 1e-300))
    factor = np.asarray(std, np.float64) / own
    return np.asarray(mean, np.float64), covariance * np.outer(factor, factor)


@dataclasses.dataclass(frozen=True, eq=False)
class Assumed:
    """Inputs that nothing is known of: `x = t shift + own e + c @ codes`.

    `e` and `c` have independent entries of unit variance, `t` is uniform on MEAN_RANGE.

    Attributes:
        shift: Float64 array, shape `(features,)`.
        own: Float: standard deviation of what each feature has for itself.
        weights: Float64 array, shape `(units, features)`.
        shared: Float64 array, shape `(features,)`: `codes = weights * shared`.
        covariance: Float64 array, shape `(units, units)`: of the pre-activations, `t` given.
    """

    shift: np.ndarray
    own: float
    weights: np.ndarray
    shared: np.ndarray
    covariance: np.ndarray

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
    std = _root_mean_square(np.diagonal(covariance), power=1)
    scale = 1.0
    if prior.scale != "auto":
        scale = math.sqrt(prior.scale)
    elif std > 0.0:
        scale = max(PREACTIVATION_STD, STD_OVER_BIAS * _root_mean_square(biases)) / std
    moved = _root_mean_square(weights @ shift)
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
    variance = float(np.mean(np.diagonal(covariance)))
    if variance <= 0.0:
        return np.zeros(weights.shape[1]), assumed
    factor = _root_mean_square(std) / math.sqrt(variance)
    ridge = MEAN_RIDGE * variance * np.eye(len(weights))
    solved = np.linalg.solve(covariance + ridge, np.asarray(mean, np.float64))
    back = weights.T @ solved
    codes = assumed.codes
    centre = assumed.own**2 * back + codes.T @ (codes @ back)
    return centre, assumed.scaled(factor, 0.0 * assumed.shift)


def _root_mean_square(values: np.ndarray, power: int = 2) -> float:
    return math.sqrt(np.mean(np.asarray(values, np.float64) ** power)) if len(values) else 0.0


def _covariance(weights: tf.Tensor, own: float, shared: np.ndarray) -> np.ndarray:
    """That of the pre-activations around a given mean; no features x features matrix is made."""
    scaled = np.empty(weights.shape, np.float32)  # what inputs share is assumed: this is enough
    np.multiply(weights, np.sqrt(shared), out=scaled, casting="same_kind")
    with full_precision():
        mixed = tf.cast(gram(tf.constant(scaled)), tf.float64)  # weights @ codes.T
    return np.asarray(own**2 * gram(weights) + gram(mixed))


def _fed_by_group(
    group: GroupView, feed: Feed, context: Context
) -> tuple[np.ndarray, np.ndarray] | None:
    """What the kept units of an earlier group contribute, or None where they are not known.

    Behind a Flatten they aren't: how a unit's positions hang together only the weights show, and a
    local prior is better. LeNet-5 on Fashion-MNIST at 400, 460, 480 of 500 dense units: 87.2, 73.2,
    48.7 with the convolutions' moments, 88.4, 83.4, 77.5 without.
    """
    moments = context.moments.get(feed.group) if feed.group is not None else None
    if not isinstance(moments, UnitMoments):
        return None
    inner, positions = moments.covariance, _positions(feed.units)
    if len(positions) > 1 and not group.taps:
        return None
    weights = np.asarray(group.weight_sets[:, feed.columns], np.float64)
    scaled = weights * feed.scale
    mean = weights @ feed.shift + scaled @ moments.mean[feed.units]
    covariance = np.zeros((group.units, group.units))
    for columns in positions:
        part = tf.constant(scaled[:, columns])
        spread = tf.constant(inner[np.ix_(feed.units[columns], feed.units[columns])])
        covariance += np.asarray(product(tf.matmul(part, spread), part))
    if len(positions) > 1:
        std = np.sqrt(np.maximum(np.diagonal(inner), 0.0))[feed.units]
        across = _by_weights(weights, scaled * std)
        covariance = (1.0 - POSITIONS_SHARE) * covariance + POSITIONS_SHARE * across
    return mean, covariance


def _positions(units: np.ndarray) -> list[np.ndarray]:
    """Columns split so that each part holds a unit once: the k-th part has its k-th position."""
    order = np.argsort(units, kind="stable")
    first = np.searchsorted(units[order], units[order])
    turn = np.empty(len(units), np.int64)
    turn[order] = np.arange(len(units)) - first
    return [np.flatnonzero(turn == k) for k in range(int(turn.max(initial=-1)) + 1)]


def known_input(feed: Feed, prior: Prior) -> tuple[np.ndarray, np.ndarray] | None:
    """Mean and standard deviation (or covariance) of what a feed scales and shifts, or None.

    Behind a LayerNormalization they are 0 and 1. Feed-forward blocks of a transformer on digits
    at 50, 70, 90 % of the units, mean of three trainings: 95.9, 91.9, 73.7 without, 95.6, 93.5,
    79.9 with it (`examples/transformer.py`).
    """
    if feed.normalized:
        return np.zeros(()), np.ones(())
    return prior.inputs.get(feed.origin) if feed.group is None else None


def _fed_by_input(
    group: GroupView, feed: Feed, prior: Prior
) -> tuple[np.ndarray, np.ndarray] | None:
    """What inputs contribute whose distribution is known, or None."""
    known = known_input(feed, prior)
    if known is None:
        return None
    mean, spread = known
    features = len(feed.columns)
    try:
        mean = np.broadcast_to(mean.reshape(-1) if mean.ndim else mean, (features,))
        square = spread.ndim == 2 and spread.shape == (features, features)
        flat = None if square else spread.reshape(-1) if spread.ndim else spread
        std = None if square else np.broadcast_to(flat, (features,))
    except ValueError as error:
        raise ValueError(
            f"The prior of input {feed.origin!r} must fit its {features} features. "
            f"Received: shapes {mean.shape} and {spread.shape}"
        ) from error
    part = np.asarray(group.weight_sets[:, feed.columns], np.float64)
    scaled = part * feed.scale
    if square:
        covariance = scaled @ spread @ scaled.T
    else:
        own, theirs = (scaled * std) @ (scaled * std).T, _by_weights(part, scaled * std)
        covariance = (1.0 - prior.known_share) * own + prior.known_share * theirs
    return part @ feed.shift + scaled @ mean, covariance


def _by_weights(weights: np.ndarray, scaled: np.ndarray) -> np.ndarray:
    """`W^T S R S W` with the features' known deviations S, `scaled = S W`, and the weights' R."""
    norms = np.linalg.norm(weights, axis=0)
    unit = tf.constant(weights / np.where(norms > 0.0, norms, 1.0))
    mixed = tf.matmul(tf.constant(scaled), unit, transpose_b=True)
    return tf.matmul(mixed, mixed, transpose_b=True).numpy()
