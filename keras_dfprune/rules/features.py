"""Trace each feature of a tensor back to the unit that it is, and to the layers on the way.

The features along one axis are traced. A layer that copies, repeats or reorders features (Flatten,
Concatenate) is one index array.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Protocol

import keras
import numpy as np

from keras_dfprune.graph.calls import Call
from keras_dfprune.rules.effects import Effect
from keras_dfprune.rules.layer_state import LayerState


class StageRule(Protocol):
    """Rule of a layer that features go through one by one; see `ElementwiseRule`."""

    def read(self, operation: keras.Operation) -> LayerState:
        """Read config and arrays of a built layer."""

    def effect(self, call: Call, state: LayerState) -> Effect:
        """Describe what the layer does to each of its features."""


@dataclasses.dataclass(frozen=True, eq=False)
class Stage:
    """Layer that features went through one by one, with parameters for each.

    Attributes:
        rule: The layer's rule, whose `effect` describes what happens to the features.
        call: The call of the layer.
        features: Int array, shape `(features,)`: which of the layer's own features each one was.
            Where a Reshape behind the layer spreads each unit over positions, shape
            `(features, sites)`: one feature behind the Reshape was several in front of it.
        paddings: How often zeros were put beside the units in front of the layer.
        branches: For a layer that joins several tensors feature by feature: the piece that came
            in by each of them. This stage is the first of the joined piece. Else empty.
    """

    rule: StageRule
    call: Call
    features: np.ndarray
    paddings: int = 0
    branches: tuple["Piece", ...] = ()

    @property
    def sites(self) -> int:
        """Number of the layer's own features that are one feature now."""
        own = self.features.shape[1] if self.features.ndim > 1 else 1
        return max([own, *(branch.sites for branch in self.branches)])

    def at(self, site: int) -> "Stage":
        """Return this stage with one of its own features for each feature."""
        features = self.features[:, site] if self.features.ndim > 1 else self.features
        branches = tuple(branch.at(site) for branch in self.branches)
        return dataclasses.replace(self, features=features, branches=branches)

    def same_as(self, other: "Stage") -> bool:
        """Return whether both stages are the same layer's treatment of the same features."""
        same = np.array_equal(self.features, other.features)
        return same and self.call.path == other.call.path


@dataclasses.dataclass(frozen=True, eq=False)
class Piece:
    """Features of one tensor that are units of one producer, or of several that were joined.

    Attributes:
        source: Path of the producer, of the first one if several were joined; once the groups are
            known, the name of their group.
        columns: Int array, shape `(features,)`: positions along the tensor's feature axis.
        units: Int array, shape `(features,)`: the producer's unit at each of them.
        stages: The layers in between, from the producer (or the joining layer) on.
        paddings: How often zeros were put beside the units on the way.
    """

    source: str
    columns: np.ndarray
    units: np.ndarray
    stages: tuple[Stage, ...] = ()
    paddings: int = 0

    @property
    def width(self) -> int:
        """Number of features."""
        return len(self.columns)

    @property
    def sites(self) -> int:
        """Number of columns of the producer that are one feature now; 1 without a Reshape."""
        return max(stage.sites for stage in self.stages)

    def at(self, site: int) -> "Piece":
        """Return this piece with one column of the producer for each feature."""
        if self.sites == 1:
            return self
        stages = tuple(stage.at(site) for stage in self.stages)
        return dataclasses.replace(self, stages=stages)

    def take(self, features: np.ndarray, columns: np.ndarray) -> "Piece":
        """Select features of this piece and place them at new columns.

        Args:
            features: Int array, shape `(selected,)`: positions in `self.columns`.
            columns: Int array, shape `(selected,)`: where each one is in the new tensor.
        """
        stages = tuple(
            dataclasses.replace(stage, features=stage.features[features]) for stage in self.stages
        )
        return dataclasses.replace(self, columns=columns, units=self.units[features], stages=stages)

    def through(self, rule: StageRule, call: Call) -> "Piece":
        """Return this piece behind one more layer, whose features are the tensor's columns."""
        stage = Stage(rule, call, self.columns, self.paddings)
        return dataclasses.replace(self, stages=(*self.stages, stage))

    def by_unit(self, units: int) -> np.ndarray:
        """Return the positions in `columns` sorted by unit: int array, `(units, positions)`.

        Args:
            units: Number of units that the producer has.

        Raises:
            ValueError: If some unit is missing or occurs more often than another.
        """
        order = np.argsort(self.units, kind="stable")
        counts = np.bincount(self.units, minlength=units)
        if np.any(counts != counts[0]) or counts[0] == 0:
            raise ValueError("some of its units are left out, or repeated more often than others")
        return order.reshape(units, counts[0])

    def sources(self) -> set[str]:
        """Return the producers of these units, including all that were joined on the way."""
        paths = {self.source}
        for stage in self.stages:
            for branch in stage.branches:
                paths |= branch.sources()
        return paths

    def history(self) -> Iterator[Stage]:
        """Iterate over all stages, including those in front of a joining layer."""
        for stage in self.stages:
            for branch in stage.branches:
                yield from branch.history()
            yield stage


@dataclasses.dataclass(frozen=True, eq=False)
class Stream:
    """Features of one tensor.

    Attributes:
        axis: Index of the feature axis, the batch axis counted: 1 or more.
        width: Number of features along it.
        pieces: The features that are units of some producer. All other features are never pruned.
    """

    axis: int
    width: int
    pieces: tuple[Piece, ...] = ()

    def take(self, source: np.ndarray, axis: int) -> "Stream":
        """Return the stream whose feature `i` is the feature `source[i]` of this one."""
        pieces = []
        for piece in self.pieces:
            position_of_column = np.full(self.width, -1)
            position_of_column[piece.columns] = np.arange(len(piece.columns))
            positions = position_of_column[source]
            columns = np.flatnonzero(positions >= 0)
            pieces.append(piece.take(positions[columns], columns))
        return Stream(axis, len(source), tuple(pieces))

    def through(self, rule: StageRule, call: Call) -> "Stream":
        """Return this stream behind a layer that treats each feature by itself."""
        pieces = tuple(piece.through(rule, call) for piece in self.pieces)
        return dataclasses.replace(self, pieces=pieces)

    def beside_zeros(self) -> "Stream":
        """Return this stream behind zero padding."""
        pieces = tuple(
            dataclasses.replace(piece, paddings=piece.paddings + 1) for piece in self.pieces
        )
        return dataclasses.replace(self, pieces=pieces)

    def lines_up_with(self, other: "Stream") -> bool:
        """Return whether both hold the same unit numbers at the same features.

        The producers may differ.
        """
        return (
            self.axis == other.axis
            and self.width == other.width
            and len(self.pieces) == len(other.pieces)
            and all(
                np.array_equal(a.columns, b.columns) and np.array_equal(a.units, b.units)
                for a, b in zip(self.pieces, other.pieces, strict=True)
            )
        )

    def renamed(self, names: Mapping[str, str]) -> "Stream":
        """Return this stream with the sources of its pieces replaced."""
        pieces = tuple(
            dataclasses.replace(piece, source=names.get(piece.source, piece.source))
            for piece in self.pieces
        )
        return dataclasses.replace(self, pieces=pieces)

    def kept(self, kept_units: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return which features are kept: bool array, shape `(width,)`.

        Args:
            kept_units: Indices of the kept units by source; a source not named keeps all units.
        """
        mask = np.ones(self.width, bool)
        for piece in self.pieces:
            if piece.source in kept_units:
                mask[piece.columns] = np.isin(piece.units, kept_units[piece.source])
        return mask
