"""Train a narrow model to follow a wide one: distillation without labels.

Minimises `E|f(x) - f'(x)|^2` over inputs `x` with Adam (Hinton et al. 2015). The incoming weights
move too, so the result is no unit merge.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_dfprune.methods.adam import Adam
from keras_dfprune.refine.checkpoint import Checkpoint, Seen

# Learning rate of the first step. It falls to 0 with a cosine.
LEARNING_RATE = 2e-3
# How often the held-out difference is computed in a whole run.
CHECKS = 20

Forward = Callable[[Any], Sequence[tf.Tensor]]


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


@dataclasses.dataclass(frozen=True, eq=False)
class Lessons:
    """Inputs to train on, and inputs to choose the best weights by.

    Attributes:
        batch: Function from the number of a step, from 1 on, to its inputs: a tensor or a
            structure of tensors. It always returns the same inputs for the same step.
        held_out: One or more batches that are never trained on.
        variances: Positive float for each output of the wide model: the variance, summed over the
            features. The loss of each output is divided by it.
        rate: Learning rate of the first step. It falls to 0 with a cosine.
        loss_scale: Factor of the loss, for gradients in float16, which can't be below 6e-8. It is
            halved at each step whose gradients are not finite, down to 1.
    """

    batch: Callable[[int], Any]
    held_out: Sequence[Any]
    variances: Sequence[float]
    rate: float = LEARNING_RATE
    loss_scale: float = 1.0


def train_to_follow(
    wide: Forward,
    narrow: Forward,
    variables: Sequence[keras.Variable | tf.Variable],
    lessons: Lessons,
    *,
    steps: int,
    checkpoint: Checkpoint | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> Refinement:
    """Train `variables` of the narrow model until its outputs follow the wide one's.

    A step whose loss or gradients are not finite changes no weights. Constraints that the variables
    keep at the start are kept. Variables of a `tf.distribute` strategy are trained on all of its
    replicas: each takes a part of every batch.

    Args:
        wide: Function from inputs to the float32 tensors to follow. Give the logits where the
            model ends in a softmax.
        narrow: The same function of the narrow model. It reads `variables`.
        variables: Trained in place. On return, and after an exception too, they hold the best
            weights seen, which may be those of the start.
        lessons: The inputs.
        steps: Int, 0 or more: steps of Adam.
        checkpoint: Where the state is kept in a file, so that an interrupted run can go on; None
            for no file.
        progress: Called with the step and the held-out difference each time it is computed.

    Raises:
        ValueError: If the checkpoint belongs to another run.
    """
    values = [v.value if isinstance(v, keras.Variable) else v for v in variables]
    held_out = _HeldOut(wide, narrow, lessons)
    before = held_out.difference()
    if not values:
        return Refinement(before, before, 0)
    constraints = [_kept_constraint(variable) for variable in variables]
    trainer = _Trainer(wide, narrow, values, constraints, lessons)
    figures = {
        "another wide model or other rows": sum(lessons.variances),
        "other weights of the narrow model at the start": before,
    }
    seen = Seen(0, before, 0, [tf.identity(value) for value in values])
    if checkpoint is not None:
        seen = checkpoint.load(figures, trainer.state, seen)
    try:
        for step in range(seen.step + 1, steps + 1):
            rate = 0.5 * lessons.rate * (1.0 + math.cos(math.pi * (step - 1) / steps))
            trainer.step(lessons.batch(step), tf.constant(rate, tf.float32))
            if step % max(1, steps // CHECKS) == 0 or step == steps:
                difference = held_out.difference()
                seen.step = step
                if difference < seen.best or (math.isnan(seen.best) and math.isfinite(difference)):
                    seen.best, seen.best_step = difference, step
                    seen.best_values = [tf.identity(value) for value in values]
                if checkpoint is not None:
                    checkpoint.save(figures, trainer.state, seen)
                if progress is not None:
                    progress(step, difference)
    finally:
        for value, best in zip(values, seen.best_values, strict=True):
            value.assign(best)
    return Refinement(before=before, after=seen.best, step=seen.best_step)


def strategy_of(variables: Sequence[keras.Variable | tf.Variable]) -> tf.distribute.Strategy:
    """Return the strategy in whose scope variables were made, or the one in use."""
    for variable in variables:
        value = variable.value if isinstance(variable, keras.Variable) else variable
        if hasattr(value, "distribute_strategy"):
            return value.distribute_strategy
    return tf.distribute.get_strategy()


class _HeldOut:
    """Difference of two models on the held-out inputs."""

    def __init__(self, wide: Forward, narrow: Forward, lessons: Lessons):
        self._batches = lessons.held_out
        self._targets = [tf.nest.flatten(wide(inputs)) for inputs in self._batches]
        self._rows = np.sum([[len(part) for part in targets] for targets in self._targets], axis=0)

        @tf.function
        def changes(inputs: Any, targets: list[tf.Tensor]) -> tf.Tensor:
            return tf.stack(_changes(targets, tf.nest.flatten(narrow(inputs)), lessons.variances))

        self._changes = changes

    def difference(self) -> float:
        """Return squared differences over each output's variance, averaged over outputs, rows."""
        pairs = zip(self._batches, self._targets, strict=True)
        total = sum(self._changes(*pair).numpy().astype(np.float64) for pair in pairs)
        return float(np.mean(total / self._rows))


