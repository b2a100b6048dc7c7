"""Train a narrow model to follow a wide one: distillation on drawn inputs, without data.

Minimises `E|f(x) - f'(x)|^2` over draws `x` from the prior with Adam (the method of Hinton et al.
2015 without their data). The incoming weights move too, so the result is no unit merge.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_dfprune.methods.adam import Adam

# Rows of fresh inputs in each step (docs/research/measurements.md).
BATCH = 256
# Learning rate of the first step. It falls to 0 with a cosine.
LEARNING_RATE = 2e-3
# Rows on which the weights to keep are chosen. They are drawn once and never trained on.
HELD_OUT = 4096
# How often the held-out difference is computed in a whole run.
CHECKS = 20


@dataclasses.dataclass(frozen=True)
class Refinement:
    """Result of a refinement.

    Attributes:
        before: Float: squared difference over the variance of the wide outputs, at the start.
        after: Float: the same with the weights that were kept. Never above `before`.
        step: Int: the step whose weights were kept; 0 for those of the start.
    """

    before: float
    after: float
    step: int


def train_to_follow(
    wide: Callable[[Any], Any],
    narrow: Callable[[Any], Any],
    variables: Sequence[keras.Variable | tf.Variable],
    draw: Callable[[int, np.ndarray], Any],
    *,
    steps: int,
    seed: int = 0,
    progress: Callable[[int, float], None] | None = None,
) -> Refinement:
    """Train `variables` of the narrow model until its outputs follow the wide one's.

    Args:
        wide: Function from inputs to a tensor or a structure of tensors to follow. Give the
            logits where the model ends in a softmax.
        narrow: The same function of the narrow model. It reads `variables`.
        variables: Trained in place. On return they hold the best weights seen, which may be
            those of the start.
        draw: Function of a number of rows and a seed (an int array of shape `(2,)` for TensorFlow's
            stateless random operations) that draws inputs from the prior.
        steps: Int, 0 or more: steps of Adam, each with fresh inputs.
        seed: Int. Two runs with one seed on one machine give the same weights.
        progress: Called with the step and the held-out difference each time it is computed.
    """
    variables = [v.value if isinstance(v, keras.Variable) else v for v in variables]
    held_out = draw(HELD_OUT, np.array([seed, -1]))
    targets = [tf.stop_gradient(output) for output in tf.nest.flatten(wide(held_out))]
    scales = [1.0 / tf.maximum(_variance(output), 1e-30) for output in targets]

    @tf.function
    def held_out_difference() -> tf.Tensor:
        return _difference(targets, tf.nest.flatten(narrow(held_out)), scales)

    optimizer = Adam(variables)

    @tf.function
    def train_step(step_seed: tf.Tensor, rate: tf.Tensor) -> None:
        inputs = draw(BATCH, step_seed)
        wanted = tf.nest.flatten(wide(inputs))
        with tf.GradientTape() as tape:
            loss = _difference(wanted, tf.nest.flatten(narrow(inputs)), scales)
        optimizer.apply(tape.gradient(loss, variables), rate)

    best = before = float(held_out_difference())
    best_values, best_step = [tf.identity(variable) for variable in variables], 0
    for step in range(1, steps + 1):
        rate = 0.5 * LEARNING_RATE * (1.0 + math.cos(math.pi * (step - 1) / steps))
        train_step(tf.constant([seed, step], tf.int32), tf.constant(rate, tf.float32))
        if step % max(1, steps // CHECKS) == 0 or step == steps:
            difference = float(held_out_difference())
            if difference < best:
                best, best_step = difference, step
                best_values = [tf.identity(variable) for variable in variables]
            if progress is not None:
                progress(step, difference)
    for variable, value in zip(variables, best_values, strict=True):
        variable.assign(value)
    return Refinement(before=before, after=best, step=best_step)


def _variance(output: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.math.reduce_variance(output, axis=0))


def _difference(
    wanted: Sequence[tf.Tensor], received: Sequence[tf.Tensor], scales: Sequence[tf.Tensor]
) -> tf.Tensor:
    """Return squared differences over each output's variance, averaged over outputs and rows."""
    parts = [
        scale * tf.reduce_sum(tf.reduce_mean(tf.square(output - target), axis=0))
        for target, output, scale in zip(wanted, received, scales, strict=True)
    ]
    return tf.add_n(parts) / len(parts)
