"""Define the rules of layers that copy or reorder features but leave their values alone."""

from typing import Any

import keras
import numpy as np

from keras_dfprune.graph.calls import Call, Tensor
from keras_dfprune.rules.base import Barrier, PassRule, Rule, single
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
    """`keras.layers.Reshape` that keeps each unit apart: `(units,)` into `(1, 1, units)` and such.

    An axis of the result that alone decides which unit an entry is becomes the units' axis. If
    positions end up in the same axis, each unit occurs in it once for each position.
    """

    types = (keras.layers.Reshape,)
    follows_input = True

    def carry(self, call: Call, streams: list[Stream | None]) -> Stream | None:
        stream = single(call, streams)
        if stream is None:
            return None
        unknown = "rearranges units and positions, some of them of unknown length"
        before, after = (_known_shape(t, unknown) for t in (call.inputs[0], call.outputs[0]))
        index = _features_at_positions(stream, before).reshape(after)
        for axis in range(len(after)):
            others = tuple(other for other in range(len(after)) if other != axis)
            if not np.ptp(index, axis=others).any():
                # `narrow_config` finds the axis in the config by its length.
                if after.count(after[axis]) > 1:
                    raise Barrier("rearranges units and positions into axes of equal length")
                line = np.moveaxis(index, axis, -1).reshape(-1, after[axis])[0]
                return stream.take(line, axis=axis + 1)
        raise Barrier("rearranges units and positions")

    def narrow_config(self, config: dict[str, Any], cut: Cut) -> dict[str, Any]:
        shape = config["target_shape"]
        if cut.outputs is None:
            return config
        narrow = int(cut.outputs.sum())
        target = [narrow if size == len(cut.outputs) else size for size in shape]
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
