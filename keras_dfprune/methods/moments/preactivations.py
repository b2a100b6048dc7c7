"""Derive the mean and covariance of a group's pre-activations from its inputs'.

`x ~ N(mu, Sigma)` gives `z = W^T x + b ~ N(W^T mu + b, W^T Sigma W)`. Inputs that come from an
earlier group have the moments of its units. The others have the prior's (`prior.py`).
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_dfprune.methods.base import Context, GroupView
from keras_dfprune.methods.feed import Feed
from keras_dfprune.methods.moments.activated_units import Components, equal_components
from keras_dfprune.methods.moments.prior import (
    MEAN_NODES,
    KnownInput,
    Prior,
    assume_inputs,
    assumed_stds,
    known_input,
    root_mean,
    unit_columns,
)
from keras_dfprune.methods.moments.symmetric_matrices import gram, submatrix, symmetric_product
from keras_dfprune.methods.moments.unit_moments import Preactivations, UnitMoments

# Share of the weights' correlations between the taps of a kernel that read the same units: half,
# as for unknown features.
POSITIONS_SHARE = 0.5
# Largest asymmetry of a given covariance, relative to its largest entry: it may have been computed
# in float32.
_ASYMMETRY = 1e-5


class _Contribution(NamedTuple):
    """Independent summand of the pre-activations, from some of the inputs.

    Attributes:
        mean: Float64 array, shape `(units,)`.
        covariance: Float64 tensor, shape `(units, units)`.
        scale_known: Whether the scale is known; else only the shape is.
    """

    mean: np.ndarray
    covariance: tf.Tensor
    scale_known: bool


def group_preactivations(group: GroupView, prior: Prior, context: Context) -> Preactivations:
    """Derive the means and covariance of a group's pre-activations.

    Inputs of different origin are taken as independent. Mean and scale of unknown inputs are
    uncertain: a mixture is returned. Moments that earlier groups hand on tell the correlations,
    but their scale only where something ties it to the network: assumptions about the scale grow
    from layer to layer (docs/research/measurements.md). If a BatchNormalization has measured the
    pre-activations, its mean and deviation replace the prior's, which then gives the correlations
    only.

    Args:
        group: The group.
        prior: The prior of the inputs.
        context: Holds the moments of the earlier groups.

    Returns:
        The `Preactivations`.

    Raises:
        ValueError: If the prior of a model input does not fit its features, or is a matrix that
            is not symmetric.
    """
    contributions, unknown = [], np.ones(group.inputs, bool)
    for feed in group.feeds:
        known = _from_earlier_group(group, feed, context)
        if known is None:
            known = _from_known_input(group, feed, prior)
        if known is not None:
            contributions.append(known)
            unknown[feed.columns] = False
    shift = np.zeros((1, group.units))
    if np.any(unknown) or not contributions:  # a layer may have no inputs at all
        weights = group.weights if np.all(unknown) else group.weights[:, unknown]
        assumed = assume_inputs(weights, prior)
        fixed = not isinstance(prior.scale, str)
        contributions.append(_Contribution(np.zeros(group.units), assumed.covariance, fixed))
        # Convolutions hand on moments in which the uncertainty of the mean is lost: they have none
        # (docs/research/measurements.md).
        if np.any(assumed.shift) and not group.taps:
            shift = MEAN_NODES[:, None] * (assumed.weights @ assumed.shift)
    covariance = tf.add_n([part.covariance for part in contributions])
    moved = sum(part.mean for part in contributions) + shift
    if group.batch_mean is not None and group.batch_std is not None:
        means = np.array(group.batch_mean, np.float64)[None]
        covariance = _with_deviations(covariance, group.batch_std)
        return Preactivations(equal_components(means), covariance, scale_known=True)
    if any(part.scale_known for part in contributions):
        scale_known = all(part.scale_known for part in contributions)
        return Preactivations(equal_components(group.biases + moved), covariance, scale_known)
    return _with_uncertain_scale(group, moved, covariance)


def _with_uncertain_scale(
    group: GroupView, moved: np.ndarray, covariance: tf.Tensor
) -> Preactivations:
    """Return pre-activations of which only the shape is known, at each scale they may have.

    Each scale counts with one over the units' mean square there: what matters is the change of the
    outputs relative to their size.

    Args:
        group: The group.
        moved: Float64 array, shape `(means, units)`: equally likely means without the bias.
        covariance: Float64 tensor, shape `(units, units)`.
    """
    std = root_mean(tf.linalg.diag_part(covariance))
    stds, shares = assumed_stds(group.biases)
    scales = np.repeat(stds / std if std > 0.0 else np.ones_like(stds), len(moved))
    means = group.biases + scales[:, None] * np.tile(moved, (len(stds), 1))
    components = Components(means, scales, np.repeat(shares / len(moved), len(moved)))
    return Preactivations(components, covariance).balanced(group.activation)


def _with_deviations(covariance: tf.Tensor, std: np.ndarray) -> tf.Tensor:
    """Scale a covariance to the given standard deviations."""
    factor = np.asarray(std, np.float64) / tf.sqrt(
        tf.maximum(tf.linalg.diag_part(covariance), 1e-300)
    )
    return covariance * (factor[:, None] * factor)


def _from_earlier_group(group: GroupView, feed: Feed, context: Context) -> _Contribution | None:
    """Return the contribution of an earlier group's kept units, or None if it is not known.

    It is not known behind a Flatten: only the weights show how the positions of a unit are
    correlated, and the prior uses them (docs/research/measurements.md).
    """
    moments = context.moments.get(feed.group) if feed.group is not None else None
    if not isinstance(moments, UnitMoments):
        return None
    positions = _split_by_position(feed.units)
    if len(positions) > 1 and not group.taps:
        return None
    weights = np.asarray(group.weights[:, feed.columns], np.float64)
    scaled = weights * feed.scale
    mean = weights @ feed.shift + scaled @ moments.mean[feed.units]
    inputs, covariance = moments.covariance, tf.zeros((group.units, group.units), tf.float64)
    for columns in positions:
        part = tf.constant(scaled[:, columns])
        spread = submatrix(inputs, feed.units[columns], feed.units[columns])
        covariance += symmetric_product(tf.matmul(part, spread), part)
    if len(positions) > 1:
        std = np.sqrt(np.maximum(tf.linalg.diag_part(inputs), 0.0))[feed.units]
        across = _correlated_by_weights(weights, scaled * std)
        covariance = (1.0 - POSITIONS_SHARE) * covariance + POSITIONS_SHARE * across
    return _Contribution(mean, covariance, moments.scale_known)


def _split_by_position(units: np.ndarray) -> list[np.ndarray]:
    """Split columns into parts in which each unit occurs once: the k-th has its k-th column."""
    order = np.argsort(units, kind="stable")
    first = np.searchsorted(units[order], units[order])
    position = np.empty(len(units), np.int64)
    position[order] = np.arange(len(units)) - first
    return [np.flatnonzero(position == k) for k in range(int(position.max(initial=-1)) + 1)]


def _from_known_input(group: GroupView, feed: Feed, prior: Prior) -> _Contribution | None:
    """Return the contribution of inputs whose distribution is known, or None for other feeds."""
    known = known_input(feed, prior)
    if known is None:
        return None
    mean, spread = _for_features(known, feed)
    weights = np.asarray(group.weights[:, feed.columns], np.float64)
    scaled = weights * feed.scale
    if spread.ndim == 2:
        covariance = symmetric_product(tf.matmul(scaled, spread), tf.constant(scaled))
    else:
        independent = gram(tf.constant(scaled * spread))
        correlated = _correlated_by_weights(weights, scaled * spread)
        share = prior.known_share
        covariance = (1.0 - share) * independent + share * correlated
    return _Contribution(weights @ feed.shift + scaled @ mean, covariance, True)


def _for_features(known: KnownInput, feed: Feed) -> KnownInput:
    """Expand a known distribution to the features of a feed.

    Returns:
        The mean, shape `(features,)`, and the deviations of the same shape or a symmetric
        covariance.

    Raises:
        ValueError: If it does not fit the features, or is a matrix that is not symmetric.
    """
    mean, spread = known
    features = len(feed.columns)
    is_covariance = spread.ndim == 2 and spread.shape == (features, features)
    try:
        mean = np.broadcast_to(mean.reshape(-1) if mean.ndim else mean, (features,))
        if not is_covariance:
            std = np.broadcast_to(spread.reshape(-1) if spread.ndim else spread, (features,))
            return KnownInput(mean, std)
    except ValueError as error:
        raise ValueError(
            f"The prior of input {feed.origin!r} must fit its {features} features. "
            f"Received: shapes {known.mean.shape} and {known.spread.shape}"
        ) from error
    if np.any(np.abs(spread - spread.T) > _ASYMMETRY * np.max(np.abs(spread), initial=0.0)):
        raise ValueError(
            f"The prior of input {feed.origin!r} gives a matrix for std: it must be a covariance, "
            f"which is symmetric. Received: std={spread}"
        )
    return KnownInput(mean, 0.5 * (spread + spread.T))


def _correlated_by_weights(weights: np.ndarray, scaled: np.ndarray) -> tf.Tensor:
    """Return `W^T S R S W` for known deviations S and the weights' correlations R.

    Args:
        weights: Float64 array, shape `(units, features)`: W^T.
        scaled: Float64 array, shape `(units, features)`: W^T S.
    """
    mixed = tf.matmul(tf.constant(scaled), tf.constant(unit_columns(weights)), transpose_b=True)
    return gram(mixed)
