"""Refine a pruned model's narrow layers chain by chain, on inputs drawn from the prior.

Pruned groups that feed each other form one chain. Its narrow layers are trained together until they
compute what the wide layers compute of the same random inputs. No data, no labels.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import keras
import tensorflow as tf

from keras_dfprune.graph.calls import Call, Graph, Tensor, run_calls
from keras_dfprune.graph.keras_private import detached
from keras_dfprune.inputs.draws import input_sampler
from keras_dfprune.locate.groups import Layout, UnitGroup
from keras_dfprune.locate.locate import LocatedModel
from keras_dfprune.methods.merge import Removal
from keras_dfprune.methods.moments.prior import read_prior
from keras_dfprune.refine.distill import Lessons, Refinement, train_to_follow
from keras_dfprune.surgery.group_view import view_group
from keras_dfprune.surgery.weights import LayerStates

# Rows of fresh inputs in each step (docs/research/measurements.md).
BATCH = 256
# Rows on which the weights to keep are chosen. They are drawn once and never trained on.
HELD_OUT = 4096


@dataclasses.dataclass(frozen=True, eq=False)
class Chain:
    """Pruned groups that follow one another, from one input tensor to their last consumers.

    Attributes:
        groups: The groups. The first one gets the input.
        calls: The calls from the input to the ends.
        ends: The consumers behind the last groups. Their pre-activations are compared.
    """

    groups: tuple[UnitGroup, ...]
    calls: tuple[Call, ...]
    ends: tuple[Call, ...]

    @property
    def start(self) -> Tensor:
        """Tensor that the first producer takes in."""
        return _producer(self.groups[0]).inputs[0]


def refine_chains(
    located: LocatedModel,
    narrow: Graph,
    merges: Mapping[str, Removal],
    steps: int,
    seed: int = 0,
    progress: Callable[[int, float], None] | None = None,
) -> dict[str, Refinement]:
    """Refine the layers of a narrow model in place.

    Frozen layers and variables with a constraint stay as they are. So do chains behind other pruned
    layers or behind convolutions, and chains on sequences.

    Args:
        located: The original with its groups.
        narrow: The graph of the model rebuilt from it.
        merges: The merge of each pruned group.
        steps: Int: steps of Adam for each chain.
        seed: Int: seed of the draws.
        progress: Called now and then with the step and the difference on held-out draws.

    Returns:
        What was reached, by the name of each chain's first group.
    """
    prior = read_prior("weights", "auto")
    counterparts = _counterparts(located.graph, narrow)
    reached = {}
    for chain in find_chains(located, merges):
        variables = _trainable_variables(located.layout, chain, counterparts)
        if not variables:
            continue
        first = chain.groups[0]
        view = view_group(first, located.layout, LayerStates(located.layout))
        narrow_start = counterparts[_producer(first)].inputs[0]
        narrow_calls, narrow_ends = (
            [counterparts[call] for call in calls] for calls in (chain.calls, chain.ends)
        )
        run_wide = _runner(chain.start, chain.calls, chain.ends)
        reached[first.name] = train_to_follow(
            run_wide,
            _runner(narrow_start, narrow_calls, narrow_ends),
            variables,
            _drawn_lessons(run_wide, input_sampler(view, prior), seed),
            steps=steps,
            progress=progress,
        )
    return reached


def _drawn_lessons(
    run_wide: Callable[[tf.Tensor], list[tf.Tensor]],
    sample: Callable[[int, tf.Tensor], tf.Tensor],
    seed: int,
) -> Lessons:
    """Return fresh draws for each step, and others that are never trained on."""
    held_out = sample(HELD_OUT, tf.constant([seed, -1], tf.int32))
    variances = [
        tf.reduce_sum(tf.math.reduce_variance(output, axis=0)) for output in run_wide(held_out)
    ]
    draw = tf.function(lambda step: sample(BATCH, tf.stack([seed, step])))
    return Lessons(
        batch=lambda step: draw(tf.constant(step, tf.int32)),
        held_out=[held_out],
        variances=[max(float(variance), 1e-30) for variance in variances],
    )


def find_chains(located: LocatedModel, merges: Mapping[str, Removal]) -> list[Chain]:
    """Find the chains that can be refined, in the order of the graph.

    Args:
        located: The original with its groups.
        merges: The merge of each pruned group.
    """
    groups = located.layout.groups
    pruned = [
        groups[name] for name, merge in merges.items() if name in groups and len(merge.removed)
    ]
    # Groups of several producers (residual connections) are not refined yet.
    waiting = {_producer(group): group for group in pruned if len(group.producers) == 1}
    chains = []
    while waiting:
        connected = _connected_groups(next(iter(waiting)), waiting)
        for group in connected:
            del waiting[_producer(group)]
        chain = _make_chain(located, connected, merges)
        if chain is None:  # The connected groups don't run from one tensor: refine the first alone.
            chain = _make_chain(located, connected[:1], merges)
        if chain is not None:
            chains.append(chain)
    return chains


def _producer(group: UnitGroup) -> Call:
    return group.producers[0].call


def _connected_groups(producer: Call, groups: Mapping[Call, UnitGroup]) -> list[UnitGroup]:
    """Return the group of a producer and all groups that its units reach through others."""
    connected: dict[Call, UnitGroup] = {}
    waiting = [producer]
    while waiting:
        call = waiting.pop(0)
        if call in groups and call not in connected:
            connected[call] = groups[call]
            waiting += [inlet.call for inlet in groups[call].inlets]
    return list(connected.values())


def _make_chain(
    located: LocatedModel, groups: Sequence[UnitGroup], merges: Mapping[str, Removal]
) -> Chain | None:
    """Return the chain of some groups, or None if it can't be refined."""
    if not _can_start(located.layout, groups[0], merges):
        return None
    start = _producer(groups[0]).inputs[0]
    producers = {_producer(group) for group in groups}
    consumers = dict.fromkeys(inlet.call for group in groups for inlet in group.inlets)
    ends = [call for call in consumers if call not in producers]
    reachable: list[Call] = []
    known = {start}
    for call in located.graph.calls:
        if call.inputs and all(tensor in known for tensor in call.inputs):
            reachable.append(call)
            known.update(call.outputs)
    if any(call not in reachable for call in [*producers, *ends]):
        return None
    return Chain(tuple(groups), tuple(_needed_calls(reachable, ends)), tuple(ends))


