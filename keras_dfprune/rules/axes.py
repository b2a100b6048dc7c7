"""Define the rules of layers and operations that move, add, drop or reduce whole axes."""

import math
import operator
from typing import Any

import keras
import numpy as np

from keras_dfprune.graph.calls import Call
from keras_dfprune.rules.base import Barrier, ElementwiseRule, Rule, single
from keras_dfprune.rules.effects import Affine
from keras_dfprune.rules.features import Stream
from keras_dfprune.rules.layer_state import Cut, LayerState
from keras_dfprune.rules.shape import ReshapeRule
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


class ReshapeOperationRule(ReshapeRule):
    """`keras.ops.reshape` that leaves the batch axis alone, as `keras.layers.Reshape`."""

    types = ()
    names = ("Reshape",)

    def config(self, operation: keras.Operation) -> dict[str, Any]:
        return {"newshape": operation.newshape}

    def carry(self, call: Call, streams: list[Stream | None]) -> Stream | None:
        stream = single(call, streams)
        if stream is None:
            return None
        before, after = (tuple(t.shape)[1:] for t in (call.inputs[0], call.outputs[0]))
        lengths = call.operation.newshape
        if not all(isinstance(length, int | np.integer) for length in lengths):
            raise Barrier("gets its shape from a tensor")
        known = [[length for length in shape if length is not None] for shape in (before, after)]
        if not after or known != [list(before), list(after)]:
            raise Barrier("rearranges units and positions, some of them of unknown length")
        if math.prod(known[0]) != math.prod(known[1]):
            raise Barrier("moves rows of the batch")
        if lengths[0] != -1 and -1 not in lengths:
            raise Barrier("fixes the number of rows; give -1 for the batch")
        return super().carry(call, streams)

    def narrow_config(self, config: dict[str, Any], cut: Cut) -> dict[str, Any]:
        if cut.outputs is None:
            return config
        lengths = list(config["newshape"])
        if lengths[cut.output_axis] != -1:
            lengths[cut.output_axis] = int(cut.outputs.sum())
        return {"newshape": tuple(lengths)}


class PadRule(Rule):
    """`keras.ops.pad` of positions: with zeros as `ZeroPadding`, or with copies of them."""

    names = ("Pad",)

    def carry(self, call: Call, streams: list[Stream | None]) -> Stream | None:
        stream = single(call, streams)
        if stream is None:
            return None
        operation, rank = call.operation, len(call.inputs[0].shape)
        widths = list(operation.pad_width)
        widths = widths * rank if len(widths) == 1 else widths
        if any(np.any(widths[axis]) for axis in (0, stream.axis)):
            raise Barrier("pads the units' axis or the batch")
        if operation.mode in ("reflect", "symmetric"):
            return stream
        value = [*call.args[1:], *call.kwargs.values()]
        if operation.mode != "constant" or any(part is not None and np.any(part) for part in value):
            raise Barrier("pads with something other than zeros or copies of positions")
        return stream.beside_zeros()


class SplitRule(Rule):
    """`keras.ops.split` of positions, which leaves all units in each part."""

    names = ("Split",)
    fills_all_outputs = True

    def carry(self, call: Call, streams: list[Stream | None]) -> Stream | None:
        stream = single(call, streams)
        if stream is not None:
            axis = call.operation.axis % len(call.inputs[0].shape)
            if axis == 0:
                raise Barrier("splits the batch")
            if axis == stream.axis:
                raise Barrier("splits the units; make a layer of each part")
        return stream


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
