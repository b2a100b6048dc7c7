"""The arrays of a model's layers while groups are cut one after the other.

`LayerStates` starts as the model's own arrays; `absorb` folds one group's merge into the consumers.
"""

import numpy as np

from keras_dfprune.locate.groups import Inlet, Layout, UnitGroup
from keras_dfprune.rules.base import UnitRule
from keras_dfprune.rules.effects import Affine, Join, Nonlinear
from keras_dfprune.rules.features import Stage
from keras_dfprune.rules.layer_state import LayerState


class LayerStates:
    """Layer states by path, read from the model when first asked for.

    A consumer's arrays have the input features that are left: `absorb` leaves out the others. All
    other axes keep their full widths until `rebuild` cuts them.

    Args:
        layout: What `locate` found.
    """

    def __init__(self, layout: Layout):
        self._layout = layout
        self._states: dict[str, LayerState] = {}
        self._edited: set[str] = set()
        self.kept: dict[str, np.ndarray] = {}

    def __getitem__(self, path: str) -> LayerState:
        if path not in self._states:
            record = self._layout.layers[path]
            self._states[path] = record.rule.read(record.call.operation)
        return self._states[path]

    def edit(self, path: str, state: LayerState) -> None:
        """Replaces a layer's state."""
        self._states[path] = state
        self._edited.add(path)

    def edited(self, path: str) -> bool:
        """Whether a layer's arrays differ from the model's."""
        return path in self._edited

    def left(self, path: str) -> np.ndarray:
        """Which input features of a consumer are left: bool array, shape `(features,)`."""
        return self._layout.layers[path].inputs.kept(self.kept)

    def effect(self, stage: Stage) -> Affine | Nonlinear | Join:
        """What a stage does to its features at the present weights."""
        path = stage.call.path
        state = self[path] if path in self._layout.layers else stage.rule.read(stage.call.operation)
        return stage.rule.effect(stage.call, state)

    def carried(self, inlet: Inlet) -> tuple[np.ndarray, np.ndarray]:
        """Scale and shift from the seam to a consumer: two arrays, shape `(units, positions)`."""
        scale, shift = np.ones(inlet.order.shape), np.zeros(inlet.order.shape)
        for stage in inlet.carried:
            effect = self.effect(stage)
            factor = of_features(effect.scale, stage.features)[inlet.order]
            scale = scale * factor
            shift = shift * factor + of_features(effect.shift, stage.features)[inlet.order]
        return scale, shift


def of_units(stage: Stage, order: np.ndarray) -> np.ndarray:
    """The layer's own feature that each unit is, all its positions alike; shape `(units,)`."""
    return stage.features[order][:, 0]


def of_features(values: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Picks a parameter for each feature, shape `(features,)`; a single one serves them all."""
    values = np.asarray(values, np.float64)
    return values[features] if values.size > 1 else np.full(len(features), values.reshape(-1)[0])


def counted(stays: np.ndarray) -> np.ndarray:
    """Where each feature that stays is when the others have gone: int array."""
    return np.cumsum(stays) - 1


def picked(array: np.ndarray, places: np.ndarray) -> np.ndarray:
    """`array[places]`; no copy, but a view, where those are all rows in order."""
    if np.array_equal(places.ravel(), np.arange(len(array))):
        return array.reshape(*places.shape, *array.shape[1:])
    return array[places]


def consumers(group: UnitGroup) -> list[Inlet]:
    """The inlets without the further calls of a shared consumer: each kernel is edited once."""
    first = {}
    for inlet in group.inlets:
        first.setdefault(inlet.call.path, inlet.call)
    return [inlet for inlet in group.inlets if first[inlet.call.path] is inlet.call]


def without_bias(layout: Layout) -> dict[str, UnitRule]:
    """Rules, by path, of consumers that an offset would give a bias which they don't have."""
    return {
        inlet.call.path: inlet.rule
        for group in layout.groups.values()
        for inlet in group.inlets
        if inlet.normalization is None and not inlet.rule.has_bias(inlet.call.operation)
    }
