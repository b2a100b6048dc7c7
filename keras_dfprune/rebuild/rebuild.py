"""Build the narrow model from the original and its cut arrays. The original doesn't change."""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np

from keras_dfprune.graph.copy_model import copy_model
from keras_dfprune.graph.further_state import copy_further_state
from keras_dfprune.graph.keras_private import all_layers, detached, functional_core
from keras_dfprune.graph.parts import parts_of, whole_config
from keras_dfprune.graph.recreate import (
    VariablePair,
    copy_state,
    is_copied_whole,
    recreate,
    restore_settings,
)
from keras_dfprune.locate.groups import cut_of, is_cut
from keras_dfprune.locate.locate import LocatedModel
from keras_dfprune.report.progress import SILENT, Progress
from keras_dfprune.rules.base import Rule
from keras_dfprune.rules.layer_state import Cut, LayerState
from keras_dfprune.surgery.weights import LayerStates


@dataclasses.dataclass(frozen=True, eq=False)
class Rebuilt:
    """Narrow model with its variables beside the original's.

    Attributes:
        model: The narrow model, not compiled.
        variables: Pairs for every variable that has a counterpart.
    """

    model: keras.Model
    variables: tuple[VariablePair, ...]


def rebuild(located: LocatedModel, states: LayerStates, progress: Progress = SILENT) -> Rebuilt:
    """Build the narrow model.

    Args:
        located: The original with its groups.
        states: The states after all merges, with the kept units of each group.
        progress: Shows how many layers are done.
    """
    graph, layers, tied = located.graph, located.layout.layers, located.layout.tied
    cuts = {path: cut_of(record, states.kept) for path, record in layers.items()}
    edited = {
        record.call.layer_path
        for path, record in layers.items()
        if is_cut(cuts[path]) or states.edited(path)
    }
    edits = {
        path: record.rule.narrow(states[path], cuts[path])
        for path, record in layers.items()
        if record.call.layer_path in edited
    }

    def remake(operation: keras.Operation) -> keras.Operation:
        path = graph.paths[id(operation)]
        if path in tied:
            return detached(operation)
        config = edits[path].config if path in edits else None
        return recreate(operation, whole_config(operation, config) if config else None)

    def edit_arguments(operation: keras.Operation, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        path = graph.paths[id(operation)]
        if path not in layers:
            return args, kwargs
        return layers[path].rule.narrow_arguments(args, kwargs, cuts[path])

    narrow, pairs = copy_model(located.model, remake, edit_arguments)
    variables: list[VariablePair] = []
    for old, new in progress.over("Rebuilding", pairs):
        path = graph.paths.get(id(old), "")
        if functional_core(old) is not None:
            new.trainable = old.trainable
        elif path in edits and isinstance(old, keras.Layer):
            new_parts = parts_of(new)
            for suffix, part in parts_of(old).items():
                rule, state = layers[path + suffix].rule, edits[path + suffix]
                _assign(part, new_parts[suffix], rule, state)
                variables += _cut_pairs(part, new_parts[suffix], rule, cuts[path + suffix])
            _restore_settings(old, new, cuts[path].outputs)
        elif is_copied_whole(old, new):
            copy_state(old, new)
            variables += _whole_pairs(old, new)
    return Rebuilt(narrow, tuple(variables))


def _assign(old: keras.Layer, new: keras.Layer, rule: Rule, state: LayerState) -> None:
    """Give a narrow layer, or a part of one, its arrays."""
    targets = rule.variables(new)
    assigned = {id(variable) for variable in targets.values()}
    forgotten = [variable.path for variable in new.weights if id(variable) not in assigned]
    if forgotten:
        raise RuntimeError(
            f"{type(rule).__name__} must name every variable of {type(old).__name__} in `axes`. "
            f"It leaves out {', '.join(forgotten)}"
        )
    for name, variable in targets.items():
        variable.assign(state.variables[name])


def _restore_settings(old: keras.Layer, new: keras.Layer, kept: np.ndarray | None) -> None:
    """Give a narrow layer the settings and the further state of the original layer."""
    copy_further_state(old, new, kept)
    restore_settings(old, new)
    for layer in all_layers(new):
        for key, value in vars(layer).items():
            # The array of such an initializer has the old shape.
            if isinstance(value, keras.initializers.Constant) and np.ndim(value.value) > 0:
                setattr(layer, key, keras.initializers.Zeros())


def _whole_pairs(old: keras.Layer, new: keras.Layer) -> list[VariablePair]:
    """Pair the variables of a layer that keeps its width."""
    pairs = zip(old.variables, new.variables, strict=True)
    return [VariablePair(before, after, lambda array: array) for before, after in pairs]


def _cut_pairs(old: keras.Layer, new: keras.Layer, rule: Rule, cut: Cut) -> list[VariablePair]:
    """Pair the variables of a layer that was cut."""
    before, after = rule.variables(old), rule.variables(new)
    config = rule.read(old).config

    def cutter(name: str) -> Callable[[np.ndarray], np.ndarray]:
        def narrow(array: np.ndarray) -> np.ndarray:
            array = rule.narrow(LayerState(config, {name: array}), cut).variables[name]
            roles = {role for _, role in rule.variable_axes(name, array.ndim)}
            # Rotated dimensions have no counterparts: the optimizer starts anew for them.
            return np.zeros_like(array) if roles & cut.dimensions.keys() else array

        return narrow

    return [
        VariablePair(variable, after[name], cutter(name))
        for name, variable in before.items()
        if name in after and isinstance(variable, keras.Variable)
    ]
