"""Find inputs that a model's BatchNormalizations have seen: synthetic rows, made without data.

Each BatchNormalization keeps the mean and variance of its inputs over the training data. Noise is
moved down the gradient until it has the same ones ("DeepInversion", Yin et al. 2020).
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_dfprune.graph.calls import Graph, run_calls
from keras_dfprune.inputs.measured_statistics import (
    Units,
    find_statistics,
    squared_difference,
    units_of_input,
)
from keras_dfprune.inputs.model_inputs import Samples
from keras_dfprune.inputs.smooth_noise import smooth_noise
from keras_dfprune.locate.locate import LocatedModel
from keras_dfprune.methods.adam import Adam
from keras_dfprune.report.progress import SILENT, Bar, Progress
from keras_dfprune.rules.multiply_adds import multiply_adds

# Limit on the work in multiply-adds: minutes on a few cores. No clock is read, so that the rows are
# the same on every machine.
MOST_WORK = 3e12
# Forward passes that cost as much as a step with its gradient.
_PASSES = 3
# What a small network gets, and the least that is of use. On a ResNet 200 steps gave no better rows
# for `Moments` than 60.
_MOST_ROWS, _MOST_STEPS = 768, 100
_LEAST_ROWS, _LEAST_STEPS = 64, 60
# Rows that have the measured statistics together. More of them take more memory at a time.
_BATCH = 256
_MOST_VALUES = 2**28  # of all tensors of a batch: a gigabyte
# Learning rate of Adam in units of the deviation at the start.
_RATE = 0.1
# Standard deviations tried for the start, and means in units of them.
_SCALES = tuple(10.0 ** (power / 2) for power in range(-4, 6))
_MEANS = (0.0, 1.0, 2.0, -1.0)


@dataclasses.dataclass(frozen=True, eq=False)
class FoundInputs:
    """Inputs found for a model.

    Attributes:
        samples: Float32 arrays by input name, the rows first.
        before: Loss of the noise at the start: the squared differences of means and of deviations
            in units of the measured variance, averaged over channels, then over layers.
        after: Loss of the samples.
        layers: Number of calls of BatchNormalizations whose statistics were matched.
    """

    samples: Samples
    before: float
    after: float
    layers: int


def can_find_inputs(located: LocatedModel) -> str | None:
    """Return why no inputs can be found for a model, or None if they can.

    Args:
        located: The model.

    Returns:
        The reason, which completes "the model ...".
    """
    graph = located.graph
    for tensor in graph.inputs:
        if "float" not in tensor.dtype:
            return f"takes values that are not floats (input '{tensor.name}': {tensor.dtype})"
        if not tensor.shape or None in tensor.shape[1:]:
            return f"takes an input of unknown shape ('{tensor.name}': {tensor.shape})"
        if tensor.shape[0] is not None:
            return f"takes a fixed number of rows ('{tensor.name}': {tensor.shape})"
    if not find_statistics(graph):
        return "has no BatchNormalization with measured means and positive variances"
    try:
        work = multiply_adds(graph.calls) * _PASSES * _LEAST_ROWS * _LEAST_STEPS
    except ValueError as error:
        return f"has layers of unknown cost. {error}"
    if work > MOST_WORK:
        return f"is too large: {work:.1e} multiply-adds to find inputs, at most {MOST_WORK:.0e}"
    return None


def found_inputs(
    located: LocatedModel,
    *,
    count: int | None = None,
    seed: int = 0,
    progress: Progress = SILENT,
) -> FoundInputs:
    """Find inputs that match the statistics of a model's BatchNormalizations.

    Args:
        located: The model. It isn't changed.
        count: Number of rows. By default 768 for small networks, fewer for larger ones.
        seed: Seed of the noise at the start. Two runs with one seed on one machine give the same
            rows.
        progress: Shows a bar.

    Raises:
        ValueError: If `can_find_inputs` gives a reason, or no statistic is finite on noise.
    """
    reason = can_find_inputs(located)
    if reason:
        raise ValueError(f"Can't find inputs: the model {reason}.")
    generator = np.random.default_rng(seed)
    rows, steps = _rows_and_steps(multiply_adds(located.graph.calls), count)
    batches = math.ceil(rows / _batch_size(located.graph))
    search = _Search(located.graph, math.ceil(rows / batches), generator)
    bar = progress.bar("Find inputs", batches * steps, "step")
    results = [search.find_batch(steps, bar, batch * steps) for batch in range(batches)]
    samples, before, after = zip(*results, strict=True)
    return FoundInputs(
        samples={
            tensor.name: np.concatenate(parts)[:rows]
            for tensor, parts in zip(located.graph.inputs, zip(*samples, strict=True), strict=True)
        },
        before=float(np.mean(before)),
        after=float(np.mean(after)),
        layers=len(search.targets),
    )


def _rows_and_steps(cost: int, count: int | None) -> tuple[int, int]:
    """Share the work out.

    Args:
        cost: Multiply-adds of one row.
        count: Number of rows, or None.
    """
    row_steps = MOST_WORK / (_PASSES * max(cost, 1))
    share = min(1.0, math.sqrt(row_steps / (_MOST_ROWS * _MOST_STEPS)))
    steps = max(_LEAST_STEPS, int(_MOST_STEPS * share))
    rows = max(_LEAST_ROWS, min(_MOST_ROWS, int(row_steps / steps)))
    if count is None:
        return rows, steps
    return count, int(min(_MOST_STEPS, max(_LEAST_STEPS, row_steps / count)))


def _batch_size(graph: Graph) -> int:
    values = sum(
        math.prod(length or 1 for length in tensor.shape[1:])
        for call in graph.calls
        for tensor in call.outputs
    )
    return max(_LEAST_ROWS, min(_BATCH, _MOST_VALUES // max(values, 1)))


class _Search:
    """Search for batches of inputs of one model.

    An input is `mean + std * point` in units that suit the model, and the points are moved.

    Args:
        graph: The model's calls.
        rows: Number of rows of a batch.
        generator: The source of random numbers.

    Attributes:
        targets: The statistics to match.
    """

    def __init__(self, graph: Graph, rows: int, generator: np.random.Generator):
        self._graph, self._rows, self._generator = graph, rows, generator
        self._units = [units_of_input(graph, tensor) for tensor in graph.inputs]
        self.targets = find_statistics(graph)
        noise = self._noise()
        differences = self._differences()
        finite = np.isfinite(differences(self._inputs(noise)).numpy())
        if not finite.all():  # Behind a layer that gives NaN nothing can be matched.
            self.targets = [target for target, ok in zip(self.targets, finite, strict=True) if ok]
            if not self.targets:
                raise ValueError("Can't find inputs: the model gives NaN or infinity on noise.")
            differences = self._differences()
        self._units, self._means = self._find_start(noise, differences)
        self._points = [tf.Variable(value) for value in noise]
        adam = Adam(self._points)

        @tf.function(autograph=False)
        def loss() -> tf.Tensor:
            return tf.reduce_mean(differences(self._inputs(self._points)))

        @tf.function(autograph=False)
        def step(rate: tf.Tensor) -> None:
            with tf.GradientTape() as tape:
                value = loss()
            adam.apply(tape.gradient(value, self._points, unconnected_gradients="zero"), rate)

        self._adam, self._loss, self._step = adam, loss, step

    def find_batch(self, steps: int, bar: Bar, done: int) -> tuple[list[np.ndarray], float, float]:
        """Move noise until it has the measured statistics.

        Args:
            steps: Number of steps.
            bar: Shows the steps.
            done: Number of steps of the batches before.

        Returns:
            An array for each input, the loss at the start and at the end.
        """
        self._adam.reset()
        for point, noise, mean in zip(self._points, self._noise(), self._means, strict=True):
            point.assign(noise + mean)
        before = float(self._loss())
        for step in range(steps):
            rate = 0.5 * _RATE * (1.0 + math.cos(math.pi * step / steps))
            self._step(tf.constant(rate, tf.float32))
            bar.update(done + step + 1)
        return [value.numpy() for value in self._inputs(self._points)], before, float(self._loss())

    def _noise(self) -> list[np.ndarray]:
        shapes = [
            [length for length in tensor.shape[1:] if length is not None]  # `can_find_inputs`
            for tensor in self._graph.inputs
        ]
        return [smooth_noise(shape, self._rows, self._generator) for shape in shapes]

    def _inputs(self, points: Sequence[Any]) -> list[tf.Tensor]:
        return [
            tf.constant(units.mean) + tf.constant(units.std) * point
            for units, point in zip(self._units, points, strict=True)
        ]

    def _find_start(
        self, noise: Sequence[np.ndarray], differences: Callable
    ) -> tuple[list[Units], list[float]]:
        """Return the units and the mean of the noise with the lowest loss, for each input."""
        choices = [(np.float32(scale), mean) for scale in _SCALES for mean in _MEANS]

        def loss(start: Sequence[tuple[float, float]]) -> float:
            points = [s * (value + mean) for value, (s, mean) in zip(noise, start, strict=True)]
            value = float(tf.reduce_mean(differences(self._inputs(points))))
            return value if math.isfinite(value) else math.inf

        best = min(([choice] * len(noise) for choice in choices), key=loss)
        for i in range(len(noise) if len(noise) > 1 else 0):
            best = min(([*best[:i], choice, *best[i + 1 :]] for choice in choices), key=loss)
        units = [
            Units(u.mean, scale * u.std) for u, (scale, _) in zip(self._units, best, strict=True)
        ]
        return units, [mean for _, mean in best]

    def _differences(self) -> Callable[[Sequence[tf.Tensor]], tf.Tensor]:
        """Return a function from the inputs to the difference at each target."""
        targets = self.targets

        @tf.function(autograph=False)
        def differences(values: Sequence[tf.Tensor]) -> tf.Tensor:
            given = dict(zip(self._graph.inputs, values, strict=True))
            with keras.StatelessScope():  # the states of a stateful LSTM stay as they were
                tensors = run_calls(self._graph.calls, given)
            return tf.stack(
                [squared_difference(tensors[target.tensor], target) for target in targets]
            )

        return differences
