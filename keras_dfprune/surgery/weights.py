"""Hold the arrays of a model's layers while its groups are cut one after the other."""

import numpy as np

from keras_dfprune.graph.calls import Call
from keras_dfprune.locate.groups import Inlet, Layout
from keras_dfprune.rules.effects import Affine, Effect
from keras_dfprune.rules.features import Stage
from keras_dfprune.rules.kernels import ConsumerRule
from keras_dfprune.rules.layer_state import LayerState


class LayerStates:
    """States of the layers by path, read from the model when they are first asked for.

    The arrays of a consumer hold only the input features that remain, because a merge leaves the
    others out. All other axes keep their full widths until `rebuild` cuts them.

    Args:
        layout: The model's groups.

    Attributes:
        kept: The units kept of each group that has been cut: ascending int arrays by group name.
    """

    def __init__(self, layout: Layout):
        self._layout = layout
        self._states: dict[str, LayerState] = {}
        self._edited: set[str] = set()
        # An activation is tried on many values, and each site of a unit asks for it.
        self._effects: dict[Call, Effect] = {}
        self.kept: dict[str, np.ndarray] = {}

    def __getitem__(self, path: str) -> LayerState:
        if path not in self._states:
            record = self._layout.layers[path]
            self._states[path] = record.rule.read(record.call.operation)
        return self._states[path]

    def edit(self, path: str, state: LayerState) -> None:
        """Replace a layer's state."""
        self._states[path] = state
        self._edited.add(path)
        self._effects = {call: old for call, old in self._effects.items() if call.path != path}

    def edited(self, path: str) -> bool:
        """Return whether a layer's arrays differ from the model's."""
        return path in self._edited

    def remaining_rows(self, inlet: Inlet) -> np.ndarray:
        """Return which rows of a consumer's kernels remain: bool array, shape `(features,)`."""
        path = inlet.call.path
        if not inlet.recurrent:
            return self.remaining_inputs(path)
        units = self._layout.layers[path].outputs
        if units is None:
            raise ValueError(f"Layer '{path}' takes in no units of its own.")
        return units.kept(self.kept)

    def remaining_inputs(self, path: str) -> np.ndarray:
        """Return which input features of a layer remain: bool array, shape `(features,)`."""
        inputs = self._layout.layers[path].inputs
        if inputs is None:
            raise ValueError(f"Layer '{path}' takes in no units.")
        return inputs.kept(self.kept)

    def remaining_features(self, path: str) -> np.ndarray | None:
        """Return which input features of a layer remain, or None where none can go."""
        return None if self._layout.layers[path].inputs is None else self.remaining_inputs(path)

    def effect(self, stage: Stage) -> Effect:
        """Return what a stage does to its features with the present weights."""
        call, path = stage.call, stage.call.path
        if call not in self._effects:
            state = self[path] if path in self._layout.layers else stage.rule.read(call.operation)
            self._effects[call] = stage.rule.effect(call, state)
        return self._effects[call]

    def scale_and_shift(self, inlet: Inlet) -> tuple[np.ndarray, np.ndarray]:
        """Return scale and shift from the seam to a consumer: shape `(units, positions)` each."""
        scale, shift = np.ones(inlet.order.shape), np.zeros(inlet.order.shape)
        for stage in inlet.carried:
            effect = self.effect(stage)
            if not isinstance(effect, Affine):
                raise TypeError(f"{stage.call.path} lies behind a seam but isn't affine")
            factor = values_of_features(effect.scale, stage.features)[inlet.order]
            scale = scale * factor
            shift = shift * factor + values_of_features(effect.shift, stage.features)[inlet.order]
        return scale, shift


def values_of_features(values: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Pick a parameter for each feature: float64, shape `(features,)`.

    Args:
        values: One value for each of the layer's features, or a single value for all.
        features: Int array, shape `(features,)`: the features to pick.
    """
    values = np.asarray(values, np.float64)
    return values[features] if values.size > 1 else np.full(len(features), values.reshape(-1)[0])


def new_positions(remain: np.ndarray) -> np.ndarray:
    """Return the position of each remaining feature after the others have gone: int array."""
    return np.cumsum(remain) - 1


def take_rows(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return `array[rows]`; a view instead of a copy where those are all rows in order."""
    if np.array_equal(rows.ravel(), np.arange(len(array))):
        return array.reshape(*rows.shape, *array.shape[1:])
    return array[rows]


def without_bias(layout: Layout) -> dict[str, ConsumerRule]:
    """Return the rules, by path, of consumers that would get a bias for an offset."""
    return {
        inlet.call.path: inlet.rule
        for group in layout.groups.values()
        for inlet in group.inlets
        if inlet.normalization is None
        and not inlet.recurrent
        and not inlet.rule.has_bias(inlet.call.operation)
    }
