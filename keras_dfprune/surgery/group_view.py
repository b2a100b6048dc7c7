"""Show a group with its present weights to a method: build its `GroupView`.

Everything up to the seam is folded into the weight-sets or put beside them, so that two units with
equal rows are copies at every seam.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_dfprune.locate.groups import Layout, ProducerFeatures, UnitGroup
from keras_dfprune.methods.base import GroupView, JoinedUnits, Recurrence
from keras_dfprune.methods.feed import Feed
from keras_dfprune.surgery.folding import FoldedUnits, WeightSets, fold_to_seam
from keras_dfprune.surgery.recurrence import find_recurrence
from keras_dfprune.surgery.weights import LayerStates, new_positions, take_rows


def view_blocks(
    group: UnitGroup, layout: Layout, states: LayerStates, parameters_per_unit: float
) -> list[GroupView]:
    """Show each block of a group as a group of its own, which is how a method sees it.

    Args:
        group: The group.
        layout: The layout that it is part of.
        states: The present weights, and the units kept of earlier groups.
        parameters_per_unit: Parameters that the model loses with one unit.
    """
    outgoing = _outgoing(group, states)
    return [
        dataclasses.replace(
            _view(group, group.units_of(block), layout, states, outgoing, parameters_per_unit),
            name=group.block_name(block),
        )
        for block in range(group.block_count)
    ]


def view_group(group: UnitGroup, layout: Layout, states: LayerStates) -> GroupView:
    """Show all units of a group whose producers don't split their channels into groups."""
    return _view(group, np.arange(group.units), layout, states, _outgoing(group, states), 1.0)


def _view(
    group: UnitGroup,
    members: np.ndarray,
    layout: Layout,
    states: LayerStates,
    of_all_units: tuple[tuple[np.ndarray, ...], np.ndarray],
    parameters_per_unit: float,
) -> GroupView:
    """Show some units of a group; `of_all_units` is the result of `_outgoing`."""
    weight_sets = {producer.path: _weight_sets(producer, states) for producer in group.producers}
    producers = {producer.path: producer for producer in group.producers}
    folded = [fold_to_seam(seam, members, weight_sets, states) for seam in group.seams]
    outgoing = tuple(take_rows(rows, members) for rows in of_all_units[0])
    can_survive = of_all_units[1][members]
    common: dict[str, Any] = {
        "name": group.name,
        "offset_allowed": group.offset_allowed,
        "can_survive": can_survive,
        "parameters_per_unit": parameters_per_unit,
        "taps": max((_taps(producer) for producer in group.producers), key=len),
        "dense": all(producer.rule.is_dense for producer in group.producers),
    }

    def view(chosen: Sequence[FoldedUnits], blocks: tuple[np.ndarray, ...]) -> GroupView:
        return GroupView(
            **common,
            **_coordinates(chosen),
            outgoing=blocks,
            feeds=_feeds(chosen, members, producers, layout, states),
            reads=_reads(chosen, producers),
            recurrence=_recurrence(chosen, members, producers, layout, states),
            offset_exact=group.offset_exact,
        )

    def view_at_seam(units: FoldedUnits, blocks: tuple[np.ndarray, ...]) -> GroupView:
        at_seam = view([units], blocks)
        if units.join is None:
            return at_seam
        parts = tuple(view_at_seam(part, ()) for part in units.parts)
        joined = JoinedUnits(units.join.kind, parts, units.join.factors)
        return dataclasses.replace(at_seam, joined=joined)

    whole = view(folded, outgoing)
    if len(folded) == 1 and folded[0].join is None:
        (units,) = folded
        alike = not units.extra and not units.own_parameters and bool(np.all(units.front[0] != 0))
        return dataclasses.replace(
            whole, averages=group.averages and alike, levels=group.levels and alike
        )
    seams = []
    for number, units in enumerate(folded):
        pairs = zip(outgoing, group.seam_numbers, strict=True)
        blocks = tuple(block for block, numbers in pairs if number in numbers)
        seams.append(view_at_seam(units, blocks))
    return dataclasses.replace(whole, seams=tuple(seams))


def _coordinates(folded: Sequence[FoldedUnits]) -> dict[str, Any]:
    """Return the coordinates of units at one or more seams, and the function to their values."""
    main = max(folded, key=lambda units: len(units.blocks))
    blocks = _blocks(folded)
    extra = {array.tobytes(): array for units in folded for array in units.extra}
    weights = [sets.weights for sets in blocks.values()]
    constants = np.stack([units.constant_values for units in folded])
    return {
        "weights": weights[0] if len(weights) == 1 else np.concatenate(weights, axis=1),
        "constants": _constants([sets.biases for sets in blocks.values()], list(extra.values())),
        "activation": dataclasses.replace(
            main.function,
            slope=max(units.slope for units in folded),
            monotone=all(units.monotone for units in folded),
            # A multiple of a unit is no copy where other coordinates don't scale with it.
            homogeneous=not extra and all(units.homogeneous for units in folded),
        ),
        "constant_values": np.where(
            np.all(constants == constants[0], axis=0), constants[0], np.nan
        ),
        "batch_mean": main.batch_mean,
        "batch_std": main.batch_std,
    }


def _blocks(folded: Sequence[FoldedUnits]) -> dict[tuple, WeightSets]:
    """Return the weight-sets of all producers, once for each set of layers folded into them."""
    return {key: sets for units in folded for key, sets in units.blocks.items()}


def _taps(producer: ProducerFeatures) -> tuple[int, ...]:
    return producer.rule.taps(producer.call.operation)


