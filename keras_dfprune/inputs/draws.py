"""Draw a group's inputs from the prior, for distillation, which has no closed form.

Draws of the factor model `x = mean + t shift + independent_std e + c @ loadings` have the mean and
covariance that `prior.py` assumes. No matrix of features by features is made.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from keras_dfprune.methods.base import GroupView
from keras_dfprune.methods.moments.prior import (
    MEAN_RANGE,
    Prior,
    assume_inputs,
    known_input,
    measured_inputs,
    unit_columns,
)

# Share of the factors that are active in a draw: an input shows only a small part of the features
# that the weights respond to. The covariance is the same at any share. Measured:
# docs/research/measurements.md.
ACTIVE = 0.05
# Half the width of a uniform distribution of unit variance.
UNIT = math.sqrt(3.0)
# One for each of the four random numbers that share a seed.
_SALTS = (0, 7919, 104729, 1299709)


def input_sampler(group: GroupView, prior: Prior) -> Callable[[int, tf.Tensor], tf.Tensor]:
    """Return a function that draws the inputs of a group.

    Args:
        group: The group, at its original width. No earlier group feeds it: it reads the model's
            inputs, or unknown values.
        prior: The prior of the inputs. Of a covariance given for an input only the diagonal counts.

    Returns:
        Function of a number of rows and a seed (int32, shape `(2,)`). It returns a float32
        tensor, shape `(rows, inputs)`, which is always the same for the same seed.
    """
    group = _by_column(group)
    weights = np.asarray(group.weights, np.float64)
    mean, independent_std, shift = (np.zeros(group.inputs) for _ in range(3))
    loadings = []  # an array for each origin, so inputs of different origin are independent
    unknown = np.ones(group.inputs, bool)
    for feed in group.feeds:
        known = known_input(feed, prior)
        if known is None:
            continue
        std = np.abs(feed.scale) * known.std.reshape(-1)
        mean[feed.columns] = feed.scale * known.mean.reshape(-1) + feed.shift
        independent_std[feed.columns] = math.sqrt(1.0 - prior.known_share) * std
        part = np.zeros_like(weights)
        part[:, feed.columns] = unit_columns(weights[:, feed.columns])
        part[:, feed.columns] *= math.sqrt(prior.known_share) * std
        loadings.append(part)
        unknown[feed.columns] = False
    if np.any(unknown):
        biases = group.biases
        assumed = assume_inputs(weights[:, unknown], prior)
        if group.batch_mean is not None and group.batch_std is not None and np.all(unknown):
            mean, assumed = measured_inputs(
                assumed, weights, group.batch_mean - biases, group.batch_std
            )
        shift[unknown], independent_std[unknown] = assumed.shift, assumed.independent_std
        part = np.zeros_like(weights)
        part[:, unknown] = assumed.loadings
        loadings.append(part)
    return _factor_sampler(mean, shift, independent_std, np.concatenate(loadings))


def _by_column(group: GroupView) -> GroupView:
    """Return a view of one producer's columns, a row for each, of units that stand for several.

    Units that are read in several ways, or that a Reshape spreads over positions, have their
    weight-sets side by side in the view of the whole group.
    """
    views = list(_single_views(group))
    if len(views) == 1:
        return views[0]
    measured = [(view.batch_mean, view.batch_std) for view in views]
    means = [mean for mean, std in measured if mean is not None]
    stds = [std for mean, std in measured if std is not None]
    is_measured = len(means) == len(stds) == len(views)
    return dataclasses.replace(
        views[0],
        weights=np.concatenate([view.weights for view in views]),
        constants=np.concatenate([view.constants[:, :1] for view in views]),
        batch_mean=np.concatenate(means) if is_measured else None,
        batch_std=np.concatenate(stds) if is_measured else None,
    )


def _single_views(group: GroupView) -> Iterator[GroupView]:
    """Iterate over views of a group that hold one weight-set for each unit."""
    parts = group.seams or (group.joined.parts if group.joined is not None else ())
    if not parts:
        yield group
    for part in parts:
        yield from _single_views(part)


def _factor_sampler(
    mean: np.ndarray, shift: np.ndarray, independent_std: np.ndarray, loadings: np.ndarray
) -> Callable[[int, tf.Tensor], tf.Tensor]:
    """Return a function that draws from the factor model.

    Args:
        mean: Float array, shape `(inputs,)`.
        shift: Float array, shape `(inputs,)`.
        independent_std: Float array, shape `(inputs,)`.
        loadings: Float array, shape `(factors, inputs)`.
    """
    centre, direction, independent = (
        tf.constant(part, tf.float32) for part in (mean, shift, independent_std)
    )
    active_loadings = tf.constant(loadings / math.sqrt(ACTIVE), tf.float32)

    def draw(rows: int, seed: tf.Tensor) -> tf.Tensor:
        seeds = [tf.cast(seed, tf.int32) + [salt, 0] for salt in _SALTS]
        # Uniform draws are faster than normal ones, and sums of them are nearly normal anyway.
        features = tf.random.stateless_uniform((rows, len(mean)), seeds[0], -UNIT, UNIT)
        factors = tf.random.stateless_normal((rows, len(loadings)), seeds[1])
        active = tf.random.stateless_uniform((rows, len(loadings)), seeds[2]) < ACTIVE
        factors = tf.where(active, factors, 0.0)
        t = tf.random.stateless_uniform((rows, 1), seeds[3], *MEAN_RANGE)
        shared = tf.matmul(factors, active_loadings)
        return centre + t * direction + independent * features + shared

    return draw