def _can_start(layout: Layout, group: UnitGroup, merges: Mapping[str, Removal]) -> bool:
    """Return whether a chain can start here: a Dense layer on float vectors of full width."""
    producer = group.producers[0]
    start = producer.call.inputs[0]
    inputs = layout.layers[group.name].inputs
    sources = {piece.source for piece in inputs.pieces} if inputs is not None else set()
    is_narrow = any(name in merges and len(merges[name].removed) for name in sources)
    is_vector = "float" in start.dtype and len(start.shape) == 2
    return is_vector and not is_narrow and not producer.rule.taps(producer.call.operation)


def _needed_calls(calls: Sequence[Call], ends: Sequence[Call]) -> list[Call]:
    """Return those of `calls` on which an end depends, the ends included."""
    tensors = {tensor for call in ends for tensor in call.inputs}
    needed = set(ends)
    for call in reversed(calls):
        if any(tensor in tensors for tensor in call.outputs):
            needed.add(call)
            tensors.update(call.inputs)
    return [call for call in calls if call in needed]


def _counterparts(graph: Graph, narrow: Graph) -> dict[Call, Call]:
    """Return the narrow model's call for each call of the original: same path, same turn."""
    calls_of: dict[str, list[Call]] = {}
    for call in narrow.calls:
        calls_of.setdefault(call.path, []).append(call)
    return {call: calls_of[call.path].pop(0) for call in graph.calls}


def _runner(
    start: Tensor, calls: Sequence[Call], ends: Sequence[Call]
) -> Callable[[tf.Tensor], list[tf.Tensor]]:
    """Return a function from a value of `start` to the pre-activations of the ends."""
    linear_ends = {call: _without_activation(call) for call in ends}

    def run(value: tf.Tensor) -> list[tf.Tensor]:
        values = run_calls(calls, {start: value}, linear_ends)
        return [keras.ops.cast(values[call.outputs[0]], "float32") for call in ends]

    return run


def _without_activation(call: Call) -> keras.Operation:
    operation = detached(call.operation)
    if "activation" in vars(operation):  # The layer inside a wrapper keeps its activation.
        vars(operation)["activation"] = keras.activations.linear
    return operation


def _trainable_variables(
    layout: Layout, chain: Chain, counterparts: Mapping[Call, Call]
) -> list[keras.Variable]:
    """Return the kernels and biases of a chain's narrow layers that are free to change."""
    variables = {}
    for call in (*(_producer(group) for group in chain.groups), *chain.ends):
        rule = layout.layers[call.path].rule
        for variable in rule.variables(counterparts[call].operation).values():
            if variable.trainable and variable.constraint is None:
                variables[id(variable)] = variable
    return list(variables.values())
