"""Define the rules of layers that copy or reorder features but leave their values alone."""

import dataclasses
from typing import Any, ClassVar

import keras
import numpy as np

from keras_dfprune.graph.calls import Call, Tensor
from keras_dfprune.rules.base import Barrier, PassRule, Rule, Together, single
from keras_dfprune.rules.features import Stream
from keras_dfprune.rules.layer_state import Cut


class IdentityRule(PassRule):
    """Layers that hand their input on at inference."""

    types = (
        keras.layers.Identity,
        keras.layers.ActivityRegularization,
        keras.layers.Dropout,
        keras.layers.SpatialDropout1D,
        keras.layers.SpatialDropout2D,
        keras.layers.SpatialDropout3D,
        keras.layers.GaussianDropout,
        keras.layers.GaussianNoise,
        keras.layers.AlphaDropout,
    )

    def carry(self, call: Call, streams: list[Stream | None]) -> Stream | None:
        stream = single(call, streams)
        if stream is not None and call.training:
            raise Barrier("is called with training=True and so stays random")
        return stream


class CastRule(PassRule):
    """Conversions that mixed precision, or a model called in another, puts into a graph."""

    names = ("Cast", "ConvertToTensor")


class InputRule(Rule):
    """`keras.layers.InputLayer` of a nested model: its shape follows the shape of the input."""

    types = (keras.layers.InputLayer,)
    follows_input = True

    def carry(self, call: Call, streams: list[Stream | None]) -> Stream | None:
        stream = single(call, streams)
        if stream is not None and len(call.inputs[0].shape) != len(call.outputs[0].shape):
            raise Barrier("expects another number of axes than it gets")
        return stream

    def narrow_config(self, config: dict[str, Any], cut: Cut) -> dict[str, Any]:
        if cut.inputs is None:
            return config
        shape = list(config["batch_shape"])
        shape[cut.axis] = int(cut.inputs.sum())
        return {**config, "batch_shape": tuple(shape)}

    def keeps_values(self, call: Call) -> bool:
        return True


class FlattenRule(Rule):
    """`keras.layers.Flatten`: each unit occurs once for each position."""

    types = (keras.layers.Flatten,)

    def carry(self, call: Call, streams: list[Stream | None]) -> Stream | None:
        stream = single(call, streams)
        if stream is None:
            return None
        shape = _known_shape(call.inputs[0], "flattens an axis of unknown length")
        index = _features_at_positions(stream, shape)
        if call.operation.data_format == "channels_first" and len(shape) > 1:
            index = np.moveaxis(index, 0, -1)
        return stream.take(index.reshape(-1), axis=1)

    def keeps_values(self, call: Call) -> bool:
        return call.operation.data_format != "channels_first"


class ReshapeRule(Rule):
    """`keras.layers.Reshape`, if one axis of the result tells the units apart.

    `(units,)` into `(1, 1, units)` keeps each unit. If positions end up in the same axis, each unit
    occurs in it once for each position. `(height * width * channels,)` into `(height, width,
    channels)` makes one unit of all columns of a channel: they stay or go together.
    """

    types: ClassVar[tuple[type, ...]] = (keras.layers.Reshape,)
    follows_input = True

    def carry(self, call: Call, streams: list[Stream | None]) -> Stream | None:
        stream = single(call, streams)
        if stream is None:
            return None
        unknown = "rearranges units and positions, some of them of unknown length"
        before, after = (_known_shape(t, unknown) for t in (call.inputs[0], call.outputs[0]))
        index = _features_at_positions(stream, before).reshape(after)
        for axis in range(len(after)):
            line = _deciding(index, axis)
            if line is not None:
                return stream.take(line, axis=axis + 1)
        return _spread(stream, index)

    def narrow_config(self, config: dict[str, Any], cut: Cut) -> dict[str, Any]:
        if cut.outputs is None:
            return config
        target = list(config["target_shape"])
        if target[cut.output_axis - 1] != -1:
            target[cut.output_axis - 1] = int(cut.outputs.sum())
        return {**config, "target_shape": tuple(target)}

    def keeps_values(self, call: Call) -> bool:
        return len(call.outputs[0].shape) == 2


class RepeatVectorRule(Rule):
    """`keras.layers.RepeatVector`: a new axis stands in front of the features."""

    types = (keras.layers.RepeatVector,)

    def carry(self, call: Call, streams: list[Stream | None]) -> Stream | None:
        stream = single(call, streams)
        return None if stream is None else Stream(2, stream.width, stream.pieces)


class IndexingRule(Rule):
    """Indexing that leaves out positions but no units: `x[:, -1]` of a sequence."""

    names = ("GetItem",)

    def carry(self, call: Call, streams: list[Stream | None]) -> Stream | None:
        stream = single(call, streams)
        if stream is None:
            return None
        shape = call.inputs[0].shape
        axis, target, units_axis = 0, 0, 0
        for part in _index_of_each_axis(call, len(shape)):
            if part is None:
                target += 1
                continue
            if axis in (0, stream.axis) and not _is_whole(part, shape[axis]):
                raise Barrier(f"takes only a part of the {'units' if axis else 'batch'}")
            if axis == stream.axis:
                units_axis = target
            target += isinstance(part, slice)
            axis += 1
        return Stream(units_axis, stream.width, stream.pieces)


