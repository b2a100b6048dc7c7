"""Define how the units of a recurrent layer start from units of other layers.

The states of an encoder are the initial states of a decoder: unit u of the decoder starts from unit
u of the encoder, so that both stay or go together. Units that are copies in both layers start from
equal states, and stay equal.
"""

from collections.abc import Sequence

import keras
import numpy as np

from keras_dfprune.graph.calls import Call, Tensor
from keras_dfprune.rules.base import ElementwiseRule
from keras_dfprune.rules.effects import Join
from keras_dfprune.rules.features import Piece, Stream
from keras_dfprune.rules.layer_state import LayerState


class InitialStateRule(ElementwiseRule):
    """Start of a recurrent layer from given states, which joins its units with those of others."""

    def read(self, operation: keras.Operation) -> LayerState:
        return LayerState({}, {})

    def effect(self, call: Call, state: LayerState) -> Join:
        return Join("start", (1.0,) * (1 + len(initial_states(call))))


def initial_states(call: Call) -> list[object]:
    """Return the initial states that a recurrent layer is given, tensors or other values."""
    given = call.args[1] if len(call.args) > 1 else call.kwargs.get("initial_state")
    return [state for state in keras.tree.flatten(given) if state is not None]


def starting_units(
    call: Call, streams: Sequence[Stream | None], units: int
) -> tuple[Piece, ...] | None:
    """Return the units of other layers that a recurrent layer starts from.

    Args:
        call: The call of the recurrent layer.
        streams: The units in each tensor of `call.inputs`.
        units: Number of units of the layer.

    Returns:
        A piece for each initial state; none where the layer starts from 0. None if any initial
        state isn't all units of a layer in their order.
    """
    stream_of = dict(zip(call.inputs, streams, strict=True))
    pieces = []
    for state in initial_states(call):
        stream = stream_of.get(state) if isinstance(state, Tensor) else None
        if stream is None or stream.axis != 1 or len(stream.pieces) != 1:
            return None
        piece, everything = stream.pieces[0], np.arange(units)
        in_order = np.array_equal(piece.columns, everything)
        if stream.width != units or not in_order or not np.array_equal(piece.units, everything):
            return None
        pieces.append(piece)
    return tuple(pieces)
