"""Define the rules of layers and operations that move, add, drop or reduce whole axes."""

import math
import operator

import keras
import numpy as np

from keras_dfprune.graph.calls import Call
from keras_dfprune.rules.base import Barrier, ElementwiseRule, Rule, single
from keras_dfprune.rules.effects import Affine
from keras_dfprune.rules.features import Stream
from keras_dfprune.rules.layer_state import LayerState
from keras_dfprune.rules.spatial import MaxPoolingRule


class PermuteRule(Rule):
    """`keras.layers.Permute` and `keras.ops.transpose`: the units may move to another axis."""

    types = (keras.layers.Permute,)
    names = ("Transpose",)

    def carry(self, call: Call, streams: list[Stream | None]) -> Stream | None:
        stream = single(call, streams)
        if stream is None:
            return None
        operation, rank = call.operation, len(call.inputs[0].shape)
        if isinstance(operation, keras.layers.Permute):
            order = [0, *operation.dims]
        else:
            order = list(range(rank))[::-1] if operation.axes is None else list(operation.axes)
        order = [axis % rank for axis in order]
        if order[0] != 0:
            raise Barrier("moves the batch axis")
        return Stream(order.index(stream.axis), stream.width, stream.pieces)


class NewAxisRule(Rule):
    """`keras.ops.expand_dims`, which adds axes, and `squeeze`, which drops given ones."""

    names = ("ExpandDims", "Squeeze")

    def carry(self, call: Call, streams: list[Stream | None]) -> Stream | None:
        stream = single(call, streams)
        if stream is None:
            return None
        if call.operation.axis is None:
            raise Barrier("drops every axis of length 1; give `axis`")
        expands = type(call.operation).__name__ == "ExpandDims"
        tensor = (call.outputs if expands else call.inputs)[0]
        rank = len(tensor.shape)
        axes = {axis % rank for axis in _as_list(call.operation.axis)}
        if 0 in axes:
            raise Barrier("changes the batch axis")
        if expands:
            axis = [axis for axis in range(rank) if axis not in axes][stream.axis]
        elif stream.axis in axes:
            raise Barrier("drops the units' axis")
        else:
            axis = stream.axis - sum(other < stream.axis for other in axes)
        return Stream(axis, stream.width, stream.pieces)


class MeanRule(Rule):
    """`keras.ops.mean` over positions: linear, equal for all units, keeps constants."""

    names = ("Mean",)

    def carry(self, call: Call, streams: list[Stream | None]) -> Stream | None:
        stream = single(call, streams)
        return None if stream is None else _reduced(call, stream)


class SumRule(ElementwiseRule):
    """`keras.ops.sum` over positions: their mean times their number."""

    names = ("Sum",)

    def carry(self, call: Call, streams: list[Stream | None]) -> Stream | None:
        stream = super().carry(call, streams)
        return None if stream is None else _reduced(call, stream)

    def check(self, call: Call, stream: Stream) -> None:
        _axes_reduced(call, stream)
        if _number_of_positions(call) is None:
            raise Barrier("sums over an axis of unknown length")

    def effect(self, call: Call, state: LayerState) -> Affine:
        number = _number_of_positions(call) or 1
        return Affine(np.array([float(number)]), np.zeros(1))


class MaximumOfPositionsRule(MaxPoolingRule):
    """`keras.ops.max` over positions, as global max pooling."""

    types = ()
    names = ("Max",)

    def carry(self, call: Call, streams: list[Stream | None]) -> Stream | None:
        stream = ElementwiseRule.carry(self, call, streams)
        return None if stream is None else _reduced(call, stream)

    def check(self, call: Call, stream: Stream) -> None:
        _axes_reduced(call, stream)
        if call.operation.initial is not None:
            raise Barrier("compares with an initial value")


def _as_list(axes: int | list[int] | tuple[int, ...]) -> list[int]:
    return [operator.index(axis) for axis in (axes if isinstance(axes, list | tuple) else [axes])]


def _axes_reduced(call: Call, stream: Stream) -> set[int]:
    """Return the axes over which a call reduces.

    Raises:
        Barrier: If the units or the rows are among them.
    """
    rank = len(call.inputs[0].shape)
    given = call.operation.axis
    axes = {axis % rank for axis in (range(rank) if given is None else _as_list(given))}
    if stream.axis in axes:
        raise Barrier("works over the units' axis")
    if 0 in axes:
        raise Barrier("works over the batch axis")
    return axes


def _reduced(call: Call, stream: Stream) -> Stream:
    """Return the stream behind a reduction over positions."""
    axes = _axes_reduced(call, stream)
    dropped = 0 if call.operation.keepdims else sum(axis < stream.axis for axis in axes)
    return Stream(stream.axis - dropped, stream.width, stream.pieces)


def _number_of_positions(call: Call) -> int | None:
    """Return over how many positions a call reduces, or None if an axis has an unknown length."""
    shape = call.inputs[0].shape
    lengths = [shape[axis] for axis in _as_list(call.operation.axis)]
    known = [length for length in lengths if length is not None]
    return math.prod(known) if len(known) == len(lengths) else None
