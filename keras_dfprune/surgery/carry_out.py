"""Carry out a unit merge on the weights of the layers around a group.

In front of a group its producer changes only for a `CentroidMerge`: kept units get weighted sums of
several. The new pre-activation of a kept unit is to be `z' = sum_i shares_i z_i + level`, where
`z_i = s_i y_i + t_i` and the producer returns `y_i = W_i x + b_i`. So its weights and bias become
`sum_i shares_i s_i (W_i, b_i) / s`, and the bias gains `(sum_i shares_i t_i + level - t) / s`.

Behind a group the consumers take over. With `y = scale h + shift` for what a consumer gets of unit
h, the kept rows of its kernel gain `coefficients @ (scale kernel)[removed] / scale[kept]`, and what
is constant goes to the bias.
"""

import numpy as np

from keras_dfprune.locate.groups import Group, Inlet, UnitGroup
from keras_dfprune.locate.head_groups import HeadGroup
from keras_dfprune.methods.heads import HeadMerge
from keras_dfprune.methods.merge import CentroidMerge, Removal, UnitMerge
from keras_dfprune.methods.weighted_sums import summed
from keras_dfprune.rules.kernels import ProducerRule
from keras_dfprune.rules.layer_state import LayerState
from keras_dfprune.rules.normalization import BatchNormalizationRule
from keras_dfprune.surgery.folding import WeightSets, fold_to_seam
from keras_dfprune.surgery.heads import map_heads
from keras_dfprune.surgery.weights import LayerStates, new_positions, take_rows


def carry_out(group: Group, merge: Removal, states: LayerStates) -> None:
    """Carry out a merge on the producer, where it changes, and on the consumers.

    Args:
        group: The group.
        merge: Its merge: a `HeadMerge` for dimensions of heads, a `UnitMerge` for units.
        states: The states to edit.

    Raises:
        ValueError: If the group can't take such a merge.
    """
    if isinstance(group, HeadGroup) and isinstance(merge, HeadMerge):
        map_heads(group, merge, states)
        return
    if not (isinstance(group, UnitGroup) and isinstance(merge, UnitMerge)):
        raise TypeError(f"A {type(merge).__name__} doesn't fit group '{group.name}'")
    _check_blocks(group, merge)
    if isinstance(merge, CentroidMerge):
        move_to_centroids(group, merge, states)
    absorb(group, merge, states)


def _check_blocks(group: UnitGroup, merge: UnitMerge) -> None:
    """Check that all blocks of a group lose equally many units, and stay by themselves.

    Raises:
        ValueError: If they don't.
    """
    if group.block_count == 1:
        return
    removed = np.bincount(group.blocks[merge.removed], minlength=group.block_count)
    if np.any(removed != removed[0]):
        raise ValueError(
            f"Each group of channels must lose equally many units of layer '{group.name}'. "
            f"Received: a merge that removes {removed.tolist()}"
        )
    mixed = merge.absorb(np.eye(group.units)) != 0
    if isinstance(merge, CentroidMerge):
        mixed |= merge.shares != 0
    if np.any(mixed & (group.blocks[merge.kept][:, None] != group.blocks)):
        raise ValueError(
            f"Units of layer '{group.name}' can only take over for units of their own group of "
            "channels. Received: a merge in which others do."
        )


def move_to_centroids(group: UnitGroup, merge: CentroidMerge, states: LayerStates) -> None:
    """Give the kept units of a group their new weight-sets. The removed ones stay as they are.

    Args:
        group: A group with `averages`.
        merge: Its merge.
        states: The states to edit.

    Raises:
        ValueError: If the group doesn't average, or has no bias for a constant.
    """
    if not group.averages:
        raise _no_weighted_sums(group, "it is frozen, or its units are joined or read in two ways")
    producer = group.producers[0]
    path, rule = producer.path, producer.rule
    nothing, units = np.zeros((group.units, 1)), np.arange(group.units)
    empty = {path: WeightSets(nothing[:, :0], nothing, nothing[:, 0])}
    scale, shift = fold_to_seam(group.seams[0], units, empty, states).front
    if np.any(scale == 0.0):
        raise _no_weighted_sums(group, "what follows multiplies some units by 0")
    state = averaged(rule, states[path], merge, scale)
    kept = merge.kept
    constant = np.zeros(group.units)
    constant[kept] = (merge.shares @ shift + merge.level - shift[kept]) / scale[kept]
    if producer.has_bias:
        state = rule.with_offset(state, constant)
    elif group.normalization is not None:
        _add_in_normalization(group, group.normalization.path, constant, states)
    elif np.any(constant):
        raise ValueError(
            f"Layer '{path}' has no bias for the `level` of a CentroidMerge. Give zeros where "
            "`GroupView.levels` is False."
        )
    states.edit(path, state)


def _no_weighted_sums(group: UnitGroup, reason: str) -> ValueError:
    return ValueError(
        f"The units of layer '{group.name}' can't get weighted sums of weight-sets: {reason}. "
        "Return another merge where `GroupView.averages` is False. If the layer has changed since "
        "it was planned for, make a new plan or apply it with reuse=True."
    )


