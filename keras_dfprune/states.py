"""The arrays of a model's layers while groups are cut one after the other, and views of them.

`States` starts as the model's own arrays. `absorb` folds one group's merge into the consumers;
`view` shows the next group as a method sees it, at the weights that the earlier cuts left.
"""

import dataclasses
import math

import keras
import numpy as np

from keras_dfprune.activations import LINEAR, Activation, compose
from keras_dfprune.layout import Inlet, Layout, UnitGroup
from keras_dfprune.merge import UnitMerge
from keras_dfprune.methods.base import Feed, GroupView
from keras_dfprune.rules.base import Affine, LayerState, Nonlinear, UnitRule
from keras_dfprune.rules.normalization import BatchNormalizationRule
from keras_dfprune.streams import Stage


class States:
    """Layer states by path, read from the model when first asked for.

    Arrays keep their full widths: features that an earlier cut removed are still there and are
    left out by `kept`.

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

    def effect(self, stage: Stage) -> Affine | Nonlinear:
        """What a stage does to its features at the present weights."""
        path = stage.call.path
        state = self[path] if path in self._layout.layers else stage.rule.read(stage.call.operation)
        return stage.rule.effect(stage.call, state)

    def carried(self, inlet: Inlet) -> tuple[np.ndarray, np.ndarray]:
        """Scale and shift from the seam to a consumer: two arrays, shape `(units, positions)`."""
        scale, shift = np.ones(inlet.order.shape), np.zeros(inlet.order.shape)
        for stage in inlet.carried:
            effect = self.effect(stage)
            factor = _of_features(effect.scale, stage.features)[inlet.order]
            scale = scale * factor
            shift = shift * factor + _of_features(effect.shift, stage.features)[inlet.order]
        return scale, shift


def _of_features(values: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Picks a parameter for each feature; a single one serves them all."""
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
    for inlet in consumers(group):
        path = inlet.call.path
        outgoing = inlet.rule.outgoing(states[path])
        kernel = np.array(outgoing, np.float64).reshape(len(outgoing), -1)
        scale, shift = states.carried(inlet)
        constant = np.zeros(kernel.shape[1])
        for rows, factor, extra in zip(inlet.columns.T, scale.T, shift.T, strict=True):
            before = kernel[rows]
            scaled = factor[:, None] * before
            gain = merge.taken_over(scaled)
            alive = factor[merge.kept] != 0  # a method never lets the others survive for a unit
            gain[alive] /= factor[merge.kept][alive, None]
            gain[~alive] = 0
            constant += merge.shift(scaled) + extra[merge.removed] @ before[merge.removed]
            constant -= extra[merge.kept] @ gain
            kernel[rows[merge.kept]] += gain
        states.edit(path, inlet.rule.with_outgoing(states[path], kernel.reshape(outgoing.shape)))
        constant = constant.reshape(outgoing.shape[1:]).sum(axis=0)
        if np.any(constant):
            _place(inlet, constant, states)
    states.kept[group.name] = merge.kept


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


def view(group: UnitGroup, layout: Layout, states: States, parameters_per_unit: float) -> GroupView:
    """Shows a group as a method sees it.

    Args:
        group: The group.
        layout: The layout that it is part of.
        states: The present weights and the units kept of earlier groups.
        parameters_per_unit: What the model loses with one unit.

    Returns:
        A `GroupView`.
    """
    record = layout.layers[group.name]
    incoming = group.rule.incoming(states[group.name])
    stays = np.ones(incoming.shape[1], bool)
    if record.inputs is not None:
        stays = record.inputs.kept(states.kept)
        incoming = np.compress(stays, incoming, axis=1)
    incoming = incoming.reshape(group.units, -1)
    bias = group.rule.bias(states[group.name])
    selected = _Selection(np.concatenate([incoming, bias[:, None]], axis=1))
    for stage in group.inlets[0].selected:
        selected.through(stage, group.inlets[0].order, states)
    blocks, survives = [], np.ones(group.units, bool)
    for inlet in group.inlets:
        scale, _ = states.carried(inlet)
        rows = inlet.rule.outgoing(states[inlet.call.path])[inlet.columns]
        rows = rows * scale[:, :, None, None] if inlet.carried else rows
        blocks.append(rows.reshape(group.units, -1, rows.shape[-1]))
        survives &= np.all(scale != 0, axis=1)
    activation = selected.activation
    if selected.extra:  # a scaled unit is no copy where the other coordinates don't scale along
        activation = dataclasses.replace(activation, homogeneous=False)
    return GroupView(
        name=group.name,
        weight_sets=np.concatenate([selected.sets, *selected.extra], axis=1),
        inputs=incoming.shape[1],
        activation=activation,
        outgoing=tuple(blocks),
        offset_allowed=group.offset_allowed,
        offset_exact=group.offset_exact and selected.even,
        can_survive=survives,
        batch_mean=selected.batch_mean,
        batch_std=selected.batch_std,
        parameters_per_unit=parameters_per_unit,
        feeds=_feeds(group, layout, states, stays),
        taps=group.rule.taps(group.producer.operation),
    )


