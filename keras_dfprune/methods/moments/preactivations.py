"""The inputs' distribution into the mean and covariance of a group's pre-activations.

`x ~ N(mu, Sigma)` gives `z = W^T x + b ~ N(W^T mu + b, W^T Sigma W)`. Inputs that an earlier group
feeds have its units' moments; the others have the prior's (`prior.py`).
"""

import numpy as np
import tensorflow as tf

from keras_dfprune.methods.base import Context, Feed, GroupView
from keras_dfprune.methods.moments.prior import MEAN_NODES, Prior, assume, known_input
from keras_dfprune.methods.moments.symmetric_matrices import gram, product, select
from keras_dfprune.methods.moments.unit_moments import Preactivations, UnitMoments

# The same units at several taps of a kernel are correlated across them in a way that only the
# weights show: half, as for features that nothing is known of.
POSITIONS_SHARE = 0.5
# How far the halves of a given covariance may be apart, relative to its largest entry: it may have
# been computed in float32.
_SYMMETRIC = 1e-5


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
        ValueError: If the prior of a model input doesn't fit its features, or is a matrix that
            is not symmetric.
    """
    weights, mean = group.weights, np.array(group.biases, np.float64)
    covariances, unknown = [], np.ones(group.inputs, bool)
    for feed in group.feeds:
        known = _fed_by_group(group, feed, context) or _fed_by_input(group, feed, prior)
        if known is not None:
            mean = mean + known[0]
            covariances.append(known[1])
            unknown[feed.columns] = False
    means = mean[None]
    if np.any(unknown) or not covariances:  # a layer may have no inputs at all
        part = weights if np.all(unknown) else weights[:, unknown]
        assumed = assume(part, group.biases, prior)
        covariances.append(assumed.covariance)
        # Not for convolutions, whose moments are handed on as if they were known: LeNet-5 on MNIST
        # at 460, 480, 490 of the 500 units behind them lost 5, 10 and 15 points more with it.
        if np.any(assumed.shift) and not group.taps:
            means = mean + MEAN_NODES[:, None] * (assumed.weights @ assumed.shift)
    covariance = tf.add_n(covariances)
    if group.batch_mean is not None and group.batch_std is not None:
        mean, covariance = _measured(covariance, group.batch_mean, group.batch_std)
        means = mean[None]
    return Preactivations(means, covariance)


def _measured(
    covariance: tf.Tensor, mean: np.ndarray, std: np.ndarray
) -> tuple[np.ndarray, tf.Tensor]:
    """The prior's correlations with the mean and deviation of a BatchNormalization."""
    own = tf.sqrt(tf.maximum(tf.linalg.diag_part(covariance), 1e-300))
    factor = np.asarray(std, np.float64) / own
    return np.asarray(mean, np.float64), covariance * (factor[:, None] * factor)


def _fed_by_group(
    group: GroupView, feed: Feed, context: Context
) -> tuple[np.ndarray, tf.Tensor] | None:
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
    weights = np.asarray(group.weights[:, feed.columns], np.float64)
    scaled = weights * feed.scale
    mean = weights @ feed.shift + scaled @ moments.mean[feed.units]
    covariance = tf.zeros((group.units, group.units), tf.float64)
    for columns in positions:
        part = tf.constant(scaled[:, columns])
        spread = select(inner, feed.units[columns], feed.units[columns])
        covariance += product(tf.matmul(part, spread), part)
    if len(positions) > 1:
        std = np.sqrt(np.maximum(tf.linalg.diag_part(inner), 0.0))[feed.units]
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


def _fed_by_input(
    group: GroupView, feed: Feed, prior: Prior
) -> tuple[np.ndarray, tf.Tensor] | None:
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
    part = np.asarray(group.weights[:, feed.columns], np.float64)
    scaled = part * feed.scale
    if square:
        if np.any(np.abs(spread - spread.T) > _SYMMETRIC * np.max(np.abs(spread), initial=0.0)):
            raise ValueError(
                f"The prior of input {feed.origin!r} has a matrix in place of std: a covariance "
                "is symmetric, and this one is not."
            )
        spread = 0.5 * (spread + spread.T)
        covariance = product(tf.matmul(scaled, spread), tf.constant(scaled))
    else:
        own, theirs = gram(tf.constant(scaled * std)), _by_weights(part, scaled * std)
        covariance = (1.0 - prior.known_share) * own + prior.known_share * theirs
    return part @ feed.shift + scaled @ mean, covariance


def _by_weights(weights: np.ndarray, scaled: np.ndarray) -> tf.Tensor:
    """`W^T S R S W` with the features' known deviations S, `scaled = S W`, and the weights' R."""
    norms = np.linalg.norm(weights, axis=0)
    unit = tf.constant(weights / np.where(norms > 0.0, norms, 1.0))
    mixed = tf.matmul(tf.constant(scaled), unit, transpose_b=True)
    return gram(mixed)
