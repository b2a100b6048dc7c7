"""Build the wide twin: a copy of the original at its original widths, removed units cut off.

The replacement of the removed units is worked out by other code than the rebuild's, by
substitution: with `h = R h_kept + o` and `y = scale h + shift`, the kernel of a consumer becomes
`kernel' = (R^T (scale kernel)) / scale`.
"""

from collections.abc import Mapping, Sequence

import keras
import numpy as np

from keras_dfprune.graph.copy_model import copy_model
from keras_dfprune.graph.further_state import copy_further_state
from keras_dfprune.graph.keras_private import detached
from keras_dfprune.graph.parts import parts_of, whole_config
from keras_dfprune.graph.recreate import copy_state, is_copied_whole, recreate
from keras_dfprune.locate.groups import Inlet, Layout, UnitGroup
from keras_dfprune.locate.head_groups import HeadGroup
from keras_dfprune.locate.locate import LocatedModel
from keras_dfprune.methods.heads import HeadMerge
from keras_dfprune.methods.merge import (
    CentroidMerge,
    LinearMerge,
    Removal,
    SurvivorMerge,
    UnitMerge,
)
from keras_dfprune.report.progress import SILENT, Progress
from keras_dfprune.rules.effects import Affine
from keras_dfprune.rules.features import Stage
from keras_dfprune.rules.normalization import BatchNormalizationRule

Operations = dict[str, keras.Operation]  # by path


def wide_copy(located: LocatedModel, progress: Progress = SILENT) -> tuple[keras.Model, Operations]:
    """Copy a model at full width, with a bias in every consumer that may need one.

    Args:
        located: The original with its groups.
        progress: Shows how many layers are done.

    Returns:
        The copy, and its operations by path.
    """
    graph, layout = located.graph, located.layout
    inlet_of = {
        inlet.call.path: inlet
        for group in layout.groups.values()
        for inlet in group.inlets
        if not inlet.recurrent  # takes no constant, so it needs no bias
    }

    def remake(operation: keras.Operation) -> keras.Operation:
        path = graph.paths[id(operation)]
        if path in layout.tied:
            return detached(operation)
        if path not in inlet_of:
            return recreate(operation)
        inlet = inlet_of[path]
        state = inlet.rule.read(inlet.call.operation)
        if inlet.normalization is None and not inlet.rule.has_bias(inlet.call.operation):
            state = inlet.rule.with_offset(state, np.zeros(1))
        return recreate(operation, whole_config(operation, state.config))

    twin, pairs = copy_model(located.model, remake)
    operations: Operations = {}
    for old, new in progress.over("Verifying", pairs):
        path = graph.paths.get(id(old))
        new_parts = parts_of(new)
        if path is not None:
            operations |= {path + suffix: part for suffix, part in new_parts.items()}
        if not is_copied_whole(old, new):
            continue
        if path in inlet_of:
            for suffix, part in parts_of(old).items():
                rule = layout.layers[path + suffix].rule
                variables = rule.variables(new_parts[suffix])
                for name, value in rule.read(part).variables.items():
                    variables[name].assign(value)
            copy_further_state(old, new)
        else:
            copy_state(old, new)
    return twin, operations


def edit_twin(layout: Layout, merges: Mapping[str, Removal], operations: Operations) -> None:
    """Cut the removed units off in a wide copy and put their replacements in.

    Args:
        layout: The original's groups.
        merges: The merge of each pruned group, in the order in which they were carried out.
        operations: The copy's operations by path.
    """
    for name, merge in merges.items():
        if isinstance(merge, HeadMerge):
            _project_heads(layout.heads[name], merge, operations)
            continue
        if not isinstance(merge, UnitMerge):
            raise TypeError(f"A {type(merge).__name__} says nothing of how others take over")
        group = layout.groups[name]
        if isinstance(merge, CentroidMerge):
            _edit_producer(group, merge, operations)
        for inlet in group.edited_inlets:
            _edit_consumer(inlet, merge, operations)


def _project_heads(group: HeadGroup, merge: HeadMerge, operations: Operations) -> None:
    """Project the left side of each head at its full width, around the mean that is kept."""
    variables = group.rule.variables(operations[group.path])
    left = "value" if group.kind == group.rule.output_kind else "query"
    kernel, bias = (variables.get(f"{left}_{part}") for part in ("kernel", "bias"))
    if kernel is None:
        raise TypeError(f"'{group.path}' has no {left} kernel")
    values = np.asarray(kernel.numpy(), np.float64)
    projections = [into @ back.T for into, back in zip(merge.into, merge.back, strict=True)]
    for head, projection in enumerate(projections):
        values[:, head] = values[:, head] @ projection
    kernel.assign(values)
    if bias is not None:
        rows = zip(np.asarray(bias.numpy(), np.float64), merge.level, projections, strict=True)
        bias.assign(np.stack([level + (row - level) @ to for row, level, to in rows]))


