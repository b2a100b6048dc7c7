"""Compare two models or files on rows of data: the public function `compare`."""

import dataclasses
import math
import os
import sys
from typing import Any

import keras
import numpy as np

from keras_dfprune.graph.compare_outputs import (
    agreement,
    compare_output,
    is_number,
    squared_change,
)
from keras_dfprune.inputs.model_inputs import InputSpec, Samples
from keras_dfprune.inputs.rows import MOST_ROWS
from keras_dfprune.inputs.user_rows import comes_in_batches, holds_labels, read_rows_of
from keras_dfprune.measure.compiled_metrics import compiled_metrics
from keras_dfprune.measure.labels import labels_by_output, measure_against
from keras_dfprune.measure.opened import Opened, open_source
from keras_dfprune.measure.run_both import Outputs, common_inputs, run_both
from keras_dfprune.report.silence import without_keras_warnings
from keras_dfprune.report.table import align


@dataclasses.dataclass(frozen=True)
class OutputComparison:
    """Difference of one output between two models, as the models return it.

    Attributes:
        output: Name of the output: its key, or `output_0` and on.
        max_abs_difference: Largest absolute difference. Infinite if only one of two values is
            finite, or if texts differ.
        max_relative_difference: The same over the largest absolute value of the first model's
            output; the absolute difference if that is 0.
        squared_change: Squared difference over the variance of the first model's output. Infinite
            if a constant output changes. None for a single row, for texts, and if the first
            model's output is not finite.
        agreement: Share of rows in which the same entry is the largest, in [0, 1]. None for
            outputs of a single entry.
    """

    output: str
    max_abs_difference: float
    max_relative_difference: float
    squared_change: float | None
    agreement: float | None


@dataclasses.dataclass(frozen=True)
class MetricComparison:
    """One metric of both models on labelled rows.

    Attributes:
        metric: `"accuracy"`, `"mean squared error"`, or the name of a metric that both models were
            compiled with.
        output: Name of the output. None for compiled metrics, whose names say it.
        before: Its value for the first model.
        after: Its value for the second model.
    """

    metric: str
    output: str | None
    before: float
    after: float


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two models or files side by side, as `compare` measures them.

    Attributes:
        names: Names of the models, or paths of the files.
        parameters: Number of parameters of both; None where it can't be known, as in `profile`.
        bytes: Sizes of both files; of a model in memory, of its weights.
        rows: Number of rows on which the outputs were compared.
        outputs: An `OutputComparison` for each output.
        metrics: A `MetricComparison` for each metric; empty without labels.
        notes: What couldn't be computed.
    """

    names: tuple[str, str]
    parameters: tuple[int | None, int | None]
    bytes: tuple[int, int]
    rows: int
    outputs: tuple[OutputComparison, ...]
    metrics: tuple[MetricComparison, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return all attributes in a dict that `json.dumps` takes.

        Numbers that are not finite are strings that `float` takes: `"inf"`, `"nan"`.
        """
        content: dict[str, Any] = _json_ready(dataclasses.asdict(self))
        return content

    def __str__(self) -> str:
        before, after = self.names
        counted = "1 row" if self.rows == 1 else f"{self.rows:,} rows"
        sizes = [
            ("", "Before", "After"),
            ("Parameters", *(_count(value) for value in self.parameters)),
            ("Bytes", *(_count(value) for value in self.bytes)),
        ]
        metrics = [
            (_title(metric), f"{metric.before:.4g}", f"{metric.after:.4g}")
            for metric in self.metrics
        ]
        lines = [f"'{before}' and '{after}' on {counted}", "", *align([*sizes, *metrics])]
        lines += ["", *align([_HEADINGS, *(_cells(output) for output in self.outputs)])]
        notes = [f"  {note}" for note in self.notes]
        return "\n".join([*lines, *(["", "Not computed", *notes] if notes else [])])


_HEADINGS = ("Output", "Largest difference", "Relative", "Squared change", "Same largest entry")


