"""Define layers that join several tensors feature by feature: residual additions, gates, maxima.

`y_u = f(a_u, b_u, ...)`: unit u of one producer can only be removed together with unit u of the
others, so their units are one group. Units that are copies in all tensors are copies behind any
such `f`.
"""

from collections.abc import Sequence
from typing import TypeGuard

import keras
import numpy as np

from keras_dfprune.graph.calls import Call
from keras_dfprune.rules.base import Barrier, ElementwiseRule
from keras_dfprune.rules.effects import Join
from keras_dfprune.rules.features import Piece, Stage, Stream
from keras_dfprune.rules.layer_state import LayerState

_KINDS = {"Multiply": "product", "Maximum": "extreme", "Minimum": "extreme"}


class JoiningRule(ElementwiseRule):
    """`Add`, `Subtract`, `Multiply`, `Average`, `Maximum` and `Minimum` of several tensors."""

    types = (
        keras.layers.Add,
        keras.layers.Subtract,
        keras.layers.Multiply,
        keras.layers.Average,
        keras.layers.Maximum,
        keras.layers.Minimum,
    )
    names = ("Maximum", "Minimum")

    def carry(self, call: Call, streams: list[Stream | None]) -> Stream | None:
        return join(self, call, streams)

    def effect(self, call: Call, state: LayerState) -> Join:
        return join_of(call)


def join(rule: ElementwiseRule, call: Call, streams: list[Stream | None]) -> Stream | None:
    """Return the stream of a tensor each of whose features is made of one feature of several.

    Args:
        rule: The rule of the joining layer.
        call: The call.
        streams: The units in each of its tensors.

    Raises:
        Barrier: If the units of the tensors don't correspond to each other.
    """
    if all(stream is None for stream in streams):
        return None
    if len(streams) < 2 or not _all_hold_units(streams):
        raise Barrier(
            "joins the units, one by one, with a tensor that keeps its width, as a residual "
            "connection does"
        )
    first = streams[0]
    ranks = {len(tensor.shape) for tensor in call.inputs}
    if len(ranks) > 1 or any(
        stream.axis != first.axis or stream.width != first.width for stream in streams
    ):
        raise Barrier("combines tensors of different shapes")
    if any(len(stream.pieces) > 1 or stream.pieces[0].width < stream.width for stream in streams):
        raise Barrier("combines units of several layers side by side with others")
    everything = np.arange(first.width)
    branches = tuple(stream.take(everything, first.axis).pieces[0] for stream in streams)
    if any(not np.array_equal(branch.units, branches[0].units) for branch in branches):
        raise Barrier("combines units in different orders")
    if len({branch.sites for branch in branches} - {1}) > 1:
        raise Barrier("combines units that are spread over positions in different ways")
    paddings = max(branch.paddings for branch in branches)
    stage = Stage(rule, call, everything, paddings, branches)
    piece = Piece(branches[0].source, everything, branches[0].units, (stage,), paddings)
    return Stream(first.axis, first.width, (piece,))


def _all_hold_units(streams: Sequence[Stream | None]) -> TypeGuard[Sequence[Stream]]:
    """Return whether every tensor holds units."""
    return all(stream is not None and stream.pieces for stream in streams)


def join_of(call: Call) -> Join:
    """Describe how a joining layer combines its tensors."""
    name, count = type(call.operation).__name__, len(call.inputs)
    factors = (1.0,) * count
    if name == "Subtract":
        factors = (1.0, -1.0)
    elif name == "Average":
        factors = (1.0 / count,) * count
    return Join(_KINDS.get(name, "sum"), factors)
