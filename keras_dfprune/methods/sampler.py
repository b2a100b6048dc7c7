"""A prior into draws of a group's inputs, for what has no closed form: refinement.

`x = mean + std * (sqrt(1 - share) e + sqrt(share) U^T c)` with independent normal `e` and `c` has
the covariance that `prior.py` assumes; no d x d matrix is made.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_dfprune.methods.base import GroupView
from keras_dfprune.methods.prior import KNOWN_SHARE, WEIGHTS_SHARE, Prior, assumed_variance

# Keeps the draws of the codes apart from those of the features, which have the same seed.
_CODES = 7919


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
    weights = np.asarray(group.weight_sets[:, : group.inputs], np.float64)
    mean, std = np.zeros(group.inputs), np.zeros(group.inputs)
    codes = []  # of their own for each place, which makes different places independent
    share = np.full(group.inputs, KNOWN_SHARE)
    unknown = np.ones(group.inputs, bool)
    for feed in group.feeds:
        if feed.group is None and feed.origin in prior.inputs:
            centre, spread = prior.inputs[feed.origin]
            spread = np.sqrt(np.diagonal(spread)) if spread.ndim == 2 else spread
            mean[feed.columns] = feed.scale * centre.reshape(-1) + feed.shift
            std[feed.columns] = np.abs(feed.scale) * spread.reshape(-1)
            norms = np.linalg.norm(weights[:, feed.columns], axis=0)
            codes.append(np.zeros_like(weights))
            codes[-1][:, feed.columns] = weights[:, feed.columns] / np.where(norms > 0, norms, 1.0)
            unknown[feed.columns] = False
    if np.any(unknown):
        part = weights[:, unknown]
        std[unknown] = np.sqrt(assumed_variance(part, group.weight_sets[:, group.inputs], prior))
        size = np.sqrt(np.mean(np.sum(part**2, axis=0)))
        codes.append(np.zeros_like(weights))
        codes[-1][:, unknown] = part / (size if size > 0.0 else 1.0)
        share[unknown] = WEIGHTS_SHARE if prior.kind == "weights" else 0.0
    return _draws(mean, std * np.sqrt(1.0 - share), np.concatenate(codes) * std * np.sqrt(share))


def _draws(
    mean: np.ndarray, own: np.ndarray, codes: np.ndarray
) -> Callable[[int, tf.Tensor], tf.Tensor]:
    centre, alone, together = (tf.constant(part, tf.float32) for part in (mean, own, codes))

    def draw(rows: int, seed: tf.Tensor) -> tf.Tensor:
        seed = tf.cast(seed, tf.int32)
        features = tf.random.stateless_normal((rows, len(mean)), seed)
        hidden = tf.random.stateless_normal((rows, len(codes)), seed + [_CODES, 0])
        return centre + alone * features + tf.matmul(hidden, together)

    return draw
