"""The original at its original widths, with the units that a plan removes cut off: the wide twin.

What stands in for them is worked out once more, by substitution instead of as the rebuild does it:
with `h = R h_kept + o` and `y = scale h + shift`, `kernel' = (R^T (scale kernel)) / scale`.
"""

import keras
import numpy as np

from keras_dfprune.graph.calls import Graph
from keras_dfprune.graph.copy_model import copy_model
from keras_dfprune.graph.keras_private import detached
from keras_dfprune.graph.recreate import copy_state, is_reused, recreate
from keras_dfprune.locate.groups import Inlet, Layout, UnitGroup
from keras_dfprune.methods.merge import CentroidMerge, SurvivorMerge, UnitMerge
from keras_dfprune.report.progress import SILENT, Progress
from keras_dfprune.rules.effects import Affine
from keras_dfprune.rules.features import Stage
from keras_dfprune.rules.normalization import BatchNormalizationRule
from keras_dfprune.surgery.weights import consumers


def wide_copy(
    model: keras.Model, graph: Graph, layout: Layout, progress: Progress = SILENT
) -> tuple[keras.Model, dict[str, keras.Operation]]:
    """A copy at full width, consumers with a bias to edit, and its operations by path."""
    inlets = [inlet for group in layout.groups.values() for inlet in group.inlets]
    consuming = {inlet.call.path: inlet for inlet in inlets}

    def remake(operation):
        path = graph.paths[id(operation)]
        if path in layout.tied:
            return detached(operation)
        inlet = consuming.get(path)
        if inlet is None:
            return recreate(operation)
        state = inlet.rule.read(operation)
        if inlet.normalization is None and not inlet.rule.has_bias(operation):
            state = inlet.rule.with_offset(state, np.zeros(1))
        return recreate(operation, state.config)

    twin, pairs = copy_model(model, remake)
    operations = {}
    for old, new in progress.over("Verifying", pairs):
        path = graph.paths.get(id(old))
        operations[path] = new
        if not isinstance(old, keras.Layer) or isinstance(new, keras.Model):
            continue
        if path in consuming and not is_reused(old, new):
            rule = consuming[path].rule
            for name, value in rule.read(old).variables.items():
                rule.targets(new)[name].assign(value)
        elif not is_reused(old, new):
            copy_state(old, new)
    return twin, operations


def edit_twin(
    graph: Graph,
    layout: Layout,
    merges: dict[str, UnitMerge],
    operations: dict[str, keras.Operation],
) -> None:
    """Cuts the removed units off in a wide copy and puts their replacements in."""
    for name, merge in merges.items():
        group = layout.groups[name]
        if isinstance(merge, CentroidMerge):
            _edit_producer(group, merge, operations)
        for inlet in consumers(group):
            _edit_consumer(group, inlet, merge, operations)


def _edit_producer(group: UnitGroup, merge: CentroidMerge, operations) -> None:
    """Puts the weighted sums into a producer's kept units, unit by unit."""
    inlet, rule = group.seams[0], group.producers[0].rule
    bent = [place for place, stage in enumerate(inlet.selected) if not _is_affine(stage)]
    front = inlet.selected[: bent[0]] if bent else inlet.selected
    scale, shift = (part[:, 0] for part in _affine(front, inlet.order, operations))
    layer = operations[group.producers[0].path]
    targets, state = rule.targets(layer), rule.read(layer)
    before = {name: np.asarray(value, np.float64) for name, value in state.variables.items()}
    after = {name: value.copy() for name, value in before.items()}
    for place, unit in enumerate(merge.kept):
        members = np.flatnonzero(merge.shares[place])
        share = merge.shares[place, members]
        factor = share * scale[members] / scale[unit]
        for name, value in before.items():
            for axis, role in rule.variable_axes(name, value.ndim):
                if role == "out":
                    mean = np.tensordot(factor, np.take(value, members, axis), axes=(0, axis))
                    np.moveaxis(after[name], axis, 0)[unit] = mean
        constant = (share @ shift[members] + merge.level[place] - shift[unit]) / scale[unit]
        if "bias" in after:
            after["bias"][unit] += constant
        elif group.normalization is not None:
            feature = front[0].features[inlet.order][unit, 0]
            mean = operations[group.normalization.path].moving_mean
            mean.assign(mean.numpy() - constant * (np.arange(mean.shape[0]) == feature))
    for name, value in after.items():
        targets[name].assign(value)


def _is_affine(stage: Stage) -> bool:
    effect = stage.rule.effect(stage.call, stage.rule.read(stage.call.operation))
    return isinstance(effect, Affine)


def _edit_consumer(group: UnitGroup, inlet: Inlet, merge: UnitMerge, operations) -> None:
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
    kernel, constant = kernel.reshape(outgoing.shape), constant.reshape(outgoing.shape[1:])
    constant = constant.sum(axis=0)
    targets = inlet.rule.targets(layer)
    for name, value in inlet.rule.with_outgoing(state, kernel).variables.items():
        targets[name].assign(value)
    if inlet.normalization is not None:
        mean = operations[inlet.normalization.path].moving_mean
        mean.assign(mean.numpy() - constant)
    elif np.any(constant):
        bias = targets.get("bias")
        if bias is not None and bias.shape == constant.shape:
            bias.assign(np.asarray(bias.numpy(), np.float64) + constant)
        else:  # several biases; that an offset is right there is shown by units that are constant
            state = inlet.rule.with_offset(inlet.rule.read(layer), constant)
            for name, value in state.variables.items():
                targets[name].assign(value)


def _sum(weights: np.ndarray, rows: np.ndarray) -> np.ndarray | float:
    """`weights @ rows`, in float64; most often there is nothing to add."""
    return weights @ rows if np.any(weights) else 0.0


def _substitute(merge: UnitMerge, outgoing: np.ndarray) -> np.ndarray:
    """`R^T outgoing`, shape `(kept, outputs)`: `h = R h_kept + o` writes all units in the kept."""
    if isinstance(merge, CentroidMerge):
        return merge.coefficients @ outgoing
    if isinstance(merge, SurvivorMerge):
        result = outgoing[merge.kept].astype(np.float64)
        for unit, position, factor in zip(merge.removed, merge.survivor, merge.scale, strict=True):
            if position >= 0:
                result[position] += factor * outgoing[unit]
        return result
    substitution = np.zeros((len(merge.kept), len(outgoing)))
    substitution[np.arange(len(merge.kept)), merge.kept] = 1
    substitution[:, merge.removed] = merge.coefficients
    return substitution @ outgoing


def _affine(stages, order: np.ndarray, operations) -> tuple[np.ndarray, np.ndarray]:
    """Scale and shift of some layers, worked out anew: two arrays, shape `(units, positions)`."""
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
            slope = np.broadcast_to(effect.scale, max(effect.scale.size, features.max() + 1))
            at_zero = np.broadcast_to(effect.shift, len(slope))[features]
            slope = slope[features]
        scale, shift = scale * slope, shift * slope + at_zero
    return scale, shift
