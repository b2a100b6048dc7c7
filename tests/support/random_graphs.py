"""Prune random models, one for each seed, and compare them with the wide twin.

`python -m tests.support.random_graphs 0 5000` runs these seeds, prints the seeds that fail and
counts how often each rule was covered.
"""

import collections
import contextlib
import sys

import keras
import numpy as np

import keras_dfprune as dfprune
from keras_dfprune.graph.ownership import is_variable, variable_key
from keras_dfprune.graph.read_graph import read_graph
from keras_dfprune.locate.locate import locate
from keras_dfprune.rules import registry
from tests.support.graph_builder import Builder


def random_model(seed):
    """Build the model of a seed, with random weights."""
    random = np.random.default_rng(seed)
    model = Builder(random).build()
    randomize(model, random)
    return model


def randomize(model, random):
    """Assign random weights, so that no bias, statistic or slope keeps its initial value."""
    for variable in model.weights:
        if "seed" in variable.path:
            continue
        shape = variable.shape
        if "variance" in variable.path:
            variable.assign(random.uniform(0.5, 2.0, shape))
        elif variable.path.endswith("gamma"):
            variable.assign(random.choice([-1, 1], shape) * random.uniform(0.5, 1.5, shape))
        elif len(shape) <= 1:
            variable.assign(random.normal(0, 0.3, shape))
        else:
            fan = np.prod(shape[:-1])
            variable.assign(random.normal(0, 1.2 / np.sqrt(fan), shape))
        constraint = getattr(variable, "constraint", None)
        for _ in range(10 if constraint is not None else 0):
            variable.assign(constraint(variable))


class Scatter(dfprune.Method):
    """Method that replaces removed units by random mixtures of the kept units.

    Args:
        centroids: Whether kept units get random sums of weight-sets in the groups that allow it.
            None: in half of them, at random.
    """

    def __init__(self, centroids=None):
        self.centroids = centroids

    def curve(self, group, context):
        random = np.random.default_rng(context.seed)
        # The first unit that can survive is kept to the end; units that can't survive go first.
        survivors_first = np.argsort(~group.can_survive, kind="stable")
        order = survivors_first[1:][::-1]

        def merge(count):
            removed = order[:count]
            kept = np.setdiff1d(np.arange(group.units), removed)
            mixture = random.normal(0, 0.3, (len(kept), count)) * group.can_survive[kept, None]
            offset = np.zeros(group.units)
            offset[removed] = random.normal(0, 0.5, count) * group.offset_allowed
            centroids = random.random() < 0.5 if self.centroids is None else self.centroids
            if not (count and group.averages and centroids):
                return dfprune.LinearMerge(kept, removed, offset, mixture)
            coefficients = random.normal(0, 0.3, (len(kept), group.units))
            return dfprune.CentroidMerge(
                kept,
                removed,
                offset=random.normal(0, 0.5, group.units) * group.offset_allowed,
                coefficients=coefficients * group.can_survive[kept, None],
                shares=random.normal(0, 0.5, (len(kept), group.units)),
                level=random.normal(0, 0.5, len(kept)) * group.levels,
            )

        return dfprune.Curve(order, np.ones(len(order)), merge)


@contextlib.contextmanager
def recorded_crossings():
    """Yield a list that records each rule that a producer's units pass: (rule name, producer)."""
    crossings = []

    def watch(rule):
        original = rule.carry

        def carry(call, streams):
            for stream in streams:
                for piece in stream.pieces if stream is not None else ():
                    crossings.append((type(rule).__name__, piece.source))
            return original(call, streams)

        rule.carry = carry

    for rule in registry.RULES:
        watch(rule)
    try:
        yield crossings
    finally:
        for rule in registry.RULES:
            del rule.carry


def check_seed(seed):
    """Prune the model of a seed; the verification inside `apply` compares it with the wide twin.

    Returns:
        The names of the rules that pruned units passed, and whether any unit was removed.
    """
    model = random_model(seed)
    random = np.random.default_rng(seed)
    method = ("saliency", Scatter(), "moments")[seed % 3]
    sparsity = float(random.uniform(0.1, 0.9))
    # A number leaves attention heads whole: by name they get smaller, too.
    layout = locate(read_graph(model))
    named = dict.fromkeys(layout.prunable, sparsity)
    with recorded_crossings() as crossings:
        plan = dfprune.plan(
            model, method=method, sparsity=named if layout.heads else sparsity, seed=seed
        )
    for group in plan.groups:
        assert len(group.removed) or group.kind == "units" or sparsity * group.units < 0.5, seed
    pruned = plan.apply(model)  # raises VerificationError
    assert pruned.count_params() == plan.parameters[1], seed
    assert not reachable_variables(model) & reachable_variables(pruned), seed
    for variable in pruned.trainable_variables:
        if variable.constraint is not None:
            difference = np.abs(np.array(variable.constraint(variable)) - np.array(variable))
            assert difference.max() <= 1e-5, (seed, variable.path)
    cut = {path for group in plan.groups if len(group.removed) for path in group.layers}
    groups = locate(read_graph(model)).groups.values()
    producers = [p for group in groups for p in group.producers if p.path in cut]
    produced = {type(producer.rule).__name__ for producer in producers}
    return produced | {name for name, source in crossings if source in cut}, bool(cut)


