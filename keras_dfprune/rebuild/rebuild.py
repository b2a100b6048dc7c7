"""A model and its cut states into a new, narrower model; nothing of the old one changes."""

import dataclasses

import keras
import numpy as np

from keras_dfprune.graph.calls import Graph
from keras_dfprune.graph.copy_model import copy_model
from keras_dfprune.graph.keras_private import all_layers, detached
from keras_dfprune.graph.recreate import (
    VariablePair,
    copy_state,
    is_reused,
    recreate,
    restore_settings,
)
from keras_dfprune.locate.groups import Layout, cut_of, is_cut
from keras_dfprune.report.progress import SILENT, Progress
from keras_dfprune.rules.base import Rule
from keras_dfprune.rules.layer_state import Cut, LayerState
from keras_dfprune.surgery.weights import LayerStates


@dataclasses.dataclass(frozen=True, eq=False)
class Rebuilt:
    """What `rebuild` returns.

    Attributes:
        model: The new model, not compiled.
        variables: Pairs for every variable that has a counterpart.
        reused: Paths of layers that could not be re-made, whose contents both models share.
    """

    model: keras.Model
    variables: tuple[VariablePair, ...]
    reused: tuple[str, ...]


def rebuild(
    model: keras.Model,
    graph: Graph,
    layout: Layout,
    states: LayerStates,
    progress: Progress = SILENT,
) -> Rebuilt:
    """Builds the narrow model.

    Args:
        model: The model that `graph` was read from.
        graph: Its graph.
        layout: What can be cut in it.
        states: The states after all merges, with the kept units of each group.
        progress: Shows how many layers are done.

    Returns:
        A `Rebuilt`.
    """
    cuts = {path: cut_of(record, states.kept) for path, record in layout.layers.items()}
    edits = {
        path: record.rule.narrow(states[path], cuts[path])
        for path, record in layout.layers.items()
        if is_cut(cuts[path]) or states.edited(path)
    }

    def remake(operation):
        path = graph.paths[id(operation)]
        if path in layout.tied:
            return detached(operation)
        state = edits.get(path)
        return recreate(operation, state.config if state is not None and state.config else None)

    def edit_arguments(operation, args, kwargs):
        path = graph.paths[id(operation)]
        if path not in layout.layers:
            return args, kwargs
        return layout.layers[path].rule.narrow_arguments(args, kwargs, cuts[path])

    new, pairs = copy_model(model, remake, edit_arguments)
    variables: list[VariablePair] = []
    reused = []
    for old, made in progress.over("Rebuilding", pairs):
        if isinstance(made, keras.Model) and old is not made and not _is_leaf(old, graph):
            made.trainable = old.trainable
            continue
        path = graph.paths.get(id(old))
        if not isinstance(old, keras.Layer):
            continue
        if path in edits:
            rule = layout.layers[path].rule
            _assign(old, made, rule, edits[path])
            variables += _cut_pairs(old, made, rule, cuts[path])
        elif is_reused(old, made):
            reused += [path] if old.variables else []
        else:
            copy_state(old, made)
            variables += [
                VariablePair(a, b, lambda array: array)
                for a, b in zip(old.variables, made.variables, strict=True)
            ]
    return Rebuilt(new, tuple(variables), tuple(reused))


def _is_leaf(operation: keras.Operation, graph: Graph) -> bool:
    """Whether a model is called as one opaque operation."""
    return any(call.operation is operation for call in graph.calls)


def _assign(old: keras.Layer, new: keras.Layer, rule: Rule, state: LayerState) -> None:
    targets = rule.targets(new)
    held = {id(variable) for variable in targets.values()}
    forgotten = [variable.path for variable in new.weights if id(variable) not in held]
    if forgotten:
        raise RuntimeError(
            f"{type(rule).__name__} must name every variable of {type(old).__name__} in `axes`. "
            f"It leaves out {', '.join(forgotten)}"
        )
    for name, variable in targets.items():
        variable.assign(state.variables[name])
    restore_settings(old, new)
    for layer in all_layers(new):
        for key, value in vars(layer).items():
            if isinstance(value, keras.initializers.Constant) and np.ndim(value.value) > 0:
                setattr(layer, key, keras.initializers.Zeros())  # an array of the old shape


def _cut_pairs(old: keras.Layer, new: keras.Layer, rule: Rule, cut: Cut) -> list[VariablePair]:
    before, after = rule.targets(old), rule.targets(new)
    config = rule.read(old).config

    def cutter(name):
        return lambda array: rule.narrow(LayerState(config, {name: array}), cut).variables[name]

    return [
        VariablePair(variable, after[name], cutter(name))
        for name, variable in before.items()
        if name in after and isinstance(variable, keras.Variable)
    ]
