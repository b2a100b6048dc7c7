"""The arrays of a model's layers while groups are cut one after the other.

`States` starts as the model's own arrays; `absorb` folds one group's merge into the consumers.
"""

import numpy as np

from keras_dfprune.layout import Inlet, Layout, UnitGroup
from keras_dfprune.merge import UnitMerge
from keras_dfprune.rules.base import UnitRule
from keras_dfprune.rules.effects import Affine, Joint, Nonlinear
from keras_dfprune.rules.layer_state import LayerState
from keras_dfprune.rules.normalization import BatchNormalizationRule
from keras_dfprune.streams import Stage


class States:
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

    def effect(self, stage: Stage) -> Affine | Nonlinear | Joint:
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


def absorb(group: UnitGroup, merge: UnitMerge, states: States) -> None:
    """Folds a merge into the group's consumers and records which units are kept.

    With `y = scale h + shift` what a consumer gets of a unit, the kept rows gain
    `coefficients @ (scale kernel)[removed] / scale[kept]`, and what is constant goes to the bias.

    Args:
        group: The group.
        merge: Its merge.
        states: The states to edit.
    """
    by_path: dict[str, list[Inlet]] = {}
    for inlet in consumers(group):
        by_path.setdefault(inlet.call.path, []).append(inlet)
    before = {path: states.left(path) for path in by_path}
    states.kept[group.name] = merge.kept
    for path, inlets in by_path.items():
        _take_over(inlets, merge, states, before[path])


def _take_over(inlets: list[Inlet], merge: UnitMerge, states: States, left: np.ndarray) -> None:
    """Edits one consumer: rows of kept units gain, those of removed ones go.

    Args:
        inlets: All inlets of its call.
        merge: The merge of the group.
        states: The states to edit, with what is kept after the merge.
        left: Bool array, shape `(features,)`: the input features that were left before it.
    """
    path, rule = inlets[0].call.path, inlets[0].rule
    outgoing = rule.outgoing(states[path])
    wide, stays = outgoing.reshape(len(outgoing), -1), states.left(path)
    narrow, constant = wide[stays[left]], np.zeros(wide.shape[1])
    for inlet in inlets:
        scale, shift = states.carried(inlet)
        rows, places = (counted(some)[inlet.columns].T for some in (left, stays))
        for row, place, factor, extra in zip(rows, places, scale.T, shift.T, strict=True):
            before = picked(wide, row)
            even, shifted = np.all(factor == 1), np.any(extra)
            scaled = before if even else factor[:, None] * before
            constant += merge.shift(scaled)
            if shifted:
                constant += extra[merge.removed] @ before[merge.removed]
            for positions, gain in merge.gains(scaled):
                heirs = merge.kept[positions]
                if not even:
                    alive = factor[heirs] != 0
                    if np.any(gain[~alive]):
                        raise ValueError(
                            f"Units that layer '{path}' gets multiplied by 0 can't take over for "
                            "others. Return a merge where only units of `GroupView.can_survive` do."
                        )
                    gain[alive] /= factor[heirs][alive, None]
                if shifted:
                    constant -= extra[heirs] @ gain
                narrow[place[heirs]] += gain
    shape = outgoing.shape[1:]
    states.edit(path, rule.with_outgoing(states[path], narrow.reshape(len(narrow), *shape)))
    constant = constant.reshape(shape).sum(axis=0)
    if np.any(constant):
        _place(inlets[0], constant, states)


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


def _place(inlet: Inlet, constant: np.ndarray, states: States) -> None:
    if inlet.normalization is not None:
        path = inlet.normalization.path
        states.edit(path, BatchNormalizationRule().with_offset(states[path], constant))
    else:
        path = inlet.call.path
        states.edit(path, inlet.rule.with_offset(states[path], constant))