class ConcatenateRule(Rule):
    """Concatenation along the features; the same tensor may occur twice."""

    types = (keras.layers.Concatenate,)
    names = ("Concatenate",)

    def carry(self, call: Call, streams: list[Stream | None]) -> Stream | None:
        if all(stream is None for stream in streams):
            return None
        axis = call.operation.axis % len(call.outputs[0].shape)
        if any(stream is not None and stream.axis != axis for stream in streams):
            raise Barrier("concatenates along another axis than the units'")
        start, pieces = 0, []
        for tensor, stream in zip(call.inputs, streams, strict=True):
            for piece in stream.pieces if stream is not None else ():
                pieces.append(piece.take(np.arange(len(piece.units)), piece.columns + start))
            start += tensor.shape[axis]
        return Stream(axis, start, tuple(pieces))


def _deciding(values: np.ndarray, axis: int) -> np.ndarray | None:
    """Return the values along an axis, or None if they depend on the other axes too."""
    lines = np.moveaxis(values, axis, -1).reshape(-1, values.shape[axis])
    return lines[0] if np.all(lines == lines[0]) else None


def _spread(stream: Stream, index: np.ndarray) -> Stream:
    """Return the stream behind a Reshape that spreads the columns of each unit over positions.

    Args:
        stream: The features in front of it.
        index: The feature that each entry of its output is: int array of the output's shape.

    Raises:
        Together: If the columns of each channel aren't one unit yet.
        Barrier: If no axis can tell units apart.
    """
    mixes = "rearranges units and positions"
    if len(stream.pieces) != 1 or stream.pieces[0].width < stream.width:
        raise Barrier(mixes)
    (piece,) = stream.pieces
    if any(stage.branches or stage.sites > 1 for stage in piece.stages):
        raise Barrier(f"{mixes} of units that were joined or rearranged before")
    position_of_column = np.argsort(piece.columns)
    for axis in range(index.ndim):
        units = _deciding(piece.units[position_of_column][index], axis)
        if units is not None:
            columns = _features_along(index, axis, stream.width)
            if columns is None:
                break
            sites = position_of_column[columns]
            stages = tuple(
                dataclasses.replace(stage, features=stage.features[sites]) for stage in piece.stages
            )
            spread = dataclasses.replace(
                piece, columns=np.arange(len(columns)), units=units, stages=stages
            )
            return Stream(axis + 1, len(columns), (spread,))
    columns = _features_along(index, index.ndim - 1, stream.width)
    if columns is None or np.any(np.sort(piece.units) != np.arange(stream.width)):
        raise Barrier(mixes)
    together = np.empty(stream.width, int)
    together[piece.units[position_of_column[columns]]] = np.arange(len(columns))[:, None]
    raise Together(mixes, piece.source, together)


def _features_along(index: np.ndarray, axis: int, width: int) -> np.ndarray | None:
    """Return the features at each entry along an axis: int array, `(entries, features)`.

    None if a feature belongs to two entries, or the entries have different numbers of them.
    """
    lines = np.moveaxis(index, axis, 0).reshape(index.shape[axis], -1)
    features = [np.unique(line) for line in lines]
    if any(len(line) * len(lines) != width for line in features):
        return None
    return np.array(features) if len(np.unique(features)) == width else None


def _index_of_each_axis(call: Call, rank: int) -> list[slice | int | None]:
    """Return what a tensor is indexed with: an entry for each axis, and None for each new one.

    Raises:
        Barrier: If it is indexed with anything but numbers, slices of numbers, None and `...`.
    """
    (key,) = (*call.args[1:], *call.kwargs.values())
    parts = list(key) if isinstance(key, tuple) else [key]
    numbers = [
        value
        for part in parts
        for value in ((part.start, part.stop, part.step) if isinstance(part, slice) else (part,))
    ]
    for value in numbers:
        known = value is None or value is Ellipsis or isinstance(value, int | np.integer)
        if not known or isinstance(value, bool):
            raise Barrier("is indexed with something other than numbers and slices")
    if parts[0] is None:
        raise Barrier("puts a new axis in front of the batch")
    missing = rank - sum(part is not None and part is not Ellipsis for part in parts)
    place = parts.index(Ellipsis) if Ellipsis in parts else len(parts)
    return [*parts[:place], *[slice(None)] * missing, *parts[place + 1 :]]


def _is_whole(part: slice | int, length: int | None) -> bool:
    """Return whether an index takes all of an axis, also if the axis gets shorter."""
    if not isinstance(part, slice):
        return False
    if part == slice(None) or length is None:
        return part == slice(None)
    return part.indices(length) == (0, length, 1)


def _known_shape(tensor: Tensor, reason: str) -> tuple[int, ...]:
    """Return the shape of a tensor without its batch axis.

    Raises:
        Barrier: With the reason, if an axis has an unknown length.
    """
    sizes = tuple(size for size in tensor.shape[1:] if size is not None)
    if len(sizes) < len(tensor.shape) - 1:
        raise Barrier(reason)
    return sizes


def _features_at_positions(stream: Stream, shape: tuple[int, ...]) -> np.ndarray:
    """Return which feature each entry of a tensor is: int array of the tensor's `shape`."""
    index = np.arange(stream.width).reshape([-1] + [1] * (len(shape) - stream.axis))
    return np.broadcast_to(index, shape)
