"""Find the seam between a group's units and each of their consumers.

The seam lies behind the last non-linear operation. In front of it units are only selected; behind
it the merge is carried on to the consumer.
"""

from collections.abc import Mapping, Sequence

import keras
import numpy as np

from keras_dfprune.graph.calls import Call
from keras_dfprune.locate.followed_units import Arrival, FollowedUnits, title
from keras_dfprune.locate.groups import Inlet, SeamFeatures
from keras_dfprune.rules.base import Barrier
from keras_dfprune.rules.effects import Affine, Effect, Join, Nonlinear, is_identity
from keras_dfprune.rules.features import Piece, Stage
from keras_dfprune.rules.kernels import KernelRule, ProducerRule
from keras_dfprune.rules.registry import find_rule


def find_inlet(
    followed: FollowedUnits, arrival: Arrival, units: int, *, select_all: bool = False
) -> Inlet:
    """Split the layers between a group's producers and one consumer at the seam.

    Args:
        followed: The units of the graph.
        arrival: The call of the consumer, with the units that arrive.
        units: Number of units of the group.
        select_all: Whether layers that are all affine lie before the seam. By default they lie
            behind it.

    Raises:
        Barrier: If the group has to stay whole. The message is the reason.
    """
    call, rule, piece = arrival.call, arrival.rule, arrival.piece
    try:
        order = piece.by_unit(units)
    except ValueError as error:
        raise Barrier(f"on the way to {call.path} {error}") from error
    effects = followed.effects
    stages = [stage for stage in piece.stages if not is_identity(effects[stage.call.path])]
    spreads = rule.spreads(call.operation)
    adds_zeros = spreads or rule.pads(call.operation)
    paddings = piece.paddings + adds_zeros
    seam = _seam_position(effects, stages, paddings, select_all)
    selected, carried = tuple(stages[:seam]), tuple(stages[seam:])
    _check_columns(piece, order, call)
    _check_positions(effects, selected, order)
    before_seam = selected[-1].paddings if selected else 0
    padded = paddings > before_seam
    return Inlet(
        call=call,
        rule=rule,
        piece=piece,
        order=order,
        selected=selected,
        carried=carried,
        normalization=None if spreads else normalization_behind(followed, call, padded),
        seam=_seam_features(followed, piece, selected, order),
        padded=padded,
        recurrent=arrival.recurrent,
    )


def _seam_position(
    effects: Mapping[str, Effect], stages: Sequence[Stage], paddings: int, select_all: bool
) -> int:
    """Return the number of stages before the seam.

    They are all up to the last that can't be carried: that isn't affine, that treats each site in
    its own way, or that adds a constant in front of zero padding, where the constant ends.

    Args:
        effects: What an operation does to each unit, by its path.
        stages: The stages between the producers and a consumer.
        paddings: How often zeros are put beside the units on the way into the consumer.
        select_all: Whether to take all stages if each could be carried.
    """

    def can_be_carried(stage: Stage) -> bool:
        effect = effects[stage.call.path]
        if stage.sites > 1 or not isinstance(effect, Affine):
            return False
        return paddings == stage.paddings or not np.any(effect.shift)

    in_front = [position for position, stage in enumerate(stages) if not can_be_carried(stage)]
    if in_front:
        return in_front[-1] + 1
    return len(stages) if select_all else 0


def _seam_features(
    followed: FollowedUnits, piece: Piece, selected: Sequence[Stage], order: np.ndarray
) -> SeamFeatures:
    if selected:
        tensor, columns = selected[-1].call.outputs[0], selected[-1].features[order]
    else:
        first = piece.stages[0]
        tensor, columns = first.call.outputs[0], first.features[order]
    return SeamFeatures(tensor, followed.streams[tensor].axis, columns)


def _check_columns(piece: Piece, order: np.ndarray, call: Call) -> None:
    """Check that a consumer doesn't see the columns of one unit side by side.

    A Bidirectional layer returns each of its units twice, and its columns are never spread.

    Raises:
        Barrier: If it does.
    """
    rules = [stage.rule for stage in piece.history()]
    if any(isinstance(rule, ProducerRule) and rule.own_rows is not None for rule in rules):
        return
    for branch in piece.stages[0].branches:
        _check_columns(branch, branch.by_unit(len(order)), call)
    columns = piece.stages[0].features[order]
    if np.any(columns != columns[:, :1]):
        raise Barrier(
            f"a Reshape spreads its units over positions, but not on the way to {call.path}"
        )