class _Trainer:
    """Steps of Adam, compiled once.

    Args:
        wide, narrow: As for `train_to_follow`.
        variables: The variables to train.
        constraints: The constraint to keep of each variable, or None.
        lessons: As for `train_to_follow`.

    Attributes:
        state: All variables that a step changes.
        step: Function of a batch and a learning rate that takes one step.
    """

    def __init__(
        self,
        wide: Forward,
        narrow: Forward,
        variables: Sequence[tf.Variable],
        constraints: Sequence[Callable | None],
        lessons: Lessons,
    ):
        strategy = strategy_of(variables)
        replicas = strategy.num_replicas_in_sync
        with strategy.scope():
            adam = Adam(variables)
            scale = tf.Variable(lessons.loss_scale, dtype=tf.float32)
        self.state = [*variables, *adam.state, scale]

        def gradients_of(inputs: Any) -> tuple[tf.Tensor, list[tf.Tensor]]:
            inputs, share = _part_of_batch(inputs, replicas)
            wanted = tf.nest.flatten(wide(inputs))
            with tf.GradientTape() as tape:
                changes = _changes(wanted, tf.nest.flatten(narrow(inputs)), lessons.variances)
                rows = [tf.maximum(tf.cast(tf.shape(part)[0], tf.float32), 1.0) for part in wanted]
                means = [change / count for change, count in zip(changes, rows, strict=True)]
                loss = scale * share * tf.add_n(means) / len(means)
            gradients = tape.gradient(loss, variables, unconnected_gradients="zero")
            # Embeddings have sparse gradients. Coarser dtypes overflow when replicas are summed.
            dense = [tf.convert_to_tensor(gradient) for gradient in gradients]
            return loss, [part if part.dtype == tf.float64 else tf.cast(part, tf.float32)
                          for part in dense]  # fmt: skip

        def move(gradients: Sequence[tf.Tensor], rate: tf.Tensor) -> None:
            factor = 1.0 / tf.convert_to_tensor(scale)
            adam.apply([tf.cast(factor, part.dtype) * part for part in gradients], rate)
            for variable, constraint in zip(variables, constraints, strict=True):
                if constraint is not None:
                    variable.assign(constraint(tf.convert_to_tensor(variable)))

        @tf.function
        def step(inputs: Any, rate: tf.Tensor) -> None:
            loss, gradients = tf.nest.map_structure(
                lambda part: strategy.reduce("SUM", part, axis=None),
                strategy.run(gradients_of, args=(inputs,)),
            )
            finite = [tf.reduce_all(tf.math.is_finite(part)) for part in (loss, *gradients)]
            if tf.reduce_all(finite):
                move(gradients, rate)
            else:
                scale.assign(tf.maximum(0.5 * tf.convert_to_tensor(scale), 1.0))

        self.step = step


def _part_of_batch(inputs: Any, replicas: int) -> tuple[Any, tf.Tensor | float]:
    """Return the rows of a batch that this replica works on, and their share of the batch."""
    if replicas == 1:
        return inputs, 1.0
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    part = tf.nest.map_structure(lambda array: array[replica::replicas], inputs)
    counts = [tf.shape(tf.nest.flatten(value)[0])[0] for value in (part, inputs)]
    return part, tf.cast(counts[0], tf.float32) / tf.cast(counts[1], tf.float32)


def _changes(
    wanted: Sequence[tf.Tensor], received: Sequence[tf.Tensor], variances: Sequence[float]
) -> list[tf.Tensor]:
    """Return for each output the squared differences over its variance, summed over the rows.

    Values of the wide model that are not finite (the logits of masked positions) don't count.
    """
    changes = []
    for target, output, variance in zip(wanted, received, variances, strict=True):
        counts = tf.math.is_finite(target)
        difference = tf.where(counts, output, 0.0) - tf.where(counts, target, 0.0)
        changes.append(tf.reduce_sum(tf.square(difference)) / variance)
    return changes


def _kept_constraint(variable: keras.Variable | tf.Variable) -> Callable | None:
    """Return the constraint of a variable if the variable keeps it, else None."""
    constraint = getattr(variable, "constraint", None)
    if constraint is None:
        return None
    value = tf.convert_to_tensor(variable)
    after, before = (np.asarray(part, np.float64) for part in (constraint(value), value))
    return constraint if np.allclose(after, before, rtol=1e-3, atol=1e-6) else None
