"""Count what a model costs at any widths of its groups: its parameters, or its multiply-adds.

A variable between two pruned groups loses rows and columns, so the saving by one unit depends on
the widths of both groups. Everything is therefore counted for all groups together: a sum over
arrays of products of lengths, each linear in the widths.
"""

import dataclasses
import functools
import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from keras_dfprune.graph.calls import Graph
from keras_dfprune.locate.groups import LayerFeatures, Layout
from keras_dfprune.rules.base import blocks_of
from keras_dfprune.rules.features import Stream
from keras_dfprune.rules.heads import HeadsRule
from keras_dfprune.rules.kernels import ConsumerRule
from keras_dfprune.rules.multiply_adds import multiply_adds

PARAMETERS, MULTIPLY_ADDS = "parameters", "multiply-adds"


@dataclasses.dataclass(frozen=True)
class _Length:
    """Length of an axis: `(constant + sum(positions * width of the group)) / parts`.

    The kernel of a convolution in several groups has as many parts.
    """

    constant: int
    positions: tuple[tuple[str, int], ...] = ()
    parts: int = 1

    def times(self, blocks: int) -> "_Length":
        """Return the length of an axis that holds the features of this one several times."""
        positions = tuple((name, blocks * count) for name, count in self.positions)
        return _Length(blocks * self.constant, positions)

    def at(self, widths: Mapping[str, int]) -> int:
        features = sum(count * widths[name] for name, count in self.positions)
        return (self.constant + features) // self.parts


@dataclasses.dataclass(frozen=True)
class _Array:
    """Array whose shape depends on the widths; each of its entries costs `price`."""

    path: str
    price: int
    shape: tuple[_Length, ...]

    def cost(self, widths: Mapping[str, int]) -> int:
        return self.price * math.prod(length.at(widths) for length in self.shape)

    @property
    def groups(self) -> set[str]:
        return {name for length in self.shape for name, _ in length.positions}


@dataclasses.dataclass(frozen=True, eq=False)
class WidthCount:
    """Cost of a model at any widths of its groups.

    Attributes:
        noun: Name of the unit of measure, in the plural: `"parameters"` or `"multiply-adds"`.
        widths: Units of each group at full width.
        fixed: Cost of everything else than the arrays.
        arrays: The arrays of all layers that have a rule.
    """

    noun: str
    widths: Mapping[str, int]
    fixed: int
    arrays: tuple[_Array, ...]

    @functools.cached_property
    def _touching(self) -> dict[str, list[_Array]]:
        touching: dict[str, list[_Array]] = {name: [] for name in self.widths}
        for array in self.arrays:
            for name in array.groups:
                touching[name].append(array)
        return touching

    def total(self, kept: Mapping[str, int]) -> int:
        """Return the cost of the whole model.

        Args:
            kept: Number of kept units by group; groups not named stay whole.
        """
        widths = {**self.widths, **kept}
        return self.fixed + sum(array.cost(widths) for array in self.arrays)

    def saved_by(self, name: str, number: int, kept: Mapping[str, int]) -> int:
        """Return what removing more units of a group saves at the given widths."""
        widths = {**self.widths, **kept}
        fewer = {**widths, name: widths[name] - number}
        return sum(array.cost(widths) - array.cost(fewer) for array in self._touching[name])

    def neighbours(self, name: str) -> set[str]:
        """Return the groups whose saving depends on the width of a group, itself included."""
        return {other for array in self._touching[name] for other in array.groups} | {name}

    def of_layers(self, paths: Collection[str], kept: Mapping[str, int]) -> int:
        """Return the cost of some layers at the given widths: of arrays that depend on any."""
        widths = {**self.widths, **kept}
        return sum(array.cost(widths) for array in self.arrays if array.path in paths)

    def of_group(self, name: str, layers: Collection[str], kept: Mapping[str, int]) -> int:
        """Return the cost of a group's producers, or of the arrays with its dimensions of heads.

        Args:
            name: The group.
            layers: Its layers. A group of units has the name of the first.
            kept: Number of kept units by group; groups not named stay whole.
        """
        if name in layers:
            return self.of_layers(layers, kept)
        widths = {**self.widths, **kept}
        return sum(array.cost(widths) for array in self._touching[name])

    def plus(self, fixed: int) -> "WidthCount":
        """Return the same count with something added that depends on no width."""
        return dataclasses.replace(self, fixed=self.fixed + fixed)

    def to_config(self) -> dict[str, Any]:
        """Return everything as plain lists and numbers, for a file."""
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "WidthCount":
        """Make the count that `to_config` described."""

        def length(entry: Mapping[str, Any]) -> _Length:
            positions = tuple((name, int(count)) for name, count in entry["positions"])
            return _Length(int(entry["constant"]), positions, int(entry["parts"]))

        arrays = tuple(
            _Array(entry["path"], int(entry["price"]), tuple(map(length, entry["shape"])))
            for entry in config["arrays"]
        )
        return cls(config["noun"], dict(config["widths"]), int(config["fixed"]), arrays)


