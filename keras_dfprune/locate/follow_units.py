"""Follow units through the calls of a graph, from the layers that produce them.

A producer whose units reach anything that can't be followed stays whole: default deny.
"""

from collections.abc import Mapping

import numpy as np

from keras_dfprune.graph.calls import Call, Graph, Tensor
from keras_dfprune.graph.ownership import Ownership, read_ownership
from keras_dfprune.locate.followed_units import Arrival, FollowedUnits, title
from keras_dfprune.locate.groups import LayerFeatures, ProducerFeatures
from keras_dfprune.locate.new_units import start_call, stream_of_units, streams_of_units
from keras_dfprune.rules.activations import NotElementwise
from keras_dfprune.rules.barriers import explain, why_whole
from keras_dfprune.rules.base import Barrier, ElementwiseRule, Rule, Together
from keras_dfprune.rules.features import Piece, Stream
from keras_dfprune.rules.initial_state import InitialStateRule
from keras_dfprune.rules.kernels import ConsumerRule, KernelRule, ProducerRule
from keras_dfprune.rules.layer_state import LayerState
from keras_dfprune.rules.normalization import layer_statistics
from keras_dfprune.rules.registry import check_registered, find_rule, why_registered_unfit


def follow_units(graph: Graph) -> FollowedUnits:
    """Follow the units of all producers of a graph to the calls that consume them.

    If columns of a producer turn out to be one unit, everything is followed once more.

    Args:
        graph: The graph.
    """
    ownership = read_ownership(graph)
    units_of_columns: dict[str, np.ndarray] = {}
    while True:
        follower = _Follower(graph, ownership, units_of_columns)
        followed = follower.follow_all()
        if follower.together.keys() <= units_of_columns.keys():
            return followed
        units_of_columns = {**follower.together, **units_of_columns}