def _weight_sets(producer: ProducerFeatures, states: LayerStates) -> WeightSets:
    """Return the weight-set of each column: the incoming weights that remain, and the bias."""
    state = states[producer.path]
    operation = producer.call.operation
    incoming, memory = producer.rule.incoming(state), producer.rule.memory(operation)
    weights = incoming.reshape(len(incoming), -1)
    if memory is not None:
        weights = np.concatenate([weights, memory], axis=1)
    bias = producer.rule.bias(state).astype(incoming.dtype)  # in the precision of the model
    return WeightSets(weights, bias[:, None], producer.rule.constants(operation, state))


def _constants(biases: list[np.ndarray], extra: list[np.ndarray]) -> np.ndarray:
    """Put the sum of all producers' biases beside all other constants that must agree."""
    separate = biases if len(biases) > 1 else []
    return np.concatenate([sum(biases), *separate, *extra], axis=1)


def _outgoing(group: UnitGroup, states: LayerStates) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Return the outgoing weights for each inlet, and which units reach every consumer."""
    blocks, can_survive = [], np.ones(group.units, bool)
    for inlet in group.inlets:
        scale, _ = states.scale_and_shift(inlet)
        path = inlet.call.path
        positions = new_positions(states.remaining_rows(inlet))[inlet.columns]
        rows = take_rows(inlet.rule.outgoing(states[path]), positions)
        rows = rows * scale[:, :, None, None] if inlet.carried else rows
        blocks.append(rows.reshape(group.units, -1, rows.shape[-1]))
        can_survive &= np.all(scale != 0, axis=1)
    return tuple(blocks), can_survive


def _feeds(
    folded: Sequence[FoldedUnits],
    members: np.ndarray,
    producers: Mapping[str, ProducerFeatures],
    layout: Layout,
    states: LayerStates,
) -> tuple[Feed, ...]:
    """Return which of the remaining input columns carry units that earlier groups keep."""
    feeds: list[Feed] = []
    start = 0
    for (path, *_), sets in _blocks(folded).items():
        if producers[path].rule.own_rows is None:  # A recurrent layer has its own: `Recurrence`.
            feeds += _feeds_of_producer(producers[path], members, start, layout, states)
        start += sets.weights.shape[1]
    return tuple(feeds)


def _reads(folded: Sequence[FoldedUnits], producers: Mapping[str, ProducerFeatures]) -> str | None:
    """Return the name of the tensor that the units' only layer reads, or None for several."""
    paths = {path for path, *_ in _blocks(folded)}
    inputs = producers[next(iter(paths))].call.inputs
    return inputs[0].name if len(paths) == 1 and inputs else None


def _recurrence(
    folded: Sequence[FoldedUnits],
    members: np.ndarray,
    producers: Mapping[str, ProducerFeatures],
    layout: Layout,
    states: LayerStates,
) -> Recurrence | None:
    """Return how units of one recurrent producer follow from its inputs; None for others."""
    if len(folded) > 1 or folded[0].join is not None:
        return None
    ((path, *_),) = folded[0].blocks
    feeds = _feeds_of_producer(producers[path], members, 0, layout, states)
    return find_recurrence(folded[0], producers[path], feeds, states)


def _feeds_of_producer(
    producer: ProducerFeatures, members: np.ndarray, start: int, layout: Layout, states: LayerStates
) -> list[Feed]:
    """Return the feeds of one producer, whose columns begin at `start`.

    All `members` lie in one of its groups of channels and read the features of that group.
    """
    path, taps = producer.path, math.prod(_taps(producer))
    features = producer.rule.input_count(states[path])
    feeds = []
    if path in layout.origins:
        columns = start + np.arange(features * taps)
        feeds.append(_known_feed(columns, origin=layout.origins[path]))
    if path in layout.normalized and len(layout.normalized[path][0]) == features * taps:
        scale, shift = layout.normalized[path]
        columns = start + np.arange(features)
        feeds.append(_known_feed(columns, scale=scale, shift=shift, normalized=True))
    if producer.inputs is None:
        return feeds
    operation = producer.call.operation
    groups = producer.rule.channel_groups(operation)
    first = members[0] // (producer.rule.unit_count(operation) // groups) * features
    position = new_positions(states.remaining_inputs(path)) - first
    for group, inlet in layout.inlets_of(producer.call):
        if inlet.recurrent:
            continue
        for block in range(group.block_count) if group.name in states.kept else ():
            kept = np.intersect1d(states.kept[group.name], group.units_of(block))
            positions = position[inlet.columns[kept]]
            read = np.flatnonzero((positions[:, 0] >= 0) & (positions[:, 0] < features))
            if not len(read):
                continue
            scale, shift = (part[kept[read]] for part in states.scale_and_shift(inlet))
            columns = start + positions[read][:, :, None] * taps + np.arange(taps)
            feeds.append(
                Feed(
                    columns=columns.reshape(-1),
                    group=group.block_name(block),
                    units=np.repeat(read, columns[0].size),
                    scale=np.repeat(scale.reshape(-1), taps),
                    shift=np.repeat(shift.reshape(-1), taps),
                )
            )
    return feeds


def _known_feed(
    columns: np.ndarray,
    *,
    scale: np.ndarray | float = 1.0,
    shift: np.ndarray | float = 0.0,
    origin: str | None = None,
    normalized: bool = False,
) -> Feed:
    """Return a feed that comes from no earlier group."""
    return Feed(
        columns=columns,
        group=None,
        units=columns[:0],
        scale=np.broadcast_to(np.asarray(scale, np.float64), len(columns)),
        shift=np.broadcast_to(np.asarray(shift, np.float64), len(columns)),
        origin=origin,
        normalized=normalized,
    )
