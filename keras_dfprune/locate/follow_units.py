"""Units followed through the calls of a graph, from the layers that produce them.

Whatever can't be followed leaves the producer whole: default deny.
"""

import keras
import numpy as np

from keras_dfprune.graph.calls import Call, Graph, Tensor
from keras_dfprune.graph.keras_private import all_layers
from keras_dfprune.locate.groups import LayerFeatures
from keras_dfprune.rules import registry
from keras_dfprune.rules.activations import NotElementwise
from keras_dfprune.rules.barriers import explain, why_whole
from keras_dfprune.rules.base import Barrier, ElementwiseRule, UnitRule
from keras_dfprune.rules.effects import Affine, Join, Nonlinear
from keras_dfprune.rules.features import Piece, Stream
from keras_dfprune.rules.normalization import layer_statistics


class Walk:
    """Follows units through the calls of a graph, one call at a time.

    Attributes:
        streams: The units in a tensor, for each that holds any.
        origins: For a tensor that holds the values of an input of the model, the input's name.
        normalized: For a tensor behind a normalization, the scale and shift of its features.
        producers: The first call of each layer that makes units, by its path.
        reasons: Why producers stay whole, and layers with kernels that no rule covers, by their
            paths.
        barred: Paths of layers that can neither produce nor consume.
        arrivals: Calls that take units in, with the rule and the piece of each.
        ties: The producers whose units stay or go together with a producer's, by its path.
        records: What a layer that is cut takes in and hands on, at each of its calls.
        effects: What an operation does to each unit, by its path.
        users: The calls that take a tensor in.
        outputs: The tensors that the model returns.
        tied: Why an operation is tied to another by its weights, by its `id`.
    """

    def __init__(self, graph: Graph):
        self.streams: dict[Tensor, Stream] = {}
        self.origins = {tensor: tensor.name for tensor in graph.inputs}
        self.normalized: dict[Tensor, tuple[np.ndarray, np.ndarray]] = {}
        self.producers: dict[str, Call] = {}
        self.reasons: dict[str, str] = {}
        self.barred: set[str] = set()
        self.arrivals: list[tuple[Call, UnitRule, Piece]] = []
        self.ties: dict[str, set[str]] = {}
        self.records: dict[str, list[LayerFeatures]] = {}
        self.effects: dict[str, Affine | Nonlinear | Join] = {}
        self.users: dict[Tensor, list[Call]] = {}
        self.outputs = frozenset(graph.outputs)
        self.tied = _tied_operations(graph)
        for call in graph.calls:
            for tensor in call.inputs:
                self.users.setdefault(tensor, []).append(call)

    def follow(self, call: Call) -> None:
        """Takes the units that arrive at one call to its output."""
        arriving = [self.streams.get(tensor) for tensor in call.inputs]
        rule = registry.lookup(call.operation)
        try:
            if id(call.operation) in self.tied:
                raise Barrier(self.tied[id(call.operation)])
            if rule is None:
                raise Barrier(explain(call.operation))
            registry.try_registered(rule, call, arriving[0] if arriving else None)
            leaving = rule.carry(call, arriving)
            if isinstance(rule, ElementwiseRule) and leaving is not None:
                self.effects[call.path] = rule.effect(call, rule.read(call.operation))
        except (Barrier, NotElementwise) as error:
            link = ", which" if isinstance(error, Barrier) else ":"
            for stream in arriving:
                self.refuse(stream, f"it feeds {title(call)}{link} {error}")
            leaving = None
        whole = why_whole(call.operation) if rule is None else None
        if whole:
            self.reasons.setdefault(call.path, whole)
        if isinstance(rule, UnitRule):
            leaving = self._produce(call, rule)
            for piece in arriving[0].pieces if arriving[0] is not None else ():
                self.arrivals.append((call, rule, piece))
        is_cut = rule is not None and (rule.axes or rule.follows_input)
        is_cut = is_cut and registry.objection(rule, call.operation) is None
        if is_cut and call.path not in self.barred:
            inputs = arriving[0] if arriving else None
            if isinstance(rule, UnitRule) and rule.takes_indices:  # a table has no such features
                inputs = None
            record = LayerFeatures(call, rule, inputs, leaving)
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
        reason = self.tied.get(id(operation)) or registry.objection(rule, operation)
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


def title(call: Call) -> str:
    """How a call is named in a reason: path and type."""
    return f"{call.path} ({type(call.operation).__name__})"
