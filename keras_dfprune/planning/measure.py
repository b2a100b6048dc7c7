"""Measure how much a narrow model's outputs differ from the original's.

The change of an output is the squared difference over the variance, in front of the last
activation. The largest output is compared too: how often it is the same.
"""

import dataclasses
from collections.abc import Iterable, Sequence

import keras
import numpy as np

from keras_dfprune.graph.before_activation import before_activation
from keras_dfprune.graph.calls import Graph
from keras_dfprune.graph.compare_outputs import (
    agreement,
    change_at_most,
    is_number,
    squared_change,
    variances,
)
from keras_dfprune.inputs.model_inputs import Samples, adapt_samples, batches, model_runner
from keras_dfprune.inputs.rows import Rows
from keras_dfprune.locate.depth import why_untied
from keras_dfprune.locate.locate import LocatedModel
from keras_dfprune.planning.guard_draws import guard_draws, stacked
from keras_dfprune.rules.multiply_adds import multiply_adds

# Largest change up to which units are removed without a budget: measured on rows, on inputs found
# from BatchNormalization, and on draws.
# These constants were measured on networks of several kinds: docs/research/measurements.md.
WITH_ROWS = 0.01
WITH_FOUND_INPUTS = 0.006
WITH_DRAWS = 0.02
# The same on draws where nothing ties the assumptions to the network: there the change on real
# inputs was up to a hundred times that on draws.
UNTIED = 0.0002
# Change above which the caller is warned.
NOTICEABLE = 0.05
# Rows of each kind of draws, and the least of them for models that cost more than this many
# multiply-adds for one measurement.
_MOST_DRAWS, _LEAST_DRAWS = 64, 8
_MOST_WORK, _KINDS = 2e11, 7
DRAWN = "draws of several kinds"
# Rows that a model takes at once: as many as keep to this many multiply-adds, within bounds. Each
# call of a small model costs more than the rows in it.
_BATCH_WORK, _LEAST_BATCH, _MOST_BATCH = 2e8, 64, 1024


@dataclasses.dataclass(frozen=True)
class OutputChange:
    """Change of one output of a model by pruning.

    Attributes:
        output: Name of the output: its key, or the layer that returns it.
        change: Squared change over the variance, in front of the last activation. Without rows
            the largest over several kinds of draws. Infinite where an output is not finite.
        smallest: The smallest over these kinds; the same as `change` with rows.
        at_most: Bound that the change on more rows hardly exceeds: three standard errors above the
            mean, on the rows that were held out or on the others, whichever gives more; see
            `change_at_most`. Without rows the same as `change`.
        agreement: Fraction of the rows, in [0, 1], in which the largest entry is the same; None
            for outputs of a single entry. Without rows the smallest over the kinds.
        source: What it was measured on.
    """

    output: str
    change: float
    smallest: float
    at_most: float
    agreement: float | None
    source: str