class _Follower:
    """Takes units from call to call.

    Args:
        graph: The graph.
        ownership: The operations that hold variables together with others.
        units_of_columns: The unit that each column of a producer is part of, by the producer's
            path. Each column of any other producer is a unit.

    Attributes:
        units: What has been found so far.
        together: The columns that were found to be one unit, in the form of `units_of_columns`.
    """

    def __init__(
        self, graph: Graph, ownership: Ownership, units_of_columns: Mapping[str, np.ndarray]
    ):
        self.units = FollowedUnits(
            origins={tensor: tensor.name for tensor in graph.inputs},
            outputs=frozenset(graph.outputs),
            ownership=ownership,
        )
        self.together: dict[str, np.ndarray] = {}
        self._graph = graph
        self._units_of_columns = units_of_columns
        self._barred: set[str] = set()  # layers that can neither produce nor consume units
        for call in graph.calls:
            for tensor in call.inputs:
                self.units.users.setdefault(tensor, []).append(call)

    def follow_all(self) -> FollowedUnits:
        """Follow the units through all calls of the graph."""
        for call in self._graph.calls:
            self._follow(call)
        for tensor in self._graph.outputs:
            self._refuse(self.units.streams.get(tensor), "its units are an output of the model")
        self._check_shared_layers()
        return self.units

    def _follow(self, call: Call) -> None:
        """Take the units that arrive at one call to its outputs."""
        arriving = [self.units.streams.get(tensor) for tensor in call.inputs]
        rule = find_rule(call.operation)
        if rule is None:
            self._refuse_kernel(call)
        outputs = self._carry(call, rule, arriving)
        leaving = {} if outputs is None else dict.fromkeys(call.outputs, outputs)
        if isinstance(rule, KernelRule):
            outputs, leaving = self._produce(call, rule, arriving)
        if isinstance(rule, ConsumerRule):
            self._arrive(call, rule, arriving[0])
        if rule is not None:
            self._record(call, rule, arriving[0] if arriving else None, outputs)
        self._follow_values(call, rule)
        self.units.streams.update(leaving)
        for stream in leaving.values():
            for piece in stream.pieces:
                self._tie(piece.sources())

    def _carry(self, call: Call, rule: Rule | None, arriving: list[Stream | None]) -> Stream | None:
        """Carry arriving units through a call, or leave their producers whole."""
        try:
            shared = self.units.ownership.reasons.get(id(call.layer))
            if shared:
                raise Barrier(shared)
            if rule is None:
                raise Barrier(explain(call.operation))
            check_registered(rule, call, arriving[0] if arriving else None)
            leaving = rule.carry(call, arriving)
            one_output = len(call.outputs) == 1 or rule.fills_all_outputs
            if leaving is not None and not one_output:
                raise Barrier("has several outputs")
            if isinstance(rule, ElementwiseRule) and leaving is not None:
                self.units.effects[call.path] = rule.effect(call, rule.read(call.operation))
            return leaving
        except (Barrier, NotElementwise) as error:
            if isinstance(error, Together):
                self.together.setdefault(error.source, error.units)
            link = ", which" if isinstance(error, Barrier) else ":"
            for stream in arriving:
                self._refuse(stream, f"it feeds {title(call)}{link} {error}")
            return None

    def _refuse_kernel(self, call: Call) -> None:
        """Note why a layer without a rule stays whole, if it has a kernel."""
        reason = why_whole(call.operation)
        if reason:
            self.units.reasons.setdefault(call.path, reason)

    def _produce(
        self, call: Call, rule: KernelRule, arriving: list[Stream | None]
    ) -> tuple[Stream | None, dict[Tensor, Stream]]:
        """Return the new units of a layer, each once, and those in each of its outputs."""
        starts = self._start(call, rule, arriving)
        if not isinstance(rule, ProducerRule):
            return None, {}
        if starts is None:
            reason = f"it feeds {title(call)}, which takes them as its initial state"
            for stream in arriving[1:]:
                self._refuse(stream, reason)
            return None, {}
        together = self._units_of_columns.get(call.path)
        streams = streams_of_units(call, rule, starts, together)
        return stream_of_units(call, rule, starts, together), streams

    def _start(
        self, call: Call, rule: KernelRule, arriving: list[Stream | None]
    ) -> tuple[Piece, ...] | None:
        """Return the units that a layer's own units start from, or None where it has no units."""
        is_first = call.path not in self.units.producers
        self.units.producers.setdefault(call.path, call)
        reason = self._why_barred(call, rule)
        if reason is not None:
            self._barred.add(call.path)
        elif isinstance(rule, ConsumerRule) and not isinstance(rule, ProducerRule):
            reason = rule.why_not_pruned
        if reason is not None or not isinstance(rule, ProducerRule):
            self.units.reasons.setdefault(call.path, f"it {reason}")
            return None
        together = self._units_of_columns.get(call.path)
        if rule.unit_count(call.operation) < 2:
            self.units.reasons.setdefault(call.path, "it has fewer than two units")
        elif together is not None and not together.any():
            self.units.reasons.setdefault(call.path, "a Reshape makes one channel of its units")
        elif together is not None and not self._can_be_spread(call, rule):
            reason = "a Reshape spreads its units over positions, which such a layer doesn't allow"
            self.units.reasons.setdefault(call.path, reason)
            return None
        try:
            self.units.effects[call.path] = rule.effect(call, rule.read(call.operation))
        except NotElementwise as error:
            self.units.reasons.setdefault(call.path, f"its activation can't be used: {error}")
            return None
        reason, starts = rule.why_units_stay(call), rule.starts(call, arriving)
        if reason is not None or starts is None:
            reason = reason or "starts from a state that is not made of all units of a layer"
            self.units.reasons.setdefault(call.path, f"it {reason}")
            return None
        if starts:
            start = start_call(call)
            effect = InitialStateRule().effect(start, LayerState({}, {}))
            self.units.effects[start.path] = effect
        if rule.own_rows is not None and is_first:
            (piece,) = stream_of_units(call, rule, starts).pieces
            self.units.arrivals.append(Arrival(call, rule.own_rows, piece, recurrent=True))
        return starts

    def _can_be_spread(self, call: Call, rule: ProducerRule) -> bool:
        """Return whether columns of a layer may be one unit together."""
        return rule.own_rows is None and rule.channel_groups(call.operation) == 1

    def _why_barred(self, call: Call, rule: KernelRule) -> str | None:
        """Return why a layer can neither produce nor consume units, or None."""
        operation = call.operation
        shared = self.units.ownership.reasons.get(id(call.layer))
        return shared or why_registered_unfit(rule, operation) or rule.barrier(operation)

    def _arrive(self, call: Call, rule: ConsumerRule, stream: Stream | None) -> None:
        pieces = stream.pieces if stream is not None else ()
        self.units.arrivals += [Arrival(call, rule, piece) for piece in pieces]

    def _record(
        self, call: Call, rule: Rule, inputs: Stream | None, outputs: Stream | None
    ) -> None:
        """Note the features around a layer that is cut along with them."""
        if not (rule.axes or rule.follows_input):
            return
        if call.path in self._barred or why_registered_unfit(rule, call.operation) is not None:
            return
        record: LayerFeatures
        if isinstance(rule, ProducerRule) and outputs is not None:
            inputs = None if rule.takes_indices else inputs  # A table has no input features.
            record = ProducerFeatures(call, rule, inputs, outputs)
        else:
            record = LayerFeatures(call, rule, inputs, outputs)
        self.units.records.setdefault(call.path, []).append(record)

    def _follow_values(self, call: Call, rule: Rule | None) -> None:
        """Note where the output's values come from, if the call keeps or normalizes them."""
        if rule is not None and rule.keeps_values(call):
            source, target = call.inputs[0], call.outputs[0]
            if source in self.units.origins:
                self.units.origins[target] = self.units.origins[source]
            if source in self.units.normalized:
                self.units.normalized[target] = self.units.normalized[source]
        statistics = layer_statistics(call)
        if statistics is not None:
            self.units.normalized[call.outputs[0]] = statistics

    def _refuse(self, stream: Stream | None, reason: str) -> None:
        """Leave the producers of all units in a stream whole. The first reason stands."""
        for piece in stream.pieces if stream is not None else ():
            self.units.reasons.setdefault(piece.source, reason)

    def _tie(self, sources: set[str]) -> None:
        """Note that units of these producers stay or go together."""
        for path in sources:
            self.units.ties.setdefault(path, set()).update(sources)

    def _check_shared_layers(self) -> None:
        """Check that all calls of a shared layer see the same units at the same positions.

        A layer is cut once. Producers whose units it sees otherwise stay whole.
        """
        for path, (first, *others) in self.units.records.items():
            for other in others:
                if first.inputs is None and other.inputs is None:
                    continue
                if (
                    first.inputs is None
                    or other.inputs is None
                    or not first.inputs.lines_up_with(other.inputs)
                ):
                    reason = f"it feeds {path}, a shared consumer that is called on other units too"
                    self._refuse(first.inputs, reason)
                    self._refuse(other.inputs, reason)
                    continue
                pairs = zip(first.inputs.pieces, other.inputs.pieces, strict=True)
                for one, other_piece in pairs:
                    self._tie({one.source, other_piece.source})
