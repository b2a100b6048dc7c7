"""Begin the streams of a producer's own units, in each of its outputs."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from keras_dfprune.graph.calls import Call, Tensor
from keras_dfprune.rules.features import Piece, Stage, Stream
from keras_dfprune.rules.initial_state import InitialStateRule
from keras_dfprune.rules.kernels import ProducerRule


def streams_of_units(
    call: Call, rule: ProducerRule, starts: Sequence[Piece], together: np.ndarray | None = None
) -> dict[Tensor, Stream]:
    """Return the units in each output of a producer that holds any.

    Args:
        call: The call of the producer.
        rule: Its rule.
        starts: The units of other layers that are its initial states; see `starting_units`.
        together: Int array: the unit of each column, where several columns are one unit; or None.
    """
    return {
        tensor: _stream(
            call,
            rule,
            units if together is None else together,
            rule.output_axis(call) if tensor is call.outputs[0] else len(tensor.shape) - 1,
            starts,
        )
        for tensor, units in rule.units_of_outputs(call).items()
    }


def stream_of_units(
    call: Call, rule: ProducerRule, starts: Sequence[Piece], together: np.ndarray | None = None
) -> Stream:
    """Return the stream of a producer's units, each once; see `streams_of_units`."""
    units = np.arange(rule.unit_count(call.operation)) if together is None else together
    return _stream(call, rule, units, rule.output_axis(call), starts)


def start_call(call: Call) -> Call:
    """Return what stands for the start of a recurrent layer from the states that it is given."""
    return dataclasses.replace(call, path=f"{call.path}/initial_state")


def _stream(
    call: Call, rule: ProducerRule, units: np.ndarray, axis: int, starts: Sequence[Piece]
) -> Stream:
    columns = np.arange(len(units))
    own = Piece(call.path, columns, units)
    stream = Stream(axis, len(units), (own,)).through(rule, call)
    if not starts:
        return stream
    (own,) = stream.pieces
    branches = (own, *(piece.take(units, columns) for piece in starts))
    stage = Stage(InitialStateRule(), start_call(call), columns, 0, branches)
    piece = Piece(call.path, columns, units, (stage,))
    return Stream(axis, len(units), (piece,))