class Yardstick:
    """Inputs with the original's outputs, against which narrow models are measured.

    Args:
        located: The original.
        rows: Rows to measure on, or None for draws.
        seed: Seed of the draws.

    Raises:
        ValueError: If the model fails on the inputs.
    """

    def __init__(self, located: LocatedModel, rows: Rows | None, seed: int):
        cost = _multiply_adds(located.graph)
        self._batch = _LEAST_BATCH
        if cost is not None:
            self._batch = int(np.clip(_BATCH_WORK / cost, _LEAST_BATCH, _MOST_BATCH))
        self._names = _names(located.graph)
        if rows is None:
            sets = guard_draws(located, _rows_of_draws(cost), seed)
            self._source = DRAWN
        else:
            sets = {"held out": rows.held_out, "fit": _first(rows.fit)}
            self._source = f"held-out part of {rows.source}"
        self._inputs = stacked(sets)
        lengths = [len(next(iter(samples.values()))) for samples in sets.values()]
        ends = np.cumsum(lengths)
        self._parts = [slice(end - count, end) for end, count in zip(ends, lengths, strict=True)]
        self._wide = _outputs(located.model, self._inputs, self._batch)
        # Few rows that are held out have no variance worth the name: the others count too.
        pooled = [slice(None)] * len(self._parts) if rows is not None else self._parts
        self._on_rows = rows is not None
        self._variances = {
            name: [variances(wide[part]) for part in pooled] for name, wide in self._wide.items()
        }

    def measure(self, narrow: keras.Model) -> tuple[OutputChange, ...]:
        """Return the change of each output.

        Args:
            narrow: A model with the original's inputs and outputs.
        """
        received = _outputs(narrow, adapt_samples(self._inputs, narrow), self._batch)
        pairs = zip(self._wide, received.values(), strict=True)
        return tuple(self._compare(name, values) for name, values in pairs)

    def _compare(self, name: str, received: np.ndarray) -> OutputChange:
        wide = self._wide[name]
        cells = [
            (wide[part], received[part], scale)
            for part, scale in zip(self._parts, self._variances[name], strict=True)
        ]
        # Of rows only those that were held out count, but for the bound.
        told = cells[:1] if self._on_rows else cells
        changes = _known(squared_change(a, b, float(np.sum(scale))) for a, b, scale in told)
        bounds = changes
        if self._on_rows:
            bounds = _known(change_at_most(a, b, scale) for a, b, scale in cells)
        agreements = _known(agreement(a, b) for a, b, _ in told)
        return OutputChange(
            output=self._names.get(name, name),
            change=max(changes, default=0.0),
            smallest=min(changes, default=0.0),
            at_most=max(bounds, default=0.0),
            agreement=min(agreements, default=None),
            source=self._source,
        )


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def default_change(located: LocatedModel, rows: Rows | None) -> float:
    """Return the largest change up to which units are removed without a budget.

    Args:
        located: The original.
        rows: Rows to measure on, or None for draws.
    """
    if rows is not None:
        return WITH_FOUND_INPUTS if rows.synthetic else WITH_ROWS
    return WITH_DRAWS if why_untied(located.graph) is None else UNTIED


def largest_change(measured: Sequence[OutputChange]) -> float:
    """Return the change of the output that changes most, 0 without outputs."""
    return max((output.change for output in measured), default=0.0)


def largest_bound(measured: Sequence[OutputChange]) -> float:
    """Return the largest bound of an output's change, 0 without outputs."""
    return max((output.at_most for output in measured), default=0.0)


def _multiply_adds(graph: Graph) -> int | None:
    """Return the multiply-adds of one row, at least 1; None where a length is unknown."""
    try:
        return max(1, multiply_adds(graph.calls))
    except ValueError:
        return None


def _rows_of_draws(cost: int | None) -> int:
    """Return how many rows of each kind are drawn: fewer for models of many multiply-adds."""
    if cost is None:
        return _MOST_DRAWS
    return int(np.clip(_MOST_WORK / (_KINDS * cost), _LEAST_DRAWS, _MOST_DRAWS))


def _names(graph: Graph) -> dict[str, str]:
    """Return the layers of outputs that are only numbered, by these names; each layer once."""
    paths = {tensor: call.path for call in graph.calls for tensor in call.outputs}
    layers = [paths.get(tensor) for tensor in graph.outputs]
    return {
        f"output_{number}": layer
        for number, layer in enumerate(layers)
        if layer is not None and layers.count(layer) == 1
    }


def _first(samples: Samples, count: int = 512) -> Samples:
    return {name: array[:count] for name, array in samples.items()}


def _outputs(model: keras.Model, samples: Samples, batch: int) -> dict[str, np.ndarray]:
    """Return a model's numeric outputs in front of its last activations, float64."""
    front = before_activation(model).model
    run, given = model_runner(front), adapt_samples(samples, front)
    parts = [run(batch) for batch in batches(front, given, batch)]
    count = len(next(iter(samples.values())))
    names = [name for name, output in parts[0].items() if is_number(output)]
    rows = {name: np.concatenate([part[name] for part in parts])[:count] for name in names}
    return {name: array.astype(np.float64) for name, array in rows.items()}
