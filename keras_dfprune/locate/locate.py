"""A graph into groups of units that can be pruned, and refusals with their reasons.

Units are followed from the layer that produces them through everything on their way to the layers
that consume them (`walk.py`); each group gets its inlets and seams (`inlets.py`).
"""

import dataclasses

from keras_dfprune.graph.calls import Graph
from keras_dfprune.locate.follow_units import Walk
from keras_dfprune.locate.groups import LayerFeatures, Layout, Refusal, UnitGroup
from keras_dfprune.locate.seams import find_inlet, find_seams, normalization_behind
from keras_dfprune.rules import registry
from keras_dfprune.rules.base import Barrier
from keras_dfprune.rules.effects import Affine


def locate(graph: Graph) -> Layout:
    """Finds the groups of units of a graph.

    Args:
        graph: What `graph.read_graph` returned.

    Returns:
        A `Layout`.
    """
    walk = Walk(graph)
    for call in graph.calls:
        walk.follow(call)
    for tensor in graph.outputs:
        walk.refuse(walk.streams.get(tensor), "its units are an output of the model")
    walk.check_shared_layers()
    groups = {}
    for members in walk.tied_producers():
        found = _close(walk, members)
        if isinstance(found, UnitGroup):
            groups[found.name] = found
        else:
            walk.reasons.update((path, found) for path in members if path not in walk.reasons)
    paths = dict.fromkeys(call.path for call in graph.calls)
    refusals = tuple(Refusal(path, walk.reasons[path]) for path in paths if path in walk.reasons)
    names = {path: group.name for group in groups.values() for path in group.layers}
    layers = {path: _named(records[0], names) for path, records in walk.records.items()}
    origins = {
        path: walk.origins[call.inputs[0]]
        for path, call in walk.producers.items()
        if call.inputs[0] in walk.origins and not registry.lookup(call.operation).takes_indices
    }
    normalized = {
        path: walk.normalized[call.inputs[0]]
        for path, call in walk.producers.items()
        if call.inputs[0] in walk.normalized
    }
    tied = frozenset(call.path for call in graph.calls if id(call.operation) in walk.tied)
    return Layout(groups, refusals, layers, origins, normalized, tied)


def _named(record: LayerFeatures, names: dict[str, str]) -> LayerFeatures:
    """A layer whose features are known by their group instead of their producer."""
    inputs, outputs = (
        None if stream is None else stream.renamed(names)
        for stream in (record.inputs, record.outputs)
    )
    return dataclasses.replace(record, inputs=inputs, outputs=outputs)


def _close(walk: Walk, members: list[str]) -> UnitGroup | str:
    """Completes the group of some producers, or returns why they have to stay whole."""
    for path in members:
        if path in walk.reasons:
            return f"its units are tied to those of {path}, which stays whole: {walk.reasons[path]}"
    producers = tuple(walk.records[path][0] for path in members)
    units = producers[0].outputs.width
    arrivals = [arrival for arrival in walk.arrivals if arrival[2].source in members]
    if not arrivals:
        return "its units reach no layer that could take them over"
    try:
        inlets = [find_inlet(walk, *arrival, units) for arrival in arrivals]
        seams, places = find_seams(walk.effects, inlets)
        if len(seams) > 1:  # one merge for all: each seam sees what is selected folded in
            inlets = [find_inlet(walk, *arrival, units, fold=True) for arrival in arrivals]
            seams, places = find_seams(walk.effects, inlets)
    except Barrier as error:
        return str(error)
    group = UnitGroup(producers, units, tuple(inlets), seams, places)
    return _averaging(walk, group)


def _averaging(walk: Walk, group: UnitGroup) -> UnitGroup:
    """The group, and whether its producer's pre-activations can be averaged over units."""
    producer = group.producers[0]
    if len(group.layers) > 1 or len(group.seams) > 1 or not producer.rule.linear:
        return group
    if not producer.call.operation.trainable:  # frozen layers are cut, but not changed
        return group
    effects = [walk.effects[stage.call.path] for stage in group.seams[0].selected]
    affine = [isinstance(effect, Affine) for effect in effects]
    if producer.rule.has_bias(producer.call.operation) or not affine or not affine[0]:
        return dataclasses.replace(group, averages=True)
    behind = normalization_behind(walk, producer.call, padded=False)
    if behind is not group.seams[0].selected[0].call:
        return group
    return dataclasses.replace(group, averages=True, normalization=behind)
