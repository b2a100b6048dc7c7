"""A centroid merge into the producer of a group: kept units get weighted sums of several.

The new pre-activation of a kept unit is to be `z' = sum_i shares_i z_i + c`, where
`z_i = s_i y_i + t_i` and the producer returns `y_i = W_i x + b_i`. So its weights and bias become
`sum_i shares_i s_i (W_i, b_i) / s`, and `(sum_i shares_i t_i + c - t) / s` is added to the bias.
"""

import numpy as np

from keras_dfprune.locate.groups import Inlet, UnitGroup
from keras_dfprune.methods.merge import CentroidMerge, UnitMerge
from keras_dfprune.methods.weighted_sums import summed
from keras_dfprune.rules.base import UnitRule
from keras_dfprune.rules.layer_state import LayerState
from keras_dfprune.rules.normalization import BatchNormalizationRule
from keras_dfprune.surgery.folding import WeightSets, select
from keras_dfprune.surgery.weights import LayerStates, consumers, counted, of_units, picked


def carry_out(group: UnitGroup, merge: UnitMerge, states: LayerStates) -> None:
    """Makes a merge: the kept units' own weights first, where they change, then the consumers'."""
    if isinstance(merge, CentroidMerge):
        move_to_centroids(group, merge, states)
    absorb(group, merge, states)


def move_to_centroids(group: UnitGroup, merge: CentroidMerge, states: LayerStates) -> None:
    """Gives the kept units of a group their new weight-sets; the removed ones stay as they are.

    Args:
        group: A group that `averages`.
        merge: Its merge.
        states: The states to edit.

    Raises:
        ValueError: If the group doesn't average, or a constant has no place.
    """
    if not group.averages:
        raise ValueError(
            _refused(group, "it is frozen, or its units are joined or read in two ways")
        )
    producer = group.producers[0]
    path, rule = producer.path, producer.rule
    nothing = {path: WeightSets(np.zeros((group.units, 0)), np.zeros((group.units, 1)))}
    scale, shift = select(group.seams[0], nothing, states).front
    if np.any(scale == 0.0):
        raise ValueError(_refused(group, "what follows multiplies some units by 0"))
    state = averaged(rule, states[path], merge, scale)
    constant = np.zeros(group.units)
    constant[merge.kept] = (merge.shares @ shift + merge.level - shift[merge.kept]) / scale[
        merge.kept
    ]
    if rule.has_bias(producer.call.operation):
        state = rule.with_offset(state, constant)
    elif group.normalization is not None:
        place = group.normalization.path
        (stage,) = [one for one in group.seams[0].selected if one.call.path == place]
        spread = np.zeros(len(states[place].variables["moving_mean"]))
        spread[of_units(stage, group.seams[0].order)] = constant
        states.edit(place, BatchNormalizationRule().with_offset(states[place], spread))
    elif np.any(constant):
        raise ValueError(
            f"Layer '{path}' has no bias for the `level` of a CentroidMerge. Give zeros where "
            "`GroupView.levels` is False."
        )
    states.edit(path, state)


def _refused(group: UnitGroup, reason: str) -> str:
    return (
        f"The units of layer '{group.name}' can't get weighted sums of weight-sets: {reason}. "
        "Return another merge where `GroupView.averages` is False; if the layer has changed since "
        "it was planned for, make a new plan."
    )


def averaged(
    rule: UnitRule, state: LayerState, merge: CentroidMerge, scale: np.ndarray
) -> LayerState:
    """A producer's state with the weights and biases of the kept units averaged.

    Args:
        rule: Its rule, which is `linear`.
        state: Its state.
        merge: The merge.
        scale: Float array, shape `(units,)`: `s`.
    """
    shares = merge.shares * scale / scale[merge.kept][:, None]
    for name, array in state.variables.items():
        for axis, role in rule.variable_axes(name, array.ndim):
            if role == "out":
                rows = np.moveaxis(array.astype(np.float64), axis, 0)
                new = summed(shares, rows.reshape(len(rows), -1))
                rows[merge.kept] = new.reshape(-1, *rows.shape[1:])
                state = state.with_variable(name, np.moveaxis(rows, 0, axis))
    return state


def absorb(group: UnitGroup, merge: UnitMerge, states: LayerStates) -> None:
    """Folds a merge into the group's consumers and records which units are kept.

    With `y = scale h + shift` what a consumer gets of a unit, the kept rows gain
    `coefficients @ (scale kernel)[removed] / scale[kept]`, and what is constant goes to the bias.

    Args:
        group: The group.
        merge: Its merge.
        states: The states to edit.
    """
    by_path: dict[str, list[Inlet]] = {}
    for inlet in consumers(group):
        by_path.setdefault(inlet.call.path, []).append(inlet)
    before = {path: states.left(path) for path in by_path}
    states.kept[group.name] = merge.kept
    for path, inlets in by_path.items():
        _take_over(inlets, merge, states, before[path])


def _take_over(
    inlets: list[Inlet], merge: UnitMerge, states: LayerStates, left: np.ndarray
) -> None:
    """Edits one consumer: rows of kept units gain, those of removed ones go.

    Args:
        inlets: All inlets of its call.
        merge: The merge of the group.
        states: The states to edit, with what is kept after the merge.
        left: Bool array, shape `(features,)`: the input features that were left before it.
    """
    path, rule = inlets[0].call.path, inlets[0].rule
    outgoing = rule.outgoing(states[path])
    wide, stays = outgoing.reshape(len(outgoing), -1), states.left(path)
    narrow, constant = wide[stays[left]], np.zeros(wide.shape[1])
    for inlet in inlets:
        scale, shift = states.carried(inlet)
        rows, places = (counted(some)[inlet.columns].T for some in (left, stays))
        for row, place, factor, extra in zip(rows, places, scale.T, shift.T, strict=True):
            before = picked(wide, row)
            even, shifted = np.all(factor == 1), np.any(extra)
            scaled = before if even else factor[:, None] * before
            constant += merge.shift(scaled)
            if shifted:
                constant += extra[merge.removed] @ before[merge.removed]
            for positions, gain in merge.gains(scaled):
                heirs = merge.kept[positions]
                if not even:
                    alive = factor[heirs] != 0
                    if np.any(gain[~alive]):
                        raise ValueError(
                            f"Units that layer '{path}' gets multiplied by 0 can't take over for "
                            "others. Return a merge where only units of `GroupView.can_survive` do."
                        )
                    gain[alive] /= factor[heirs][alive, None]
                if shifted:
                    constant -= extra[heirs] @ gain
                narrow[place[heirs]] += gain
    shape = outgoing.shape[1:]
    states.edit(path, rule.with_outgoing(states[path], narrow.reshape(len(narrow), *shape)))
    constant = constant.reshape(shape).sum(axis=0)
    if np.any(constant):
        _place(inlets[0], constant, states)


def _place(inlet: Inlet, constant: np.ndarray, states: LayerStates) -> None:
    if inlet.normalization is not None:
        path = inlet.normalization.path
        states.edit(path, BatchNormalizationRule().with_offset(states[path], constant))
    else:
        path = inlet.call.path
        states.edit(path, inlet.rule.with_offset(states[path], constant))
