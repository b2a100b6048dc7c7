"""Seeds into small random models made of every layer that units can pass, and what they show.

`python -m tests.random_graphs 0 5000` runs these seeds, names those that fail and prints what was
covered.
"""

import collections
import contextlib
import sys

import keras
import numpy as np

import keras_dfprune as dfprune
from keras_dfprune.graph.read_graph import read_graph
from keras_dfprune.locate.locate import locate
from keras_dfprune.rules import registry
from tests.support.graph_builder import Builder


def random_model(seed):
    """The model of a seed, with random weights."""
    random = np.random.default_rng(seed)
    model = Builder(random).build()
    randomize(model, random)
    return model


def randomize(model, random):
    """Biases, statistics and slopes that are not at their initial zeros and ones."""
    for variable in model.weights:
        if "seed" in variable.path:
            continue
        low = 0.5 if "variance" in variable.path else None
        shape = variable.shape
        if low is not None:
            variable.assign(random.uniform(0.5, 2.0, shape))
        elif variable.path.endswith("gamma"):
            variable.assign(random.choice([-1, 1], shape) * random.uniform(0.5, 1.5, shape))
        elif len(shape) <= 1:
            variable.assign(random.normal(0, 0.3, shape))
        else:
            fan = np.prod(shape[:-1])
            variable.assign(random.normal(0, 1.2 / np.sqrt(fan), shape))


class Scatter(dfprune.Method):
    """Removes random units and rebuilds them from random mixtures of the kept ones.

    Groups that can get random sums of weight-sets, too: every other one, all or none.
    """

    def __init__(self, moved=None):
        self.moved = moved

    def curve(self, group, context):
        random = np.random.default_rng(context.seed)
        heirs_first = np.argsort(~group.can_survive, kind="stable")
        order = np.concatenate([heirs_first[1:][::-1], heirs_first[:1]])[:-1]

        def merge(count):
            removed = order[:count]
            kept = np.setdiff1d(np.arange(group.units), removed)
            mixture = random.normal(0, 0.3, (len(kept), count)) * group.can_survive[kept, None]
            offset = np.zeros(group.units)
            offset[removed] = random.normal(0, 0.5, count) * group.offset_allowed
            moved = random.random() < 0.5 if self.moved is None else self.moved
            if not (group.averages and moved):
                return dfprune.LinearMerge(kept, removed, offset, mixture)
            whole = random.normal(0, 0.3, (len(kept), group.units))
            return dfprune.CentroidMerge(
                kept,
                removed,
                offset=random.normal(0, 0.5, group.units) * group.offset_allowed,
                coefficients=whole * group.can_survive[kept, None],
                shares=random.normal(0, 0.5, (len(kept), group.units)),
                level=random.normal(0, 0.5, len(kept)) * group.levels,
            )

        return dfprune.Curve(order, np.ones(len(order)), merge)


@contextlib.contextmanager
def crossings(monkeypatched_rules=registry.RULES):
    """Records which rules saw which producers' units: yields a list of (rule name, producer)."""
    seen = []

    def watch(rule):
        original = rule.carry

        def carry(call, streams):
            for stream in streams:
                for piece in stream.pieces if stream is not None else ():
                    seen.append((type(rule).__name__, piece.source))
            return original(call, streams)

        rule.carry = carry

    for rule in monkeypatched_rules:
        watch(rule)
    try:
        yield seen
    finally:
        for rule in monkeypatched_rules:
            del rule.carry


def check_seed(seed):
    """Prunes one random model; the wide twin inside `apply` is the oracle. Returns the coverage."""
    model = random_model(seed)
    random = np.random.default_rng(seed)
    method = ("saliency", Scatter(), "moments")[seed % 3]
    with crossings() as seen:
        plan = dfprune.plan(
            model, method=method, sparsity=float(random.uniform(0.1, 0.9)), seed=seed
        )
    pruned = plan.apply(model)  # raises VerificationError
    assert pruned.count_params() == plan.parameters[1], seed
    cut = {path for group in plan.groups if len(group.removed) for path in group.layers}
    groups = locate(read_graph(model)).groups.values()
    producers = [one for group in groups for one in group.producers if one.path in cut]
    produced = {type(one.rule).__name__ for one in producers}
    return produced | {name for name, source in seen if source in cut}, bool(cut)


def plant_copies(model):
    """Makes unit 1 of every group a copy of unit 0, up to the seam. Returns the groups' names."""
    layout = locate(read_graph(model))
    for group in layout.groups.values():
        calls = {producer.call for producer in group.producers}
        for producer in group.producers:
            for variable, axis in _unit_axes(producer.rule, producer.call.operation, "out"):
                _copy(variable, axis, 0, 1)
        for inlet in group.inlets:
            for stage, features in _selected(inlet.selected, inlet.order):
                if stage.call in calls or not stage.rule.axes:
                    continue
                operation = stage.call.operation
                # a depthwise filter has several outputs for each input
                fold = vars(operation).get("depth_multiplier", 1)
                for variable, axis in _unit_axes(stage.rule, operation, "in"):
                    for source, target in zip(
                        features[0] // fold, features[1] // fold, strict=True
                    ):
                        _copy(variable, axis, source, target)
                for variable, axis in _unit_axes(stage.rule, operation, "out"):
                    for source, target in zip(features[0], features[1], strict=True):
                        _copy(variable, axis, source, target)
    return list(layout.groups)


def _selected(stages, order):
    """Stages, those of joined branches too, with their features by unit."""
    for stage in stages:
        for branch in stage.branches:
            yield from _selected(branch.stages, branch.by_unit(len(order)))
        yield stage, stage.features[order]


def _unit_axes(rule, operation, role):
    for name, variable in rule.targets(operation).items():
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
    """Checks the seeds from `start` to `stop`; returns how many failed."""
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
