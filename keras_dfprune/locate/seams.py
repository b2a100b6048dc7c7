"""The ways of a group's units to its consumers, each cut in two at its seam.

The seam stands behind the last non-linear operation: up to it units are selected, behind it the
merge is carried on.
"""

import keras
import numpy as np

from keras_dfprune.graph.calls import Call
from keras_dfprune.locate.follow_units import Walk, title
from keras_dfprune.locate.groups import Inlet
from keras_dfprune.rules import registry
from keras_dfprune.rules.base import Barrier, UnitRule
from keras_dfprune.rules.effects import Affine, Join, Nonlinear, is_identity
from keras_dfprune.rules.features import Piece


def find_inlet(
    walk: Walk, consumer: Call, rule: UnitRule, piece: Piece, units: int, fold: bool = False
) -> Inlet:
    """One way of a group's units to a consumer.

    Raises:
        Barrier: If the group has to stay whole; the message is the reason.
    """
    try:
        order = piece.by_unit(units)
    except ValueError as error:
        raise Barrier(f"on the way to {consumer.path} {error}") from error
    stages = [stage for stage in piece.stages if not is_identity(walk.effects[stage.call.path])]
    bends = [not isinstance(walk.effects[stage.call.path], Affine) for stage in stages]
    seam = len(bends) - bends[::-1].index(True) if True in bends else fold * len(stages)
    selected, carried = tuple(stages[:seam]), tuple(stages[seam:])
    _check_positions(walk.effects, selected, order)
    padded = piece.padded or rule.pads(consumer.operation)
    if padded and any(np.any(walk.effects[stage.call.path].shift) for stage in carried):
        raise Barrier(
            f"zero padding stands behind {title(carried[-1].call)}, which adds a constant"
        )
    behind = normalization_behind(walk, consumer, padded)
    tensor = (selected[-1] if selected else piece.stages[0]).call.outputs[0]
    columns = selected[-1].features[order] if selected else piece.units[order]
    place = (tensor, walk.streams[tensor].axis, columns)
    return Inlet(consumer, rule, piece, order, selected, carried, behind, *place, padded)


def _check_positions(effects, stages, order: np.ndarray) -> None:
    """Raises `Barrier` where a stage up to the seam scales the positions of a unit apart."""
    for stage in stages:
        for branch in stage.branches:
            _check_positions(effects, branch.stages, branch.by_unit(len(order)))
        own = stage.features[order]
        if isinstance(effects[stage.call.path], Affine) and np.any(own != own[:, :1]):
            raise Barrier(f"{title(stage.call)} treats each position of a unit in its own way")


def find_seams(effects, inlets: list[Inlet]) -> tuple[tuple[Inlet, ...], tuple[int, ...]]:
    """The first inlet of each way in which the units reach their consumers, and each one's way.

    Raises:
        Barrier: If a shared consumer would have to be cut in two ways.
    """
    ways: dict[tuple, int] = {}
    seams, places = [], []
    carried: dict[str, Inlet] = {}
    for inlet in inlets:
        way = _signature(effects, inlet.piece, inlet.selected, inlet.order)
        if way not in ways:
            ways[way] = len(seams)
            seams.append(inlet)
        places.append(ways[way])
        first = carried.setdefault(inlet.call.path, inlet)  # a shared kernel is edited once
        if len(first.carried) != len(inlet.carried) or not all(
            one.same_as(other) for one, other in zip(first.carried, inlet.carried, strict=True)
        ):
            raise Barrier(
                f"it feeds {inlet.call.path}, a shared consumer, through layers that scale the "
                "units in different ways"
            )
    return tuple(seams), tuple(places)


# Two activations are the same function if they agree here: finely around zero, and far outside.
_GRID = np.concatenate([np.linspace(-32, 32, 513), [-1e6, -1e3, -100, 100, 1e3, 1e6]])


def _signature(effects, piece: Piece, stages, order: np.ndarray) -> tuple:
    """What happens to each unit up to the seam; equal for two inlets that see the same values."""
    signature = [] if piece.stages[0].branches else [piece.stages[0].call.path]
    for stage in stages:
        effect = effects[stage.call.path]
        own = stage.features[order]
        if isinstance(effect, Join):
            signature.append(type(stage.call.operation).__name__)
            for branch in stage.branches:
                order_there = branch.by_unit(len(order))
                signature.append(_signature(effects, branch, branch.stages, order_there))
        elif isinstance(effect, Nonlinear) and effect.coordinates is None:
            signature.append(effect.activation.values(_GRID.astype(np.float32)).tobytes())
        else:
            signature.append((stage.call.path, stage.padded, np.unique(own, axis=1).tobytes()))
    return tuple(signature)


def normalization_behind(walk: Walk, consumer: Call, padded: bool) -> Call | None:
    """The BatchNormalization that alone sees a consumer's outputs and takes an offset for it."""
    rule = registry.lookup(consumer.operation)
    needed = padded or not rule.has_bias(consumer.operation)
    if not needed or len(walk.records[consumer.path]) != 1:
        return None
    if keras.activations.get(rule.activation(consumer.operation)) is not keras.activations.linear:
        return None
    if consumer.outputs[0] in walk.outputs:  # there the offset would be missed
        return None
    users = walk.users.get(consumer.outputs[0], [])
    if len(users) != 1 or type(users[0].operation) is not keras.layers.BatchNormalization:
        return None
    effect = isinstance(walk.effects.get(users[0].path), Affine)
    shared = len(walk.records[users[0].path]) != 1
    return users[0] if effect and not shared else None