def reachable_variables(model):
    """Keys of all variables that a model's graph reads: its layers' and its calls' arguments."""
    keys = {variable_key(variable) for variable in model.variables}
    for call in read_graph(model).calls:
        arguments = keras.tree.flatten((call.args, call.kwargs))
        keys |= {variable_key(value) for value in arguments if is_variable(value)}
        if isinstance(call.operation, keras.Layer):
            keys |= {variable_key(variable) for variable in call.operation.variables}
    return keys


def plant_copies(model):
    """Make the second unit of every block of every group a copy of the first, up to the seam.

    Heads get two equal dimensions on one side of their products.

    Returns:
        The groups' names.
    """
    layout = locate(read_graph(model))
    for group in layout.heads.values():
        variables = group.rule.variables(group.calls[0].operation)
        # Biases differ: that of the keys vanishes, that of the values becomes one of the outputs.
        side = "key" if group.kind == "query_key" else "value" if group.keeps_mean else "output"
        _copy(variables[f"{side}_kernel"], 1 if side == "output" else 2, 0, 1)
    for group in layout.groups.values():
        calls = {producer.call for producer in group.producers}
        pairs = [group.units_of(block)[:2] for block in range(group.block_count)]
        for producer in group.producers:
            columns = producer.outputs.pieces[0].by_unit(group.units)
            for variable, axis in _unit_axes(producer.rule, producer.call.operation, "out"):
                # A recurrent layer has one part for each gate.
                for start in range(0, variable.shape[axis], columns.size):
                    for pair in pairs:
                        for source, target in columns[pair].T + start:
                            _copy(variable, axis, source, target)
        for site in (site for inlet in group.inlets for site in inlet.at_each_site()):
            for stage, features in _selected(site.selected, site.order):
                if stage.call in calls or not stage.rule.axes:
                    continue
                operation = stage.call.operation
                # A depthwise convolution has several outputs for each input.
                fold = vars(operation).get("depth_multiplier", 1)
                copies = np.concatenate([features[pair].T for pair in pairs])
                for role, divisor in (("in", fold), ("out", 1)):
                    for variable, axis in _unit_axes(stage.rule, operation, role):
                        for source, target in copies // divisor:
                            _copy(variable, axis, source, target)
    return list(layout.prunable)


def plant_constants(model, random):
    """Take the incoming weights from unit 1 of every producer; its bias is 0 or drawn."""
    layout = locate(read_graph(model))
    for group in layout.groups.values():
        for producer in group.producers:
            bias = random.choice([0.0, -1.0, 0.7])
            columns = producer.outputs.pieces[0].by_unit(group.units)
            for variable, axis in _unit_axes(producer.rule, producer.call.operation, "out"):
                values = np.moveaxis(np.array(variable), axis, 0)
                for start in range(0, len(values), columns.size):
                    values[columns[1] + start] = bias if len(variable.shape) == 1 else 0
                variable.assign(np.moveaxis(values, 0, axis))


def _selected(stages, order):
    """Yield the stages, those of joined branches too, with their features by unit."""
    for stage in stages:
        for branch in stage.branches:
            yield from _selected(branch.stages, branch.by_unit(len(order)))
        yield stage, stage.features[order]


def _unit_axes(rule, operation, role):
    for name, variable in rule.variables(operation).items():
        axes = [axis for axis, kind in rule.variable_axes(name, len(variable.shape))
                if kind == role]  # fmt: skip
        if axes:
            yield variable, axes[0]


def _copy(variable, axis, source, target):
    if variable.shape[axis] > target:
        values = np.moveaxis(np.array(variable), axis, 0)
        values[target] = values[source]
        variable.assign(np.moveaxis(values, 0, axis))


def main(start, stop):
    """Check the seeds from `start` up to `stop`; return the number of failures."""
    covered, with_cut, failed = collections.Counter(), 0, 0
    for seed in range(start, stop):
        try:
            names, cut = check_seed(seed)
            covered.update(names)
            with_cut += cut
        except Exception as error:
            failed += 1
            print(f"seed {seed} failed: {type(error).__name__}: {error}", flush=True)
        keras.backend.clear_session()
        if seed % 100 == 99:
            done = seed + 1 - start
            print(f"to {seed + 1}: {done} graphs, {with_cut} pruned, {failed} failed", flush=True)
    for name, number in sorted(covered.items()):
        print(f"{name:28s}{number:6d}")
    return failed


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])) > 0)
