"""Find the groups of units of a model that can be pruned, and refusals with their reasons.

Units are followed from the layers that produce them to the layers that consume them
(`follow_units.py`). Each group gets its inlets and seams (`seams.py`).
"""

import dataclasses
from collections.abc import Sequence

import keras

from keras_dfprune.graph.calls import Graph
from keras_dfprune.graph.check_model import check_model
from keras_dfprune.graph.read_graph import read_graph
from keras_dfprune.locate.blocks import find_blocks
from keras_dfprune.locate.constraints import check_constraints, has_constraint
from keras_dfprune.locate.follow_units import follow_units
from keras_dfprune.locate.followed_units import FollowedUnits
from keras_dfprune.locate.groups import (
    LayerFeatures,
    Layout,
    ProducerFeatures,
    Refusal,
    UnitGroup,
)
from keras_dfprune.locate.head_groups import HeadGroup, find_head_groups
from keras_dfprune.locate.seams import find_inlet, find_seams, normalization_behind
from keras_dfprune.rules.base import Barrier
from keras_dfprune.rules.effects import Affine
from keras_dfprune.rules.heads import HeadsRule
from keras_dfprune.rules.kernels import ProducerRule
from keras_dfprune.rules.registry import find_rule


@dataclasses.dataclass(frozen=True, eq=False)
class LocatedModel:
    """Model with its graph and its groups.

    Attributes:
        model: The model.
        graph: Its calls.
        layout: What can be pruned in it.
        notes: Sentences about it for the plan.
    """

    model: keras.Model
    graph: Graph
    layout: Layout
    notes: tuple[str, ...] = ()


def locate_model(model: keras.Model) -> LocatedModel:
    """Read a model's graph and find its groups.

    Args:
        model: What a caller passed.

    Raises:
        TypeError: If it is not a Keras 3 model.
        ValueError: If it isn't built, or is a subclassed model whose graph can't be seen.
    """
    check_model(model)
    graph = read_graph(model)
    return LocatedModel(model, graph, locate(graph))


def locate(graph: Graph) -> Layout:
    """Find the groups of units of a graph.

    Args:
        graph: The calls of a model, from `read_graph`.
    """
    followed = follow_units(graph)
    groups: dict[str, UnitGroup] = {}
    reasons = dict(followed.reasons)
    for members in followed.tied_producers():
        try:
            group = _close_group(followed, members)
            groups[group.name] = group
        except Barrier as error:
            reasons.update((path, str(error)) for path in members if path not in reasons)
    heads = _head_groups(graph, followed, reasons)
    paths = dict.fromkeys(call.path for call in graph.calls)
    names = {path: group.name for group in groups.values() for path in group.layers}
    return Layout(
        groups=groups,
        heads={group.name: group for of_layer in heads.values() for group in of_layer.values()},
        refusals=tuple(Refusal(path, reasons[path]) for path in paths if path in reasons),
        layers={
            path: dataclasses.replace(_renamed(records[0], names), heads=heads.get(path, {}))
            for path, records in followed.records.items()
        },
        origins={
            path: followed.origins[call.inputs[0]]
            for path, call in followed.producers.items()
            if call.inputs[0] in followed.origins and not _takes_indices(call.operation)
        },
        normalized={
            path: followed.normalized[call.inputs[0]]
            for path, call in followed.producers.items()
            if call.inputs[0] in followed.normalized
        },
        tied=frozenset(
            call.path for call in graph.calls if id(call.layer) in followed.ownership.sharing_layers
        ),
    )


def _head_groups(
    graph: Graph, followed: FollowedUnits, reasons: dict[str, str]
) -> dict[str, dict[str, HeadGroup]]:
    """Find the dimensions of attention heads by path; note in `reasons` why others stay."""
    found = {}
    for path, (record, *_) in followed.records.items():
        rule, operation = record.rule, record.call.operation
        if not isinstance(rule, HeadsRule):
            continue
        reason = rule.why_heads_stay(operation)
        if reason is not None:
            reasons[path] = f"it {reason}"
            continue
        calls = [call for call in graph.calls if call.path == path]
        found[path] = find_head_groups(rule, calls, followed.normalized)
        if found[path]:
            del reasons[path]
    return found


def _takes_indices(operation: keras.Operation) -> bool:
    rule = find_rule(operation)
    return isinstance(rule, ProducerRule) and rule.takes_indices


def _renamed(record: LayerFeatures, names: dict[str, str]) -> LayerFeatures:
    """Name the sources of a layer's features by their group instead of their producer."""
    inputs, outputs = (
        None if stream is None else stream.renamed(names)
        for stream in (record.inputs, record.outputs)
    )
    return dataclasses.replace(record, inputs=inputs, outputs=outputs)


def _close_group(followed: FollowedUnits, members: Sequence[str]) -> UnitGroup:
    """Complete the group of some producers.

    Raises:
        Barrier: If they have to stay whole. The message is the reason.
    """
    for path in members:
        if path in followed.reasons:
            raise Barrier(
                f"its units are tied to those of {path}, which stays whole: "
                f"{followed.reasons[path]}"
            )
    records = [followed.records[path][0] for path in members]
    producers = tuple(record for record in records if isinstance(record, ProducerFeatures))
    units = producers[0].units
    arrivals = [arrival for arrival in followed.arrivals if arrival.piece.source in members]
    arrivals.sort(key=lambda arrival: arrival.recurrent)  # Their seam is what others see.
    if all(arrival.recurrent for arrival in arrivals):
        raise Barrier("its units reach no layer that could take them over")
    inlets = [find_inlet(followed, arrival, units) for arrival in arrivals]
    check_constraints(followed, members, inlets)
    seams, numbers = find_seams(followed.effects, inlets)
    if len(seams) > 1:  # One merge serves all seams, so each sees all selected layers folded in.
        inlets = [find_inlet(followed, arrival, units, select_all=True) for arrival in arrivals]
        seams, numbers = find_seams(followed.effects, inlets)
    blocks = find_blocks(followed, producers, inlets, units)
    group = UnitGroup(producers, units, tuple(inlets), seams, numbers, blocks)
    return _with_averages(followed, group)


def _with_averages(followed: FollowedUnits, group: UnitGroup) -> UnitGroup:
    """Note in a group whether its producer's pre-activations can be averaged over units."""
    producer, *others = group.producers
    if others or len(group.seams) > 1 or not producer.rule.linear:
        return group
    if not producer.call.operation.trainable:  # Frozen layers are cut, but not changed.
        return group
    if has_constraint(producer):  # A weighted sum might break it.
        return group
    selected = group.seams[0].selected
    if (
        producer.has_bias
        or not selected
        or not isinstance(followed.effects[selected[0].call.path], Affine)
    ):
        return dataclasses.replace(group, averages=True)
    behind = normalization_behind(followed, producer.call, padded=False)
    if behind is not selected[0].call:
        return group
    return dataclasses.replace(group, averages=True, normalization=behind)
