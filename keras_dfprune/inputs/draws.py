"""A prior into draws of a group's inputs, for what has no closed form: refinement.

`x = mean + t shift + own e + c @ codes` with independent `e` and `c` has the mean and covariance
that `prior.py` assumes; no d x d matrix is made.
"""

import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_dfprune.methods.base import GroupView
from keras_dfprune.methods.moments.prior import (
    MEAN_RANGE,
    Prior,
    assume,
    known_input,
    measured_inputs,
)

# Share of the codes that a draw has: an input shows few of the things that the weights know. The
# covariance is the same at any share. Accuracy after 300 steps, mean of ten cells of nine networks
# at 60 to 98 % of the units: 88.1 with all codes, 88.6 at 0.05; with an uncertain mean too 89.6,
# and the same within 0.2 at 0.02 or over wider ranges of the mean.
ACTIVE = 0.05
# Half the width of a uniform distribution of unit variance.
UNIT = math.sqrt(3.0)
# Keep the four draws with one seed apart.
_SALTS = (0, 7919, 104729, 1299709)


def input_sampler(group: GroupView, prior: Prior) -> Callable[[int, tf.Tensor], tf.Tensor]:
    """Draws the inputs of a group that reads the model's inputs, or an unknown trunk's.

    Args:
        group: The group, at its original width.
        prior: What is assumed of the inputs. A covariance matrix given for an input counts with
            its diagonal only.

    Returns:
        Function of a number of rows and a seed (int32, shape `(2,)`) that returns a float32
        tensor, shape `(rows, inputs)`; the same for the same seed.
    """
    weights = np.asarray(group.weights, np.float64)
    mean, own, shift = (np.zeros(group.inputs) for _ in range(3))
    codes = []  # of their own for each place, which makes different places independent
    unknown = np.ones(group.inputs, bool)
    for feed in group.feeds:
        known = known_input(feed, prior)
        if known is not None:
            centre, spread = known
            spread = np.sqrt(np.diagonal(spread)) if spread.ndim == 2 else spread
            mean[feed.columns] = feed.scale * centre.reshape(-1) + feed.shift
            std = np.abs(feed.scale) * spread.reshape(-1)
            own[feed.columns] = math.sqrt(1.0 - prior.known_share) * std
            part = weights[:, feed.columns]
            norms = np.linalg.norm(part, axis=0)
            codes.append(np.zeros_like(weights))
            codes[-1][:, feed.columns] = part / np.where(norms > 0, norms, 1.0)
            codes[-1][:, feed.columns] *= math.sqrt(prior.known_share) * std
            unknown[feed.columns] = False
    if np.any(unknown):
        biases = group.biases
        assumed = assume(weights[:, unknown], biases, prior)
        if group.batch_mean is not None and group.batch_std is not None and np.all(unknown):
            mean, assumed = measured_inputs(
                assumed, weights, group.batch_mean - biases, group.batch_std
            )
        shift[unknown], own[unknown] = assumed.shift, assumed.own
        codes.append(np.zeros_like(weights))
        codes[-1][:, unknown] = assumed.codes
    return _draws(mean, shift, own, np.concatenate(codes))


def _draws(
    mean: np.ndarray, shift: np.ndarray, own: np.ndarray, codes: np.ndarray
) -> Callable[[int, tf.Tensor], tf.Tensor]:
    centre, moved, alone = (tf.constant(part, tf.float32) for part in (mean, shift, own))
    together = tf.constant(codes / math.sqrt(ACTIVE), tf.float32)

    def draw(rows: int, seed: tf.Tensor) -> tf.Tensor:
        seeds = [tf.cast(seed, tf.int32) + [salt, 0] for salt in _SALTS]
        # Uniform: a third of a normal's time, and their sums in the units are normal anyway.
        features = tf.random.stateless_uniform((rows, len(mean)), seeds[0], -UNIT, UNIT)
        hidden = tf.random.stateless_normal((rows, len(codes)), seeds[1])
        active = tf.random.stateless_uniform((rows, len(codes)), seeds[2]) < ACTIVE
        hidden = tf.where(active, hidden, 0.0)
        t = tf.random.stateless_uniform((rows, 1), seeds[3], *MEAN_RANGE)
        return centre + t * moved + alone * features + tf.matmul(hidden, together)

    return draw
