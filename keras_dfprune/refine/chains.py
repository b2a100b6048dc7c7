"""A pruned model's narrow layers refined, chain by chain, on draws from the prior.

Pruned groups that feed each other are one chain, refined end to end: what the wide layers make of
random inputs is what the narrow ones have to make of them. No data, no labels.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from keras_dfprune.graph.calls import Call, Graph, Tensor
from keras_dfprune.graph.keras_private import detached
from keras_dfprune.inputs.draws import input_sampler
from keras_dfprune.locate.groups import Layout, UnitGroup
from keras_dfprune.methods.merge import UnitMerge
from keras_dfprune.methods.moments.prior import read_prior
from keras_dfprune.refine.distill import Refinement, refine
from keras_dfprune.surgery.group_view import view_group
from keras_dfprune.surgery.weights import LayerStates


@dataclasses.dataclass(frozen=True, eq=False)
class Chain:
    """Pruned groups that follow one another, from one input tensor to their last consumers.

    Attributes:
        groups: The groups, the one that sees the input first.
        calls: The calls from the input to the ends.
        ends: The consumers behind the last groups; what they compute before their activation is
            followed.
    """

    groups: tuple[UnitGroup, ...]
    calls: tuple[Call, ...]
    ends: tuple[Call, ...]


def distill(
    graph: Graph,
    narrow: Graph,
    layout: Layout,
    merges: Mapping[str, UnitMerge],
    settings: Mapping[str, Any],
    progress: Callable[[int, float], None] | None = None,
) -> dict[str, Refinement]:
    """Refines the layers of a narrow model in place.

    Args:
        graph: The graph of the original model.
        narrow: The graph of the model rebuilt from it.
        layout: What was found in `graph`.
        merges: The merges made, by group.
        settings: `steps`, `seed`, `prior` and `prior_scale`, as `Moments` takes them.
        progress: Called with the step and the objective now and then.

    Returns:
        What was reached, by the name of each chain's first group. Frozen layers and chains
        behind other pruned layers, behind convolutions and on sequences stay as they are.
    """
    prior = read_prior(settings["prior"], settings["prior_scale"])
    twins = _twins(graph, narrow)
    reached = {}
    for chain in chains(graph, layout, merges):
        first = chain.groups[0]
        seen = view_group(first, layout, LayerStates(layout), 1.0)
        wide_start = _producer(first).inputs[0]
        narrow_calls = [twins[call] for call in chain.calls]
        narrow_ends = [twins[call] for call in chain.ends]
        variables = _variables(layout, chain, twins)
        if variables:
            reached[first.name] = refine(
                _runner(wide_start, chain.calls, chain.ends),
                _runner(twins[_producer(first)].inputs[0], narrow_calls, narrow_ends),
                variables,
                input_sampler(seen, prior),
                steps=settings["steps"],
                seed=settings["seed"],
                progress=progress,
            )
    return reached


def chains(graph: Graph, layout: Layout, merges: Mapping[str, UnitMerge]) -> list[Chain]:
    """The chains that can be refined, in the order of the graph."""
    pruned = [layout.groups[name] for name, merge in merges.items() if len(merge.removed)]
    pruned = [group for group in pruned if len(group.producers) == 1]  # no residual ones yet
    left = {_producer(group): group for group in pruned}
    found = []
    while left:
        groups = _connected(next(iter(left)), left)
        for group in groups:
            del left[_producer(group)]
        chain = _chain(graph, layout, groups, merges)
        if chain is None:  # it forks: each group for itself
            alone = [_chain(graph, layout, [group], merges) for group in groups[:1]]
            found += [chain for chain in alone if chain is not None]
        else:
            found.append(chain)
    return found


def _producer(group: UnitGroup) -> Call:
    return group.producers[0].call


def _connected(producer: Call, left: Mapping[Call, UnitGroup]) -> list[UnitGroup]:
    """The group of a producer and all that its units reach through other pruned groups."""
    groups, waiting = {}, [producer]
    while waiting:
        call = waiting.pop(0)
        if call in left and call not in groups:
            groups[call] = left[call]
            waiting += [inlet.call for inlet in left[call].inlets]
    return list(groups.values())


def _chain(graph: Graph, layout: Layout, groups: list[UnitGroup], merges) -> Chain | None:
    first, inside = groups[0], {group.name for group in groups}
    start = _producer(first).inputs[0]
    stream = layout.layers[first.name].inputs
    fed = {piece.source for piece in stream.pieces} if stream is not None else set()
    cut = any(name in merges and len(merges[name].removed) for name in fed)
    if (
        cut
        or "float" not in start.dtype
        or len(start.shape) != 2
        or first.producers[0].rule.taps(_producer(first).operation)
    ):
        return None
    producers = {_producer(group) for group in groups}
    ends = [inlet.call for group in groups for inlet in group.inlets]
    ends = [call for call in dict.fromkeys(ends) if call not in producers]
    known, calls = {start}, []
    for call in graph.calls:
        if call.inputs and all(tensor in known for tensor in call.inputs):
            calls.append(call)
            known.update(call.outputs)
    if any(call not in calls for call in [*producers, *ends]) or not inside:
        return None
    return Chain(tuple(groups), tuple(_needed(calls, ends)), tuple(ends))


def _needed(calls: list[Call], ends: list[Call]) -> list[Call]:
    """Those of `calls` on which some end depends."""
    wanted = {tensor for call in ends for tensor in call.inputs}
    needed = set(ends)
    for call in reversed(calls):
        if any(tensor in wanted for tensor in call.outputs):
            needed.add(call)
            wanted.update(call.inputs)
    return [call for call in calls if call in needed]


def _twins(graph: Graph, narrow: Graph) -> dict[Call, Call]:
    """Each call's counterpart: the same path, the same time."""
    places: dict[str, list[Call]] = {}
    for call in narrow.calls:
        places.setdefault(call.path, []).append(call)
    return {call: places[call.path].pop(0) for call in graph.calls}


def _runner(start: Tensor, calls, ends) -> Callable[[tf.Tensor], list[tf.Tensor]]:
    """Runs calls on a value of `start`; returns what the ends compute before their activation."""
    operations = {call: _without_activation(call) if call in ends else call.operation
                  for call in calls}  # fmt: skip

    def run(value):
        known = {start: value}

        def fill(argument):
            return known[argument] if isinstance(argument, Tensor) else argument

        for call in calls:
            if isinstance(call.operation, keras.layers.InputLayer):
                known[call.outputs[0]] = known[call.inputs[0]]
                continue
            args, kwargs = keras.tree.map_structure(fill, (call.args, call.kwargs))
            results = keras.tree.flatten(operations[call](*args, **kwargs))
            known.update(zip(call.outputs, results, strict=True))
        return [keras.ops.cast(known[call.outputs[0]], "float32") for call in ends]

    return run


def _without_activation(call: Call) -> keras.Operation:
    operation = detached(call.operation)
    if "activation" in vars(operation):  # a wrapper's layer keeps its own
        vars(operation)["activation"] = keras.activations.linear
    return operation


def _variables(layout: Layout, chain: Chain, twins: Mapping[Call, Call]) -> list[keras.Variable]:
    """Kernels and biases of the narrow layers of a chain, frozen ones left out."""
    found = {}
    for call in (*(_producer(group) for group in chain.groups), *chain.ends):
        rule = layout.layers[call.path].rule
        for variable in rule.targets(twins[call].operation).values():
            if variable.trainable:
                found[id(variable)] = variable
    return list(found.values())