def _check_positions(
    effects: Mapping[str, Effect], stages: Sequence[Stage], order: np.ndarray
) -> None:
    """Check that no stage before the seam scales the positions of a unit differently.

    Raises:
        Barrier: If one does.
    """
    for stage in stages:
        for branch in stage.branches:
            _check_positions(effects, branch.stages, branch.by_unit(len(order)))
        features = stage.features[order]
        if isinstance(effects[stage.call.path], Affine) and np.any(features != features[:, :1]):
            raise Barrier(f"{title(stage.call)} treats each position of a unit in its own way")


def find_seams(
    effects: Mapping[str, Effect], inlets: Sequence[Inlet]
) -> tuple[tuple[Inlet, ...], tuple[tuple[int, ...], ...]]:
    """Find the inlets that see the same values of the units, and so share a seam.

    Args:
        effects: What an operation does to each unit, by its path.
        inlets: All inlets of a group.

    Returns:
        The first inlet of each seam, and the positions in them of each inlet's seams.

    Raises:
        Barrier: If a shared consumer would have to be cut in two ways.
    """
    numbers: dict[tuple, int] = {}
    seams: list[Inlet] = []
    seam_numbers = []
    first_of: dict[tuple[str, bool], Inlet] = {}
    for inlet in inlets:
        own = []
        for at_site in inlet.at_each_site():
            signature = _signature(effects, at_site.piece, at_site.selected, at_site.order)
            if signature not in numbers:
                numbers[signature] = len(seams)
                seams.append(at_site)
            own.append(numbers[signature])
        seam_numbers.append(tuple(dict.fromkeys(own)))
        first = first_of.setdefault(inlet.kernels, inlet)  # A shared kernel is edited once.
        if not _are_same(first.carried, inlet.carried):
            raise Barrier(
                f"it feeds {inlet.call.path}, a shared consumer, through layers that scale the "
                "units in different ways"
            )
    return tuple(seams), tuple(seam_numbers)


def _are_same(first: Sequence[Stage], second: Sequence[Stage]) -> bool:
    if len(first) != len(second):
        return False
    return all(one.same_as(other) for one, other in zip(first, second, strict=True))


# Two activations count as the same function if they agree on these values: closely spaced around
# zero, and far outside.
_GRID = np.concatenate([np.linspace(-32, 32, 513), [-1e6, -1e3, -100, 100, 1e3, 1e6]])


def _signature(
    effects: Mapping[str, Effect], piece: Piece, stages: Sequence[Stage], order: np.ndarray
) -> tuple:
    """Describe what each unit goes through up to the seam; equal where the values are equal."""
    first = piece.stages[0]
    columns = first.features[order].min(axis=1)  # the same at all positions, or of one direction
    signature: list = [] if first.branches else [first.call.path, columns.tobytes()]
    for stage in stages:
        effect = effects[stage.call.path]
        if isinstance(effect, Join):
            signature.append(type(stage.call.operation).__name__)
            for branch in stage.branches:
                branch_order = branch.by_unit(len(order))
                signature.append(_signature(effects, branch, branch.stages, branch_order))
        elif isinstance(effect, Nonlinear) and effect.coordinates is None:
            signature.append(effect.activation.values(_GRID.astype(np.float32)).tobytes())
        else:
            features = np.unique(stage.features[order], axis=1)
            signature.append((stage.call.path, stage.paddings, features.tobytes()))
    return tuple(signature)


def normalization_behind(followed: FollowedUnits, call: Call, padded: bool) -> Call | None:
    """Find the BatchNormalization that can take an offset for a layer.

    It must be the only layer that sees the outputs of this one.

    Args:
        followed: The units of the graph.
        call: The call of the layer.
        padded: Whether zeros stand beside the units, so that a bias can't take the offset exactly.

    Returns:
        The call of the BatchNormalization. None if there is none or it isn't needed.
    """
    rule = find_rule(call.operation)
    if not isinstance(rule, KernelRule) or not rule.returns_preactivations(call.operation):
        return None
    needed = padded or not rule.has_bias(call.operation)
    if not needed or len(followed.records[call.path]) != 1:
        return None
    output = call.outputs[0]
    users = followed.users.get(output, [])
    # An output of the model would miss the offset.
    if output in followed.outputs or len(users) != 1:
        return None
    user = users[0]
    if type(user.operation) is not keras.layers.BatchNormalization:
        return None
    is_affine = isinstance(followed.effects.get(user.path), Affine)
    return user if is_affine and len(followed.records[user.path]) == 1 else None
