"""Train a whole narrow model to follow the wide one on unlabelled rows."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_dfprune.graph.before_activation import before_activation
from keras_dfprune.graph.keras_private import all_layers, functional_core
from keras_dfprune.graph.ownership import variable_key
from keras_dfprune.inputs.model_inputs import Samples, pack_inputs, read_inputs
from keras_dfprune.refine.batches import RowBatches, in_chunks
from keras_dfprune.refine.checkpoint import Checkpoint
from keras_dfprune.refine.distill import (
    Lessons,
    Refinement,
    strategy_of,
    train_to_follow,
)
from keras_dfprune.report.progress import SILENT, Progress

# Learning rate of the first step (docs/research/measurements.md).
LEARNING_RATE = 1e-3
# Bytes of the wide model's outputs that are kept; more of them are computed again in each step.
KEPT_OUTPUTS = 2**28
# Gradients in float16 can't be below 6e-8, so the loss is multiplied by this.
FLOAT16_SCALE = 2.0**15
# Outputs that hardly vary count as if they varied by this part of their mean square.
_LEAST_VARIANCE = 1e-6

Run = Callable[[Sequence[Any]], list[tf.Tensor]]


def recover(
    narrow: keras.Model,
    wide: keras.Model,
    rows: Samples,
    held_out: Samples,
    *,
    steps: int,
    batch_size: int = 256,
    seed: int = 0,
    mixtures: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
    untouched: Sequence[keras.Variable] = (),
    progress: Progress = SILENT,
) -> Refinement:
    """Train `narrow` in place until its outputs follow those of `wide`.

    Both models run at inference: BatchNormalization uses its moving statistics and Dropout is off.
    Outputs are compared in front of the last activations. Each counts by its squared difference
    over its variance. What is kept is the best seen on `held_out`, the start included.

    Trained are the trainable variables of `narrow` that `wide` doesn't share. A constraint that a
    variable keeps at the start is kept. The states of stateful layers stay as they were. Variables
    made in the scope of a `tf.distribute` strategy are trained on all of its replicas.

    Args:
        narrow: A built model. Its weights change.
        wide: A built model with the same inputs in the same order, and the same outputs.
        rows: One or more rows of each input, in the order of the inputs.
        held_out: One or more rows to choose the weights by. They are never trained on.
        steps: Int, 0 or more: steps of Adam.
        batch_size: Int, 1 or more: rows in each step. Without mixtures at most all rows. A model
            whose batch size is fixed takes its own.
        seed: Int, 0 or more: the order of the rows. Equal seeds give equal weights on one machine.
        mixtures: Whether the batches are made of mixtures of rows and of draws, as `RowBatches`
            makes them. For few rows: see `needs_mixtures`.
        checkpoint: Path of a file that keeps the state of the run. If the file exists, the run
            goes on from there, and gives the result of a run without interruption. The file
            stays. None for no file.
        untouched: Further variables that stay as they are.
        progress: Shows how many steps are done and the difference on `held_out`.

    Returns:
        What was reached on `held_out`.

    Raises:
        ValueError: If no output holds floats, or the checkpoint belongs to another run.
    """
    specs = read_inputs(narrow)
    fixed = specs[0].shape[0]
    arrays, held_out_arrays = list(rows.values()), list(held_out.values())
    variables = _own_variables(narrow, [*wide.variables, *untouched])
    size = fixed or (batch_size if mixtures else min(batch_size, len(arrays[0])))
    size = max(size, strategy_of(variables).num_replicas_in_sync)
    run_wide, run_narrow = _runs(wide, narrow)

    all_rows = [np.concatenate(pair) for pair in zip(arrays, held_out_arrays, strict=True)]
    outputs, variances = _outputs_of(run_wide, all_rows, fixed or batch_size, whole=bool(fixed))
    inputs = len(arrays)
    if outputs is not None and not mixtures:
        arrays += [output[: len(arrays[0])] for output in outputs]

    def follow_wide(values: Sequence[Any]) -> Sequence[Any]:
        return values[inputs:] or run_wide(values)  # Not every batch comes with the outputs.

    lessons = Lessons(
        batch=RowBatches(arrays, size, seed, mixtures=mixtures),
        held_out=list(in_chunks(held_out_arrays, fixed or batch_size, whole=bool(fixed))),
        variances=variances,
        rate=LEARNING_RATE,
        loss_scale=FLOAT16_SCALE if _computes_in_float16(narrow) else 1.0,
    )
    settings = {
        "steps": steps,
        "batch size": size,
        "seed": seed,
        "mixtures": mixtures,
        "rows": [len(arrays[0]), len(held_out_arrays[0])],
        "learning rate": lessons.rate,
        "trained weights": [list(variable.shape) for variable in variables],
    }
    bar = progress.bar("Recovering", steps, "step")
    return train_to_follow(
        follow_wide,
        lambda values: run_narrow(values[:inputs]),
        variables,
        lessons,
        steps=steps,
        checkpoint=None if checkpoint is None else Checkpoint(checkpoint, settings),
        progress=bar.update,
    )


def _own_variables(
    narrow: keras.Model, others: Sequence[keras.Variable | tf.Variable]
) -> list[keras.Variable]:
    """Return the trainable variables that are not among others."""
    keys = {variable_key(variable) for variable in others}
    return [
        variable
        for variable in narrow.trainable_variables
        if variable_key(variable) not in keys and "float" in variable.dtype
    ]


def _runs(wide: keras.Model, narrow: keras.Model) -> tuple[Run, Run]:
    """Return functions from the inputs of both models to the outputs to compare, in float32."""
    if functional_core(wide) is not None and functional_core(narrow) is not None:
        fronts = before_activation(wide), before_activation(narrow)
        if fronts[0].softmax == fronts[1].softmax:
            wide, narrow = (front.model for front in fronts)
    return _run(wide), _run(narrow)


def _run(model: keras.Model) -> Run:
    def run(values: Sequence[Any]) -> list[tf.Tensor]:
        with keras.StatelessScope():  # States that a call changes are thrown away with the scope.
            outputs = model(pack_inputs(model, values), training=False)
        floats = [part for part in keras.tree.flatten(outputs) if part.dtype.is_floating]
        if not floats:
            raise ValueError(
                f"Model '{model.name}' has no output of floats that another model could follow."
            )
        return [tf.cast(part if part.shape.rank else part[None], tf.float32) for part in floats]

    return run


def _outputs_of(
    run: Run, rows: Sequence[np.ndarray], size: int, *, whole: bool
) -> tuple[list[np.ndarray] | None, list[float]]:
    """Run the wide model on all rows.

    Args:
        run: Function from inputs to outputs.
        rows: All rows of each input.
        size: Rows at a time.
        whole: Whether the last chunk has to be filled up.

    Returns:
        The outputs, or None if they are too large to keep or don't have a row for each row, and
        the variance of each, summed over the features.

    Raises:
        ValueError: If an output has no finite value.
    """
    count = len(rows[0])
    kept: list[list[np.ndarray]] | None = []
    sums: list[_Sum] = []
    for values in in_chunks(rows, size, whole=whole):
        outputs = [output.numpy() for output in run(values)]
        sums = sums or [_Sum() for _ in outputs]
        for running, output in zip(sums, outputs, strict=True):
            running.add(output)
        too_large = count / size * sum(output.nbytes for output in outputs) > KEPT_OUTPUTS
        if too_large or any(len(output) != len(values[0]) for output in outputs):
            kept = None
        if kept is not None:
            kept.append(outputs)
    variances = [running.variance() for running in sums]
    if kept is None:
        return None, variances
    return [np.concatenate(parts)[:count] for parts in zip(*kept, strict=True)], variances


class _Sum:
    """Mean and squared deviations of rows that come in chunks (Chan et al. 1983)."""

    def __init__(self) -> None:
        self._rows = 0
        self._mean: Any = 0.0
        self._deviations: Any = 0.0
        self._has_value = False

    def add(self, output: np.ndarray) -> None:
        """Add the rows of a chunk. Values that are not finite count as 0."""
        finite = np.isfinite(output)
        self._has_value |= bool(finite.any())
        values = np.where(finite, output, 0).astype(np.float64)
        mean, total = values.mean(axis=0), self._rows + len(values)
        step = mean - self._mean
        self._deviations += np.square(values - mean).sum(axis=0)
        self._deviations += np.square(step) * (self._rows * len(values) / total)
        self._mean += step * (len(values) / total)
        self._rows = total

    def variance(self) -> float:
        """Return the variance, summed over the features."""
        if not self._has_value:
            raise ValueError(
                "The wide model's outputs on the given rows are not finite: there is nothing to "
                "follow. Give other rows."
            )
        least = _LEAST_VARIANCE * np.sum(np.square(self._mean))
        return max(float(np.sum(self._deviations)) / self._rows, float(least), 1e-30)


def _computes_in_float16(model: keras.Model) -> bool:
    return any(layer.compute_dtype == "float16" for layer in all_layers(model))