def _edit_producer(group: UnitGroup, merge: CentroidMerge, operations: Operations) -> None:
    """Put the weighted sums into a producer's kept units, unit by unit."""
    inlet, rule = group.seams[0], group.producers[0].rule
    front = _affine_front(inlet.selected)
    scale, shift = (part[:, 0] for part in _affine(front, inlet.order, operations))
    layer = operations[group.producers[0].path]
    targets, state = rule.variables(layer), rule.read(layer)
    before = {name: np.asarray(value, np.float64) for name, value in state.variables.items()}
    after = {name: value.copy() for name, value in before.items()}
    for position, unit in enumerate(merge.kept):
        members = np.flatnonzero(merge.shares[position])
        share = merge.shares[position, members]
        factor = share * scale[members] / scale[unit]
        for name, value in before.items():
            for axis, role in rule.variable_axes(name, value.ndim):
                if role == "out":
                    mean = np.tensordot(factor, np.take(value, members, axis), axes=(0, axis))
                    np.moveaxis(after[name], axis, 0)[unit] = mean
        constant = (share @ shift[members] + merge.level[position] - shift[unit]) / scale[unit]
        if "bias" in after:
            after["bias"][unit] += constant
        elif group.normalization is not None:
            feature = front[0].features[inlet.order][unit, 0]
            mean = operations[group.normalization.path].moving_mean
            mean.assign(mean.numpy() - constant * (np.arange(mean.shape[0]) == feature))
    for name, value in after.items():
        targets[name].assign(value)


def _affine_front(stages: Sequence[Stage]) -> list[Stage]:
    """Return the stages in front of the first non-linear one."""
    front = []
    for stage in stages:
        effect = stage.rule.effect(stage.call, stage.rule.read(stage.call.operation))
        if not isinstance(effect, Affine):
            break
        front.append(stage)
    return front


def _edit_consumer(inlet: Inlet, merge: UnitMerge, operations: Operations) -> None:
    """Zero the rows of removed units in a consumer and replace the rows of kept ones."""
    layer = operations[inlet.call.path]
    state = inlet.rule.read(layer)
    outgoing = inlet.rule.outgoing(state)
    kernel = np.array(outgoing).reshape(len(outgoing), -1)
    scale, shift = _affine(inlet.carried, inlet.order, operations)
    constant = np.zeros(kernel.shape[1])
    for position in range(inlet.columns.shape[1]):
        rows = inlet.columns[:, position]
        factor, extra = scale[:, position][:, None], shift[:, position]
        before = kernel[rows]
        scaled = before if np.all(factor == 1) else factor * before
        constant += _sum(extra, before) + _sum(merge.offset, scaled)
        after, factor = _substitute(merge, scaled), factor[merge.kept]
        idle = factor[:, 0] == 0
        after[idle] = before[merge.kept[idle]]
        after /= np.where(factor == 0, 1, factor)
        constant -= _sum(extra[merge.kept], after)
        kernel[rows[merge.removed]], kernel[rows[merge.kept]] = 0, after
    offset = constant.reshape(outgoing.shape[1:]).sum(axis=0)
    targets = inlet.rule.variables(layer)
    edited = inlet.rule.with_outgoing(state, kernel.reshape(outgoing.shape)).variables
    for name, value in edited.items():
        targets[name].assign(value)
    if inlet.normalization is not None:
        mean = operations[inlet.normalization.path].moving_mean
        mean.assign(mean.numpy() - offset)
    elif np.any(offset):
        bias = targets.get("bias")
        if bias is not None and bias.shape == offset.shape:
            bias.assign(np.asarray(bias.numpy(), np.float64) + offset)
        else:  # Several biases: tests with constant units show that the rule's offset is right.
            state = inlet.rule.with_offset(inlet.rule.read(layer), offset)
            for name, value in state.variables.items():
                targets[name].assign(value)


def _sum(weights: np.ndarray, rows: np.ndarray) -> np.ndarray | float:
    """Return `weights @ rows` in float64; 0 without a product if all weights are 0."""
    return weights @ rows if np.any(weights) else 0.0


def _substitute(merge: UnitMerge, outgoing: np.ndarray) -> np.ndarray:
    """Return `R^T outgoing`, shape `(kept, outputs)`, where `h = R h_kept + o`."""
    if isinstance(merge, CentroidMerge):
        return merge.coefficients @ outgoing
    if isinstance(merge, SurvivorMerge):
        result = outgoing[merge.kept].astype(np.float64)
        for unit, position, factor in zip(merge.removed, merge.survivor, merge.scale, strict=True):
            if position >= 0:
                result[position] += factor * outgoing[unit]
        return result
    if not isinstance(merge, LinearMerge):
        raise TypeError(f"No substitution is known for a {type(merge).__name__}")
    substitution = np.zeros((len(merge.kept), len(outgoing)))
    substitution[np.arange(len(merge.kept)), merge.kept] = 1
    substitution[:, merge.removed] = merge.coefficients
    return substitution @ outgoing


def _affine(
    stages: Sequence[Stage], order: np.ndarray, operations: Operations
) -> tuple[np.ndarray, np.ndarray]:
    """Work out the scale and shift of some stages: two arrays, shape `(units, positions)`."""
    scale, shift = np.ones(order.shape), np.zeros(order.shape)
    for stage in stages:
        features = stage.features[order]
        layer = operations[stage.call.path]
        if isinstance(stage.rule, BatchNormalizationRule):
            gamma = 1.0 if layer.gamma is None else layer.gamma.numpy()[features]
            beta = 0.0 if layer.beta is None else layer.beta.numpy()[features]
            spread = np.sqrt(layer.moving_variance.numpy().astype(np.float64) + layer.epsilon)
            slope = gamma / spread[features]
            at_zero = beta - slope * layer.moving_mean.numpy()[features]
        else:
            effect = stage.rule.effect(stage.call, stage.rule.read(stage.call.operation))
            if not isinstance(effect, Affine):
                raise TypeError(f"{stage.call.path} isn't affine")
            slope = np.broadcast_to(effect.scale, max(effect.scale.size, features.max() + 1))
            at_zero = np.broadcast_to(effect.shift, len(slope))[features]
            slope = slope[features]
        scale, shift = scale * slope, shift * slope + at_zero
    return scale, shift
