"""How many parameters a model has when its groups keep so many units each.

A variable between two pruned groups loses rows and columns, so what one unit saves depends on the
others: parameters are counted jointly.
"""

from collections.abc import Collection, Mapping

import numpy as np

from keras_dfprune.locate.groups import LayerFeatures, Layout
from keras_dfprune.rules.features import Stream


class ParameterCount:
    """Counts the parameters of the layers that a layout can cut.

    Args:
        layout: What `locate` found.
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
        """Parameters of the whole model.

        Args:
            kept: Number of kept units by group; groups not named stay whole.
        """
        widths = {**self._widths, **kept}
        return self._others + sum(self._of(record, widths) for record in self._layers)

    def saved_by_one(self, name: str, kept: Mapping[str, int]) -> int:
        """Parameters saved by removing one more unit of a group at the given widths."""
        widths = {**self._widths, **kept}
        fewer = {**widths, name: widths[name] - 1}
        touching = self._touching[name]
        return sum(self._of(record, widths) - self._of(record, fewer) for record in touching)

    def of_layers(self, paths: Collection[str], kept: Mapping[str, int]) -> int:
        """Parameters of some of the layers, at the given widths."""
        widths = {**self._widths, **kept}
        return sum(self._of(record, widths) for record in self._layers if record.path in paths)

    def outputs(self, path: str, kept: Mapping[str, int]) -> int:
        """Output features of a layer: the size of a bias that it gets."""
        record = next(record for record in self._layers if record.path == path)
        if record.outputs is None:
            return record.rule.unit_count(record.call.operation)
        return self._length(record.outputs, {**self._widths, **kept})

    def _sources(self, record: LayerFeatures) -> set[str]:
        streams = [stream for stream in (record.inputs, record.outputs) if stream is not None]
        sources = {piece.source for stream in streams for piece in stream.pieces}
        return sources & set(self._widths)

    def _of(self, record: LayerFeatures, widths: Mapping[str, int]) -> int:
        count = 0
        lengths = {"in": self._length(record.inputs, widths)}
        lengths["out"] = self._length(record.outputs, widths)
        for shape, roles in self._shapes[record.path]:
            sizes = list(shape)
            for axis, role in roles:
                stream = record.inputs if role == "in" else record.outputs
                if stream is not None and sizes[axis] == stream.width:
                    sizes[axis] = lengths[role]
            count += int(np.prod(sizes))
        return count

    def _length(self, stream: Stream | None, widths: Mapping[str, int]) -> int | None:
        if stream is None:
            return None
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
