"""Unlabelled inputs into the values of each group's units: samples instead of a prior."""

from typing import Any

import keras
import numpy as np

from keras_dfprune.graph.calls import Graph, run_calls
from keras_dfprune.inputs.user_rows import read_representative
from keras_dfprune.locate.groups import Inlet, Layout, UnitGroup

# Rows of unit values kept for each group: the moments of 4,096 units from four times as many rows.
_MOST_ROWS = 16_384
_BATCH = 256


def unit_values(
    model: keras.Model, graph: Graph, layout: Layout, data: Any, seed: int = 0
) -> dict[str, np.ndarray]:
    """Runs the model on data and collects what its units say at their seams.

    Args:
        model: The model.
        graph: Its graph.
        layout: Its groups.
        data: Unlabelled inputs, as `representative.read_representative` takes them.
        seed: For the choice of positions where a group has many.

    Returns:
        By group: float array, shape `(samples, units)`, in the original model. A convolution or
        a Dense layer on sequences gives a sample for each position.

    Raises:
        ValueError: If the data doesn't fit the model's inputs.
    """
    try:
        rows = read_representative(model, data, _MOST_ROWS)
    except ValueError as error:
        message = str(error).replace("representative_data", "calibration_data")
        raise ValueError(message) from error
    generator = np.random.default_rng(seed)
    collected: dict[str, list[np.ndarray]] = {name: [] for name in layout.groups}
    total = len(next(iter(rows.values())))
    share = max(1, _MOST_ROWS * _BATCH // max(total, _BATCH))
    for start in range(0, total, _BATCH):
        given = {
            tensor: keras.ops.convert_to_tensor(rows[tensor.name][start : start + _BATCH])
            for tensor in graph.inputs
        }
        with keras.StatelessScope():  # the states of a stateful LSTM stay as they were
            known = run_calls(graph, given)
        for name, group in layout.groups.items():
            values = _at_seams(group, known)
            if len(values) > share:
                values = values[generator.choice(len(values), share, replace=False)]
            collected[name].append(values)
    return {name: np.concatenate(parts) for name, parts in collected.items()}


def _at_seams(group: UnitGroup, known) -> np.ndarray:
    """The units' values behind their last activation, a row for each example and position."""
    return np.concatenate([_at_seam(seam, group.units, known) for seam in group.seams])


def _at_seam(seam: Inlet, units: int, known) -> np.ndarray:
    values = np.moveaxis(np.asarray(known[seam.seam], np.float32), seam.seam_axis, -1)
    values = values.reshape(-1, values.shape[-1])[:, seam.seam_columns]
    return values.transpose(0, 2, 1).reshape(-1, units)
