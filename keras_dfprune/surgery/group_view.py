"""A group and the present weights into the arrays that a method sees: a `GroupView`.

Everything up to the seam is folded into the weight-sets or put beside them, so that two units
with equal rows are copies at every seam.
"""

import dataclasses
import math

import numpy as np

from keras_dfprune.locate.groups import Layout, UnitGroup
from keras_dfprune.methods.base import Feed, GroupView, JoinedUnits
from keras_dfprune.surgery.folding import Selection, WeightSets, select
from keras_dfprune.surgery.weights import LayerStates, counted, picked


def view_group(
    group: UnitGroup, layout: Layout, states: LayerStates, parameters_per_unit: float
) -> GroupView:
    """Shows a group as a method sees it.

    Args:
        group: The group.
        layout: The layout that it is part of.
        states: The present weights and the units kept of earlier groups.
        parameters_per_unit: What the model loses with one unit.

    Returns:
        A `GroupView`.
    """
    weights = {path: _incoming(layout, states, path) for path in group.layers}
    selections = [select(seam, weights, states) for seam in group.seams]
    outgoing, survives = _outgoing(group, states)
    common = {
        "name": group.name,
        "offset_allowed": group.offset_allowed,
        "can_survive": survives,
        "parameters_per_unit": parameters_per_unit,
        "taps": max((one.rule.taps(one.call.operation) for one in group.producers), key=len),
    }

    def seen(chosen: list[Selection], blocks: tuple[np.ndarray, ...]) -> GroupView:
        feeds = _feeds(chosen, layout, states)
        even = group.offset_exact and all(one.even for one in chosen)
        return GroupView(**common, **_at(chosen), outgoing=blocks, feeds=feeds, offset_exact=even)

    def at_seam(selection: Selection, blocks: tuple[np.ndarray, ...]) -> GroupView:
        made = seen([selection], blocks)
        if selection.join is None:
            return made
        parts = tuple(at_seam(part, ()) for part in selection.parts)
        joined = JoinedUnits(selection.join.kind, parts, selection.join.factors)
        return dataclasses.replace(made, joined=joined)

    whole = seen(selections, outgoing)
    if len(selections) == 1 and selections[0].join is None:
        (only,) = selections
        alike = not only.extra and not only.differs and bool(np.all(only.front[0] != 0))
        return dataclasses.replace(
            whole, averages=group.averages and alike, levels=group.levels and alike
        )
    seams = []
    for number, selection in enumerate(selections):
        places = zip(outgoing, group.places, strict=True)
        seams.append(at_seam(selection, tuple(block for block, at in places if at == number)))
    return dataclasses.replace(whole, seams=tuple(seams))


def _at(selections: list[Selection]) -> dict:
    """What some ways of the units to their seams say together."""
    main = max(selections, key=lambda selection: len(selection.blocks))
    blocks = _blocks(selections)
    extra = {one.tobytes(): one for selection in selections for one in selection.extra}
    weights = [sets.weights for sets in blocks.values()]
    return {
        "weights": weights[0] if len(weights) == 1 else np.concatenate(weights, axis=1),
        "constants": _constants([sets.biases for sets in blocks.values()], list(extra.values())),
        "activation": dataclasses.replace(
            main.function,
            slope=max(selection.slope for selection in selections),
            monotone=all(selection.monotone for selection in selections),
            # a scaled unit is no copy where the other coordinates don't scale along
            homogeneous=not extra and all(selection.homogeneous for selection in selections),
        ),
        "batch_mean": main.batch_mean,
        "batch_std": main.batch_std,
    }


def _blocks(selections: list[Selection]) -> dict[tuple, WeightSets]:
    """The weight-sets of all producers, each as often as other things were folded into them."""
    return {key: sets for selection in selections for key, sets in selection.blocks.items()}


def _incoming(layout: Layout, states: LayerStates, path: str) -> WeightSets:
    """A producer's weight-sets: incoming weights that are still there, and the bias."""
    record = layout.layers[path]
    incoming = record.rule.incoming(states[path])
    bias = record.rule.bias(states[path]).astype(incoming.dtype)  # as the model will hold it
    return WeightSets(incoming.reshape(len(incoming), -1), bias[:, None])


def _constants(biases: list[np.ndarray], extra: list[np.ndarray]) -> np.ndarray:
    """The sum of all producers' biases, and what must agree besides."""
    separate = biases if len(biases) > 1 else []
    return np.concatenate([sum(biases), *separate, *extra], axis=1)


def _outgoing(group: UnitGroup, states: LayerStates) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Outgoing weights for each inlet, and which units reach every consumer."""
    blocks, survives = [], np.ones(group.units, bool)
    for inlet in group.inlets:
        scale, _ = states.carried(inlet)
        path = inlet.call.path
        rows = counted(states.left(path))[inlet.columns]
        rows = picked(inlet.rule.outgoing(states[path]), rows)
        rows = rows * scale[:, :, None, None] if inlet.carried else rows
        blocks.append(rows.reshape(group.units, -1, rows.shape[-1]))
        survives &= np.all(scale != 0, axis=1)
    return tuple(blocks), survives


def _feeds(selections: list[Selection], layout: Layout, states: LayerStates) -> tuple[Feed, ...]:
    """Which of the remaining input columns carry kept units of earlier groups."""
    feeds, start = [], 0
    for key, sets in _blocks(selections).items():
        feeds += _feeds_of_producer(key[0], start, layout, states)
        start += sets.weights.shape[1]
    return tuple(feeds)


def _feeds_of_producer(path: str, start: int, layout: Layout, states: LayerStates) -> list[Feed]:
    record = layout.layers[path]
    taps = math.prod(record.rule.taps(record.call.operation))
    features = record.rule.incoming(states[path]).shape[1]
    left = np.ones(features, bool) if record.inputs is None else states.left(path)
    first = start + counted(left) * taps  # column of a feature's first tap
    feeds = []
    if path in layout.origins:
        every = start + np.arange(features * taps)
        one, zero = np.ones(len(every)), np.zeros(len(every))
        feeds.append(Feed(every, None, every[:0], one, zero, layout.origins[path]))
    scale, shift = layout.normalized.get(path, (None, None))
    if scale is not None and len(scale) == features * taps:
        every = start + np.arange(features)
        feeds.append(Feed(every, None, every[:0], scale, shift, normalized=True))
    for name, units in states.kept.items():
        for inlet in layout.groups[name].inlets:
            if inlet.call is not record.call:
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
    return feeds