class _Selection:
    """The weight-sets while the stages up to the seam are folded into them."""

    def __init__(self, sets: np.ndarray):
        self.sets = sets
        self.extra: list[np.ndarray] = []
        self.activation = LINEAR
        self.batch_mean = self.batch_std = None
        self._bent = False
        self._edge = np.zeros(len(sets))  # what each unit is where zeros stand beside it
        self._differs = False  # whether the units' functions have parameters of their own
        self.even = True  # whether what is constant in front is constant behind, at all positions

    def through(self, stage: Stage, order: np.ndarray, states: States) -> None:
        effect = states.effect(stage)
        own = stage.features[order]
        if isinstance(effect, Nonlinear):
            if not self._bent and self._edge.any():  # copies have to be copies there too
                self.extra.append(self._edge[:, None])
            self._bent = True
            activation = effect.activation
            if effect.coordinates is not None:
                coordinates = effect.coordinates[own].reshape(len(own), -1)
                self._append(coordinates)
                self.even = self.even and not np.ptp(coordinates, axis=1).any()
                function = effect.function_of(coordinates)
                activation = dataclasses.replace(activation, function=function)
                self._differs = True
            self._behind(activation)
            return
        scale = _of_features(effect.scale, own[:, 0])
        shift = _of_features(effect.shift, own[:, 0])
        if self._bent:
            self._append(np.stack([scale, shift], axis=1))
            self._differs = True
            self._behind(_affine(scale, shift))
            return
        self.sets = self.sets * scale[:, None]
        self.sets[:, -1] += shift
        if stage.padded:
            self._edge = self._edge * scale + shift
        self.batch_mean = self.batch_std = None
        if isinstance(stage.rule, BatchNormalizationRule):
            mean, std = stage.rule.statistics(states[stage.call.path])
            self.batch_mean, self.batch_std = mean[own[:, 0]], std[own[:, 0]]

    def _behind(self, activation: Activation) -> None:
        """Composes what the units have gone through so far with one more activation."""
        if not self._differs:
            self.activation = compose(self.activation, activation)
            return
        first = self.activation
        self.activation = Activation(
            name=activation.name if first is LINEAR else f"{first.name} then {activation.name}",
            function=lambda x: activation.function(first.function(x)),
            slope=first.slope * activation.slope,
            monotone=first.monotone and activation.monotone,
            homogeneous=first.homogeneous and activation.homogeneous,
            at_zero=math.nan,  # each unit has its own
            kinks=first.kinks,
        )

    def _append(self, coordinates: np.ndarray) -> None:
        if np.ptp(coordinates, axis=0).any():
            self.extra.append(coordinates)


def _affine(scale: np.ndarray, shift: np.ndarray) -> Activation:
    """Each unit's own scale and shift between two activations."""
    return Activation(
        name="affine",
        function=lambda x: x * keras.ops.cast(scale, x.dtype) + keras.ops.cast(shift, x.dtype),
        slope=float(np.abs(scale).max()),
        monotone=bool(np.all(scale >= 0) or np.all(scale <= 0)),
        homogeneous=not np.any(shift),
        at_zero=float(shift[0]),
    )


def _feeds(group: UnitGroup, layout: Layout, states: States, stays: np.ndarray) -> tuple[Feed, ...]:
    """Which of the remaining input columns carry kept units of earlier groups."""
    taps = math.prod(group.rule.taps(group.producer.operation))
    first = (np.cumsum(stays) - 1) * taps  # column of a feature's first tap
    feeds = []
    if group.name in layout.origins:
        every = np.arange(int(stays.sum()) * taps)
        one, zero = np.ones(len(every)), np.zeros(len(every))
        feeds.append(Feed(every, None, every[:0], one, zero, layout.origins[group.name]))
    for name, units in states.kept.items():
        for inlet in layout.groups[name].inlets:
            if inlet.call is not group.producer:
                continue
            scale, shift = states.carried(inlet)
            columns = first[inlet.columns[units]][:, :, None] + np.arange(taps)
            feeds.append(
                Feed(
                    columns=columns.reshape(-1),
                    group=name,
                    units=np.repeat(np.arange(len(units)), columns[0].size),
                    scale=np.repeat(scale[units].reshape(-1), taps),
                    shift=np.repeat(shift[units].reshape(-1), taps),
                )
            )
    return tuple(feeds)