def compare(
    before: keras.Model | str | os.PathLike[str],
    after: keras.Model | str | os.PathLike[str],
    data: Any,
) -> Comparison:
    """Compare two models or files: their sizes, and their outputs on the same rows.

    The outputs are compared as they are returned, so behind a last softmax. A file that takes or
    returns int8 is given and read as the numbers that its integers stand for.

    Args:
        before: The first one: a built Keras model, or the path of a `.keras` file, a `.tflite` file
            or a SavedModel folder.
        after: The second one, with the same inputs and outputs: pruned, quantized or converted, for
            example. Neither changes.
        data: Rows of the inputs: an array; a dict of arrays by input name; a list of arrays, one
            for each input; a `tf.data.Dataset`, or a generator or a function that returns one, of
            batches, of which at most 8,192 rows are used. Or a tuple `(x, y)` of such rows with
            their labels; then metrics are compared, too. `y` is one array, or a dict of arrays by
            output name: class numbers or one-hot classes (accuracy of the largest entry), or
            targets in the shape of the output (mean squared error). For a model of several inputs
            `x` must be a list or a dict. If both are compiled Keras models, the metrics that they
            share are computed as well.

    Returns:
        A `Comparison`; print it for a table.

    Raises:
        TypeError: If a model is neither a Keras 3 model nor a path.
        FileNotFoundError: If there is no such file.
        ValueError: If a model isn't built, a file can't be read, the inputs or outputs of the two
            differ, or `data` doesn't fit or has values that are not finite.

    Examples:
        >>> import keras, numpy as np, keras_dfprune as dfprune
        >>> model = keras.Sequential(
        ...     [keras.Input((8,)), keras.layers.Dense(20, "relu"), keras.layers.Dense(3)]
        ... )
        >>> rows = np.random.default_rng(0).normal(size=(50, 8))
        >>> result = dfprune.compare(model, dfprune.apply(model, tolerance=0), rows)
        >>> result.rows, result.outputs[0].agreement
        (50, 1.0)
    """
    first, second = open_source(before, "before"), open_source(after, "after")
    inputs = common_inputs(first, second)
    samples, labels = _read(inputs, data)
    with without_keras_warnings():
        expected, received = run_both(first, second, inputs, samples)
        metrics, notes = _metrics(first, second, expected, received, labels)
    return Comparison(
        names=(first.name, second.name),
        parameters=(first.parameters, second.parameters),
        bytes=(first.bytes, second.bytes),
        rows=len(next(iter(samples.values()))),
        outputs=tuple(_output(name, expected[name], received[name]) for name in expected),
        metrics=tuple(metrics),
        notes=tuple(notes),
    )


def _read(inputs: list[tuple[InputSpec, InputSpec]], data: Any) -> tuple[Samples, Any]:
    """Return the rows by the first model's input names, and the labels or None."""
    specs, labels = [spec for spec, _ in inputs], None
    if isinstance(data, tuple) and len(data) == 2 and holds_labels(specs, data):
        data, labels = data
    if isinstance(data, dict):
        # Keras names an unnamed input anew when it loads a file: the second one's names will do.
        names = {other.name: spec.name for spec, other in inputs if spec.key not in data}
        data = {names.get(name, name): rows for name, rows in data.items()}
    # A generator may never end.
    most = MOST_ROWS if comes_in_batches(data) else sys.maxsize
    return read_rows_of(specs, data, "data", most), labels


def _output(name: str, expected: np.ndarray, received: np.ndarray) -> OutputComparison:
    difference = compare_output(expected, received)
    change = same = None
    if is_number(expected) and is_number(received) and expected.size:
        wide, narrow = expected.astype(np.float64), received.astype(np.float64)
        change = squared_change(wide, narrow) if len(wide) > 1 else None
        same = agreement(wide, narrow)
    return OutputComparison(name, difference.absolute, difference.relative, change, same)


def _metrics(
    first: Opened, second: Opened, expected: Outputs, received: Outputs, labels: Any
) -> tuple[list[MetricComparison], list[str]]:
    if labels is None:
        return [], []
    found = labels_by_output(labels, expected)
    metrics = []
    for name, values in found.items():
        metric, before = measure_against(name, expected[name], values)
        _, after = measure_against(name, received[name], values)
        metrics.append(MetricComparison(metric, name, before, after))
    if first.model is None or second.model is None:
        return metrics, []
    before_values, lost = compiled_metrics(first.model, expected, found)
    after_values, also_lost = compiled_metrics(second.model, received, found)
    metrics += [
        MetricComparison(name, None, before_values[name], after_values[name])
        for name in before_values
        if name in after_values
    ]
    return metrics, list(dict.fromkeys([*lost, *also_lost]))


def _title(metric: MetricComparison) -> str:
    return (
        f"{metric.metric} (compiled)"
        if metric.output is None
        else (f"{metric.metric} of {metric.output}")
    )


def _cells(output: OutputComparison) -> tuple[str, ...]:
    return (
        output.output,
        f"{output.max_abs_difference:.3g}",
        f"{output.max_relative_difference:.3g}",
        "-" if output.squared_change is None else f"{output.squared_change:.3g}",
        "-" if output.agreement is None else f"{100 * output.agreement:.1f} %",
    )


def _count(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"


def _json_ready(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _json_ready(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_json_ready(part) for part in value]
    is_float = isinstance(value, float)
    return str(value) if is_float and not math.isfinite(value) else value
