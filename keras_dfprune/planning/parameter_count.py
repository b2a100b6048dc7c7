"""Count the parameters of a model whose groups keep given numbers of units.

A variable between two pruned groups loses rows and columns, so the saving by one unit depends on
the widths of both groups. Parameters are therefore counted for all groups together.
"""

import math
from collections.abc import Collection, Mapping

from keras_dfprune.locate.groups import LayerFeatures, Layout
from keras_dfprune.rules.features import Stream
from keras_dfprune.rules.kernels import ConsumerRule


class ParameterCount:
    """Counter of the parameters of a model at any widths of its groups.

    Args:
        layout: The model's groups.
        total: Parameters of the whole model at full width.
    """

    def __init__(self, layout: Layout, total: int):
        self._layers = [record for record in layout.layers.values() if record.rule.axes]
        self._widths = {name: group.units for name, group in layout.groups.items()}
        self._touching: dict[str, list[LayerFeatures]] = {name: [] for name in self._widths}
        for record in self._layers:
            for name in self._sources(record):
                self._touching[name].append(record)
        self._shapes = {record.path: _shapes(record) for record in self._layers}
        self._others = total - sum(self._of(record, self._widths) for record in self._layers)

    def total(self, kept: Mapping[str, int]) -> int:
        """Return the number of parameters of the whole model.

        Args:
            kept: Number of kept units by group; groups not named stay whole.
        """
        widths = {**self._widths, **kept}
        return self._others + sum(self._of(record, widths) for record in self._layers)

    def saved_by_one(self, name: str, kept: Mapping[str, int]) -> int:
        """Return the parameters saved by removing one more unit of a group at the given widths."""
        widths = {**self._widths, **kept}
        fewer = {**widths, name: widths[name] - 1}
        touching = self._touching[name]
        return sum(self._of(record, widths) - self._of(record, fewer) for record in touching)

    def neighbours(self, name: str) -> set[str]:
        """Return the groups whose saving depends on the width of a group, itself included."""
        near = {other for record in self._touching[name] for other in self._sources(record)}
        return near | {name}

    def of_layers(self, paths: Collection[str], kept: Mapping[str, int]) -> int:
        """Return the number of parameters of some layers at the given widths."""
        widths = {**self._widths, **kept}
        return sum(
            self._of(record, widths) for record in self._layers if record.call.layer_path in paths
        )

    def outputs(self, path: str, kept: Mapping[str, int]) -> int:
        """Return the number of output features of a layer: the size of a bias that it gets."""
        record = next(record for record in self._layers if record.path == path)
        if record.outputs is not None:
            return self._length(record.outputs, {**self._widths, **kept})
        if isinstance(record.rule, ConsumerRule):
            return record.rule.bias_size(record.call.operation)
        raise TypeError(f"Layer '{path}' takes no bias.")

    def _sources(self, record: LayerFeatures) -> set[str]:
        streams = [stream for stream in (record.inputs, record.outputs) if stream is not None]
        sources = {piece.source for stream in streams for piece in stream.pieces}
        return sources & set(self._widths)

    def _of(self, record: LayerFeatures, widths: Mapping[str, int]) -> int:
        count = 0
        streams = {"in": record.inputs, "out": record.outputs}
        for shape, roles in self._shapes[record.path]:
            sizes = list(shape)
            for axis, role in roles:
                stream = streams[role]
                if stream is not None and sizes[axis] == stream.width:
                    sizes[axis] = self._length(stream, widths)
            count += math.prod(sizes)
        return count

    def _length(self, stream: Stream, widths: Mapping[str, int]) -> int:
        length = stream.width
        for piece in stream.pieces:
            if piece.source in widths:
                positions = len(piece.units) // self._widths[piece.source]
                length -= positions * (self._widths[piece.source] - widths[piece.source])
        return length


def _shapes(record: LayerFeatures) -> list[tuple[tuple[int, ...], list[tuple[int, str]]]]:
    arrays = record.rule.read(record.call.operation).variables
    return [
        (array.shape, record.rule.variable_axes(name, array.ndim)) for name, array in arrays.items()
    ]