def count_parameters(layout: Layout, total: int) -> WidthCount:
    """Count the parameters of a model.

    Args:
        layout: The model's groups.
        total: Parameters of the whole model at full width.
    """
    widths = _widths(layout)
    arrays = tuple(
        _Array(record.call.layer_path, 1, shape)
        for record in layout.layers.values()
        if record.rule.axes
        for shape in _shapes(record, widths).values()
    )
    return _with_total(PARAMETERS, total, widths, arrays)


def count_multiply_adds(graph: Graph, layout: Layout) -> WidthCount:
    """Count the multiply-adds of one row of the inputs, as `multiply_adds` does.

    Args:
        graph: The model's graph.
        layout: The model's groups.

    Raises:
        ValueError: If a layer works at an unknown number of positions.
    """
    widths, arrays = _widths(layout), []
    total = multiply_adds(graph.calls)
    for call in graph.calls:
        record = layout.layers.get(call.path)
        if record is None or not record.rule.axes:
            continue
        shapes = _shapes(record, widths)
        for name, times in record.rule.applications(call).items():
            if name in shapes:
                arrays.append(_Array(call.layer_path, times, shapes[name]))
    return _with_total(MULTIPLY_ADDS, total, widths, tuple(arrays))


def bias_length(layout: Layout, path: str, kept: Mapping[str, int]) -> int:
    """Return the size of the biases that a layer gets.

    Args:
        layout: The model's groups.
        path: Path of the layer.
        kept: Number of kept units by group; groups not named stay whole.
    """
    record, widths = layout.layers[path], _widths(layout)
    if not isinstance(record.rule, ConsumerRule):
        raise TypeError(f"Layer '{path}' takes no bias.")
    size = record.rule.bias_size(record.call.operation)
    if isinstance(record.rule, HeadsRule):
        entries = record.rule.bias_entries(record.call.operation)
        for kind, group in record.heads.items():
            size -= entries[kind] * (group.units - kept.get(group.name, group.units))
    if record.outputs is None:
        return size
    length = _length(record.outputs, widths).times(size // record.outputs.width)
    return length.at({**widths, **kept})


def _widths(layout: Layout) -> dict[str, int]:
    return {name: group.units for name, group in layout.prunable.items()}


def _with_total(
    noun: str, total: int, widths: Mapping[str, int], arrays: tuple[_Array, ...]
) -> WidthCount:
    """Return the count whose whole model costs `total` at full width."""
    return WidthCount(noun, widths, total - sum(array.cost(widths) for array in arrays), arrays)


def _shapes(record: LayerFeatures, widths: Mapping[str, int]) -> dict[str, tuple[_Length, ...]]:
    """Return the shapes of a layer's arrays, by name."""
    arrays = record.rule.read(record.call.operation).variables
    return {name: tuple(_axes(record, name, array.shape, widths)) for name, array in arrays.items()}


def _axes(
    record: LayerFeatures, name: str, shape: tuple[int, ...], widths: Mapping[str, int]
) -> Iterator[_Length]:
    streams = {"in": record.inputs, "out": record.outputs, "own": record.outputs}
    roles = dict(record.rule.variable_axes(name, len(shape)))
    groups = record.rule.channel_groups(record.call.operation)
    for axis, size in enumerate(shape):
        stream, parts = None, 1
        if roles.get(axis) in record.heads:
            yield _Length(0, ((record.heads[roles[axis]].name, 1),))
            continue
        if roles.get(axis) in streams:
            stream, parts = streams[roles[axis]], groups if roles[axis] == "in" else 1
        blocks = 0 if stream is None else blocks_of(size, stream.width)
        if stream is not None and size * parts == stream.width:
            yield dataclasses.replace(_length(stream, widths), parts=parts)
        elif stream is not None and blocks:
            yield _length(stream, widths).times(blocks)
        else:
            yield _Length(size)


def _length(stream: Stream, widths: Mapping[str, int]) -> _Length:
    """Return the length of an axis of features."""
    positions: dict[str, int] = {}
    for piece in stream.pieces:
        if piece.source in widths:
            count = len(piece.units) // widths[piece.source]
            positions[piece.source] = positions.get(piece.source, 0) + count
    of_units = sum(count * widths[name] for name, count in positions.items())
    return _Length(stream.width - of_units, tuple(positions.items()))
