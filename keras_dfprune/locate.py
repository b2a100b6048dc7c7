"""A graph into groups of units that can be pruned, and refusals with their reasons.

Units are followed from the layer that produces them through everything on their way to the layers
that consume them. Whatever can't be followed leaves the producer whole: default deny.
"""

import dataclasses

import keras
import numpy as np

from keras_dfprune import rules
from keras_dfprune.activations import NotElementwise
from keras_dfprune.barriers import explain
from keras_dfprune.graph import Call, Graph, Tensor, all_layers
from keras_dfprune.layout import Inlet, LayerFeatures, Layout, Refusal, UnitGroup
from keras_dfprune.rules import layer_statistics
from keras_dfprune.rules.base import (
    Affine,
    Barrier,
    ElementwiseRule,
    Joint,
    Nonlinear,
    UnitRule,
    is_identity,
)
from keras_dfprune.streams import Piece, Stream


def locate(graph: Graph) -> Layout:
    """Finds the groups of units of a graph.

    Args:
        graph: What `graph.read_graph` returned.

    Returns:
        A `Layout`.
    """
    walk = _Walk(graph)
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
    refusals = tuple(
        Refusal(path, walk.reasons[path]) for path in walk.producers if path in walk.reasons
    )
    names = {path: group.name for group in groups.values() for path in group.layers}
    layers = {path: _named(records[0], names) for path, records in walk.records.items()}
    origins = {
        path: walk.origins[call.inputs[0]]
        for path, call in walk.producers.items()
        if call.inputs[0] in walk.origins and not rules.lookup(call.operation).takes_indices
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


class _Walk:
    """Follows units through the calls of a graph, one call at a time."""

    def __init__(self, graph: Graph):
        self.streams: dict[Tensor, Stream] = {}
        self.origins = {tensor: tensor.name for tensor in graph.inputs}
        self.normalized: dict[Tensor, tuple[np.ndarray, np.ndarray]] = {}
        self.producers: dict[str, Call] = {}
        self.reasons: dict[str, str] = {}
        self.barred: set[str] = set()  # layers that can neither produce nor consume
        self.arrivals: list[tuple[Call, UnitRule, Piece]] = []
        self.ties: dict[str, set[str]] = {}
        self.records: dict[str, list[LayerFeatures]] = {}
        self.effects: dict[str, Affine | Nonlinear | Joint] = {}
        self.users: dict[Tensor, list[Call]] = {}
        self.outputs = frozenset(graph.outputs)
        self.tied = _tied_operations(graph)
        for call in graph.calls:
            for tensor in call.inputs:
                self.users.setdefault(tensor, []).append(call)

    def follow(self, call: Call) -> None:
        """Takes the units that arrive at one call to its output."""
        arriving = [self.streams.get(tensor) for tensor in call.inputs]
        rule = rules.lookup(call.operation)
        try:
            if id(call.operation) in self.tied:
                raise Barrier(self.tied[id(call.operation)])
            if rule is None:
                raise Barrier(explain(call.operation))
            rules.try_registered(rule, call, arriving[0] if arriving else None)
            leaving = rule.carry(call, arriving)
            if isinstance(rule, ElementwiseRule) and leaving is not None:
                self.effects[call.path] = rule.effect(call, rule.read(call.operation))
        except (Barrier, NotElementwise) as error:
            link = ", which" if isinstance(error, Barrier) else ":"
            for stream in arriving:
                self.refuse(stream, f"it feeds {_title(call)}{link} {error}")
            leaving = None
        if isinstance(rule, UnitRule):
            leaving = self._produce(call, rule)
            for piece in arriving[0].pieces if arriving[0] is not None else ():
                self.arrivals.append((call, rule, piece))
        is_cut = rule is not None and (rule.axes or rule.follows_input)
        is_cut = is_cut and rules.objection(rule, call.operation) is None
        if is_cut and call.path not in self.barred:
            record = LayerFeatures(call, rule, arriving[0] if arriving else None, leaving)
            self.records.setdefault(call.path, []).append(record)
        if leaving is not None:
            self.streams[call.outputs[0]] = leaving
            for piece in leaving.pieces:
                self.tie(piece.sources())
        if rule is not None and rule.keeps_values(call):
            for known in (self.origins, self.normalized):
                if call.inputs[0] in known:
                    known[call.outputs[0]] = known[call.inputs[0]]
        statistics = layer_statistics(call)
        if statistics is not None:
            self.normalized[call.outputs[0]] = statistics

    def _produce(self, call: Call, rule: UnitRule) -> Stream | None:
        """The fresh units of a layer, behind its own activation."""
        self.producers.setdefault(call.path, call)
        operation = call.operation
        reason = self.tied.get(id(operation)) or rules.objection(rule, operation)
        reason = reason or rule.barrier(operation)
        if reason:
            self.reasons.setdefault(call.path, f"it {reason}")
            self.barred.add(call.path)
            return None
        if rule.whole:
            self.reasons.setdefault(call.path, f"it {rule.whole}")
            return None
        units = rule.unit_count(operation)
        if units < 2:
            self.reasons.setdefault(call.path, "it has fewer than two units")
        try:
            self.effects[call.path] = rule.effect(call, rule.read(call.operation))
        except NotElementwise as error:
            self.reasons.setdefault(call.path, f"its activation can't be used: {error}")
            return None
        stream = Stream(
            rule.output_axis(call), units, (Piece(call.path, np.arange(units), np.arange(units)),)
        )
        return stream.through(rule, call)

    def refuse(self, stream: Stream | None, reason: str) -> None:
        """Leaves the producers of all units in a stream whole; the first reason stands."""
        for piece in stream.pieces if stream is not None else ():
            self.reasons.setdefault(piece.source, reason)

    def tie(self, sources: set[str]) -> None:
        """Notes that units of these producers stay or go together."""
        for path in sources:
            self.ties.setdefault(path, set()).update(sources)

    def tied_producers(self) -> list[list[str]]:
        """The producers that are tied to each other, in the order of the graph."""
        found, seen = [], set()
        for path in self.producers:
            together, waiting = set(), [path]
            while waiting:
                one = waiting.pop()
                if one not in together:
                    together.add(one)
                    waiting += self.ties.get(one, ())
            if path not in seen:
                found.append([one for one in self.producers if one in together])
                seen |= together
        return found

    def check_shared_layers(self) -> None:
        """A layer is cut once, so all its calls must see the same units in the same places."""
        for path, records in self.records.items():
            first = records[0].inputs
            for record in records[1:]:
                other = record.inputs
                if first is None and other is None:
                    continue
                if first is None or other is None or not first.lines_up_with(other):
                    reason = f"it feeds {path}, a shared consumer that is called on other units too"
                    self.refuse(first, reason)
                    self.refuse(other, reason)
                    continue
                for one, piece in zip(first.pieces, other.pieces, strict=True):
                    self.tie({one.source, piece.source})


def _close(walk: _Walk, members: list[str]) -> UnitGroup | str:
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
        inlets = [_inlet(walk, *arrival, units) for arrival in arrivals]
        seams, places = _seams(walk.effects, inlets)
        if len(seams) > 1:  # one merge for all: each seam sees what is selected folded in
            inlets = [_inlet(walk, *arrival, units, fold=True) for arrival in arrivals]
            seams, places = _seams(walk.effects, inlets)
    except Barrier as error:
        return str(error)
    group = UnitGroup(producers, units, tuple(inlets), seams, places)
    return _averaging(walk, group)


def _averaging(walk: _Walk, group: UnitGroup) -> UnitGroup:
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
    behind = _behind(walk, producer.call, padded=False)
    if behind is not group.seams[0].selected[0].call:
        return group
    return dataclasses.replace(group, averages=True, normalization=behind)


def _inlet(
    walk: _Walk, consumer: Call, rule: UnitRule, piece: Piece, units: int, fold: bool = False
) -> Inlet:
    """One way of a group's units to a consumer.

    Raises:
        Barrier: If the group has to stay whole; the message is the reason.
    """
    try:
        order = piece.by_unit(units)
    except ValueError as error:
        raise Barrier(f"on the way to {consumer.path} {error}") from error
    stages = [stage for stage in piece.stages if not is_identity(walk.effects[stage.call.path])]
    bends = [not isinstance(walk.effects[stage.call.path], Affine) for stage in stages]
    seam = len(bends) - bends[::-1].index(True) if True in bends else fold * len(stages)
    selected, carried = tuple(stages[:seam]), tuple(stages[seam:])
    _check_positions(walk.effects, selected, order)
    padded = piece.padded or rule.pads(consumer.operation)
    if padded and any(np.any(walk.effects[stage.call.path].shift) for stage in carried):
        raise Barrier(
            f"zero padding stands behind {_title(carried[-1].call)}, which adds a constant"
        )
    behind = _behind(walk, consumer, padded)
    tensor = (selected[-1] if selected else piece.stages[0]).call.outputs[0]
    columns = selected[-1].features[order] if selected else piece.units[order]
    place = (tensor, walk.streams[tensor].axis, columns)
    return Inlet(consumer, rule, piece, order, selected, carried, behind, *place, padded)


def _check_positions(effects, stages, order: np.ndarray) -> None:
    """Raises `Barrier` where a stage up to the seam scales the positions of a unit apart."""
    for stage in stages:
        for branch in stage.branches:
            _check_positions(effects, branch.stages, branch.by_unit(len(order)))
        own = stage.features[order]
        if isinstance(effects[stage.call.path], Affine) and np.any(own != own[:, :1]):
            raise Barrier(f"{_title(stage.call)} treats each position of a unit in its own way")


def _seams(effects, inlets: list[Inlet]) -> tuple[tuple[Inlet, ...], tuple[int, ...]]:
    """The first inlet of each way in which the units reach their consumers, and each one's way."""
    ways: dict[tuple, int] = {}
    seams, places = [], []
    carried: dict[str, Inlet] = {}
    for inlet in inlets:
        way = _signature(effects, inlet.piece, inlet.selected, inlet.order)
        if way not in ways:
            ways[way] = len(seams)
            seams.append(inlet)
        places.append(ways[way])
        first = carried.setdefault(inlet.call.path, inlet)  # a shared kernel is edited once
        if len(first.carried) != len(inlet.carried) or not all(
            one.same_as(other) for one, other in zip(first.carried, inlet.carried, strict=True)
        ):
            raise Barrier(
                f"it feeds {inlet.call.path}, a shared consumer, through layers that scale the "
                "units in different ways"
            )
    return tuple(seams), tuple(places)


# Two activations are the same function if they agree here: finely around zero, and far outside.
_GRID = np.concatenate([np.linspace(-32, 32, 513), [-1e6, -1e3, -100, 100, 1e3, 1e6]])


def _signature(effects, piece: Piece, stages, order: np.ndarray) -> tuple:
    """What happens to each unit up to the seam; equal for two inlets that see the same values."""
    signature = [] if piece.stages[0].branches else [piece.stages[0].call.path]
    for stage in stages:
        effect = effects[stage.call.path]
        own = stage.features[order]
        if isinstance(effect, Joint):
            signature.append(type(stage.call.operation).__name__)
            for branch in stage.branches:
                order_there = branch.by_unit(len(order))
                signature.append(_signature(effects, branch, branch.stages, order_there))
        elif isinstance(effect, Nonlinear) and effect.coordinates is None:
            signature.append(effect.activation.values(_GRID.astype(np.float32)).tobytes())
        else:
            signature.append((stage.call.path, stage.padded, np.unique(own, axis=1).tobytes()))
    return tuple(signature)


def _behind(walk: _Walk, consumer: Call, padded: bool) -> Call | None:
    """The BatchNormalization that alone sees a consumer's outputs and takes an offset for it."""
    rule = rules.lookup(consumer.operation)
    needed = padded or not rule.has_bias(consumer.operation)
    if not needed or len(walk.records[consumer.path]) != 1:
        return None
    if keras.activations.get(rule.activation(consumer.operation)) is not keras.activations.linear:
        return None
    if consumer.outputs[0] in walk.outputs:  # there the offset would be missed
        return None
    users = walk.users.get(consumer.outputs[0], [])
    if len(users) != 1 or type(users[0].operation) is not keras.layers.BatchNormalization:
        return None
    effect = isinstance(walk.effects.get(users[0].path), Affine)
    shared = len(walk.records[users[0].path]) != 1
    return users[0] if effect and not shared else None


def _tied_operations(graph: Graph) -> dict[int, str]:
    """Operations whose variables another operation of the graph holds too, with the reason."""
    owners: dict[int, dict[int, str]] = {}
    for call in graph.calls:
        if isinstance(call.operation, keras.Layer):
            for layer in all_layers(call.operation):
                for variable in layer.variables:
                    owners.setdefault(id(variable), {})[id(call.operation)] = call.path
    tied = {}
    for holders in owners.values():
        for holder in holders if len(holders) > 1 else ():
            others = sorted(path for other, path in holders.items() if other != holder)
            tied[holder] = f"shares its weights with {' and '.join(others)}"
    return tied


def _title(call: Call) -> str:
    return f"{call.path} ({type(call.operation).__name__})"
