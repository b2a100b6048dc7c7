"""Run a model on unlabelled rows: collect units' values, and the moments of attention's inputs."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from keras_dfprune.graph.calls import Tensor, run_calls
from keras_dfprune.graph.keras_private import detached
from keras_dfprune.inputs.model_inputs import Samples, batches
from keras_dfprune.locate.groups import Inlet, UnitGroup
from keras_dfprune.locate.locate import LocatedModel

# Samples of unit values kept for each group: four for each unit of a group of 4,096 units.
_MOST_VALUES = 16_384
_BATCH = 64


@dataclasses.dataclass(frozen=True, eq=False)
class Observed:
    """Values of units and moments of inputs that a model computes on rows.

    Attributes:
        units: Values of the units of each group, by its name: float arrays, shape
            `(samples, units)`.
        inputs: Mean and covariance of the vectors that enter layers with heads, by tensor: float64
            arrays of shape `(features,)` and `(features, features)`.
    """

    units: dict[str, np.ndarray]
    inputs: dict[Tensor, tuple[np.ndarray, np.ndarray]]


def unit_values(located: LocatedModel, rows: Samples, seed: int = 0) -> dict[str, np.ndarray]:
    """Run a model on rows and return the values of its units, as `observe` does."""
    return observe(located, rows, seed).units


def observe(located: LocatedModel, rows: Samples, seed: int = 0) -> Observed:
    """Run a model on rows and collect the values of its units at their seams.

    A convolution or a Dense layer on sequences gives a sample for each position, a recurrent layer
    one for each step, because it reads its own units at each.

    Args:
        located: The model with its groups.
        rows: Rows of every input, by input name.
        seed: For the choice of positions where a group has many.

    Raises:
        ValueError: If the model fails on the rows.
    """
    generator = np.random.default_rng(seed)
    sums = {tensor: _Sums() for tensor in _inputs_of_heads(located)}
    collected: dict[str, list[np.ndarray]] = {name: [] for name in located.layout.groups}
    total = len(next(iter(rows.values())))
    share = max(1, _MOST_VALUES * _BATCH // max(total, _BATCH))
    for batch in batches(located.model, rows, _BATCH):
        given = {
            tensor: keras.ops.convert_to_tensor(batch[tensor.name])
            for tensor in located.graph.inputs
        }
        with keras.StatelessScope():  # the states of a stateful LSTM stay as they were
            tensors = run_calls(located.graph.calls, given)
        for tensor, running in sums.items():
            running.add(np.asarray(tensors[tensor], np.float64))
        for name, group in located.layout.groups.items():
            values = np.concatenate([_at_seams(group, tensors), *_at_steps(group, tensors)])
            if len(values) > share:
                values = values[generator.choice(len(values), share, replace=False)]
            collected[name].append(values)
    units = {name: np.concatenate(parts) for name, parts in collected.items()}
    return Observed(units, {tensor: running.moments() for tensor, running in sums.items()})


def _inputs_of_heads(located: LocatedModel) -> set[Tensor]:
    """Return the tensors that enter the layers whose heads can get fewer dimensions."""
    return {
        tensor
        for group in located.layout.heads.values()
        for call in group.calls
        for tensor in group.rule.sources(call, group.kind)
        if tensor is not None
    }


class _Sums:
    """Sums over vectors, from which their mean and covariance follow."""

    def __init__(self) -> None:
        self._count = 0
        self._sum: Any = 0.0
        self._squares: Any = 0.0

    def add(self, values: np.ndarray) -> None:
        """Add the vectors of a float array, shape `(..., features)`."""
        vectors = values.reshape(-1, values.shape[-1])
        self._count += len(vectors)
        self._sum = self._sum + vectors.sum(axis=0)
        self._squares = self._squares + vectors.T @ vectors

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and covariance."""
        mean = self._sum / self._count
        return mean, self._squares / self._count - np.outer(mean, mean)


def _at_seams(group: UnitGroup, tensors: Mapping[Tensor, Any]) -> np.ndarray:
    """Return the units' values behind their last activation, a row for each sample and position."""
    seams = {(seam.seam.tensor, seam.seam.columns.tobytes()): seam for seam in group.seams}
    return np.concatenate([_at_seam(seam, tensors) for seam in seams.values()])


def _at_steps(group: UnitGroup, tensors: Mapping[Tensor, Any]) -> Iterator[np.ndarray]:
    """Yield the units of recurrent layers that return only their last step, at every step."""
    for producer in group.producers:
        call = producer.call
        if producer.rule.own_rows is None or call.operation.return_sequences:
            continue
        units = producer.rule.units_of_outputs(call)[call.outputs[0]]
        order = np.argsort(units, kind="stable").reshape(group.units, -1)
        with keras.StatelessScope():  # the copy has the layer's own states
            results = run_calls([call], tensors, {call: _with_all_steps(call.operation)})
        yield _by_unit(np.asarray(results[call.outputs[0]], np.float32), order)


def _with_all_steps(layer: keras.Layer) -> keras.Layer:
    """Return a copy of a recurrent layer that shares its weights and returns all steps."""
    copy = detached(layer)
    attributes = vars(copy)
    attributes["return_sequences"] = True
    for name in ("forward_layer", "backward_layer"):  # of Bidirectional
        if name in attributes:
            attributes[name] = _with_all_steps(attributes[name])
    return copy


def _at_seam(seam: Inlet, tensors: Mapping[Tensor, Any]) -> np.ndarray:
    values = np.moveaxis(np.asarray(tensors[seam.seam.tensor], np.float32), seam.seam.axis, -1)
    return _by_unit(values, seam.seam.columns)


def _by_unit(values: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return a row of units for each sample and position: float array, shape `(rows, units)`.

    Args:
        values: Float array, shape `(..., features)`.
        columns: The features by unit: int array, shape `(units, positions)`.
    """
    values = values.reshape(-1, values.shape[-1])[:, columns]
    return values.transpose(0, 2, 1).reshape(-1, len(columns))