def averaged(
    rule: ProducerRule, state: LayerState, merge: CentroidMerge, scale: np.ndarray
) -> LayerState:
    """Average the weights and biases of a producer's kept units.

    Args:
        rule: The producer's rule, which is `linear`.
        state: The producer's state.
        merge: The merge.
        scale: Float array, shape `(units,)`: `s`.
    """
    shares = merge.shares * scale / scale[merge.kept][:, None]
    for name, array in state.variables.items():
        for axis, role in rule.variable_axes(name, array.ndim):
            if role == "out":
                rows = np.moveaxis(array.astype(np.float64), axis, 0)
                sums = summed(shares, rows.reshape(len(rows), -1))
                rows[merge.kept] = sums.reshape(-1, *rows.shape[1:])
                state = state.with_variable(name, np.moveaxis(rows, 0, axis))
    return state


def _add_in_normalization(
    group: UnitGroup, path: str, constant: np.ndarray, states: LayerStates
) -> None:
    """Add a constant to each unit in the BatchNormalization behind a producer without bias."""
    (stage,) = (stage for stage in group.seams[0].selected if stage.call.path == path)
    offset = np.zeros(len(states[path].variables["moving_mean"]))
    offset[stage.features[group.seams[0].order][:, 0]] = constant
    states.edit(path, BatchNormalizationRule().with_offset(states[path], offset))


def absorb(group: UnitGroup, merge: UnitMerge, states: LayerStates) -> None:
    """Fold a merge into the group's consumers and record which units are kept.

    Args:
        group: The group.
        merge: Its merge.
        states: The states to edit.

    Raises:
        ValueError: If units take over that a consumer gets multiplied by 0.
    """
    inlets_of: dict[tuple[str, bool], list[Inlet]] = {}
    for inlet in group.edited_inlets:
        inlets_of.setdefault(inlet.kernels, []).append(inlet)
    before = {key: states.remaining_rows(inlets[0]) for key, inlets in inlets_of.items()}
    states.kept[group.name] = merge.kept
    for key, inlets in inlets_of.items():
        _fold_into_consumer(inlets, merge, states, before[key])


def _fold_into_consumer(
    inlets: list[Inlet], merge: UnitMerge, states: LayerStates, before: np.ndarray
) -> None:
    """Edit one consumer: rows of kept units gain, rows of removed units go.

    Args:
        inlets: All inlets of its call that the same kernels consume.
        merge: The merge of the group.
        states: The states to edit, with the units kept after the merge.
        before: Bool array, shape `(features,)`: the input features that remained before it.
    """
    path, rule = inlets[0].call.path, inlets[0].rule
    outgoing, after = rule.outgoing(states[path]), states.remaining_rows(inlets[0])
    wide = outgoing.reshape(len(outgoing), -1)
    narrow, constant = wide[after[before]], np.zeros(wide.shape[1])
    for inlet in inlets:
        scale, shift = states.scale_and_shift(inlet)
        old_rows, new_rows = (new_positions(mask)[inlet.columns] for mask in (before, after))
        for position in range(scale.shape[1]):
            rows = take_rows(wide, old_rows[:, position])
            gain, offset = _taken_over(path, merge, rows, scale[:, position], shift[:, position])
            narrow[new_rows[merge.kept, position]] += gain
            constant += offset
    shape = outgoing.shape[1:]
    states.edit(path, rule.with_outgoing(states[path], narrow.reshape(len(narrow), *shape)))
    constant = constant.reshape(shape).sum(axis=0)
    if np.any(constant):
        _add_offset(inlets[0], constant, states)


def _taken_over(
    path: str, merge: UnitMerge, rows: np.ndarray, scale: np.ndarray, shift: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return what the kept rows and the bias of a consumer gain at one position.

    Args:
        path: The consumer's path.
        merge: The merge.
        rows: Outgoing weights, shape `(units, outputs)`.
        scale: Float array, shape `(units,)`: the consumer gets `scale * unit + shift`.
        shift: Float array, shape `(units,)`.

    Returns:
        Two float64 arrays, shapes `(kept, outputs)` and `(outputs,)`.
    """
    scaled = rows if np.all(scale == 1) else scale[:, None] * rows
    gain, kept_scale = merge.taken_over(scaled), scale[merge.kept]
    if np.any(gain[kept_scale == 0]):
        raise ValueError(
            f"Units that layer '{path}' gets multiplied by 0 can't take over for others. Return a "
            "merge where only units of `GroupView.can_survive` do."
        )
    if not np.all(kept_scale == 1):
        gain /= np.where(kept_scale == 0, 1, kept_scale)[:, None]
    constant = merge.shift(scaled)
    if np.any(shift):
        constant = constant + shift[merge.removed] @ rows[merge.removed] - shift[merge.kept] @ gain
    return gain, constant


def _add_offset(inlet: Inlet, constant: np.ndarray, states: LayerStates) -> None:
    """Add a constant to a consumer's pre-activations, or to the normalization behind it."""
    if inlet.normalization is not None:
        path = inlet.normalization.path
        states.edit(path, BatchNormalizationRule().with_offset(states[path], constant))
    else:
        path = inlet.call.path
        states.edit(path, inlet.rule.with_offset(states[path], constant))
