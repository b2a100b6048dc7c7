"""What is known of the features of a tensor: which unit each of them is, and how it got there.

Every feature along one axis of a tensor is traced back to the unit that produced it. A carrier
that copies, repeats or reorders features (Flatten, Concatenate) is one index array.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Stage:
    """One layer that features went through one by one, with parameters for each.

    Attributes:
        rule: Its rule, which knows the stage's effect.
        call: The call.
        features: Int array, shape `(features,)`: which of the layer's own features each one was.
        padded: Whether it sees zeros beside the units.
        branches: For a layer that joins several tensors feature by feature: the piece that came
            in by each of them, in whose place this stage begins a new piece. Else empty.
    """

    rule: Any
    call: Any
    features: np.ndarray
    padded: bool = False
    branches: tuple["Piece", ...] = ()

    def same_as(self, other: "Stage") -> bool:
        """Whether both are the same layer's treatment of the same features."""
        same = np.array_equal(self.features, other.features)
        return same and self.call.path == other.call.path


@dataclasses.dataclass(frozen=True, eq=False)
class Piece:
    """Features of one tensor that are units of one producer, or of several that were joined.

    Attributes:
        source: Path of the producer, the first of them; once the groups are known, their name.
        columns: Int array, shape `(features,)`: positions along the tensor's feature axis.
        units: Int array, shape `(features,)`: the producer's unit at each of them.
        stages: The layers in between, from the producer (or the joining layer) on.
        padded: Whether zeros were put beside the units on the way.
    """

    source: str
    columns: np.ndarray
    units: np.ndarray
    stages: tuple[Stage, ...] = ()
    padded: bool = False

    @property
    def width(self) -> int:
        """Number of features."""
        return len(self.columns)

    def take(self, features: np.ndarray, columns: np.ndarray) -> "Piece":
        """The chosen features of this piece, at new columns."""
        stages = tuple(
            dataclasses.replace(stage, features=stage.features[features]) for stage in self.stages
        )
        return dataclasses.replace(self, columns=columns, units=self.units[features], stages=stages)

    def through(self, rule: Any, call: Any) -> "Piece":
        """This piece behind one more stage, whose features are the tensor's columns."""
        stage = Stage(rule, call, self.columns, self.padded)
        return dataclasses.replace(self, stages=(*self.stages, stage))

    def by_unit(self, units: int) -> np.ndarray:
        """Positions in `columns` sorted by unit: int array, shape `(units, positions)`.

        Args:
            units: Number of units that the producer has.

        Raises:
            ValueError: Where they don't all occur, and equally often.
        """
        order = np.argsort(self.units, kind="stable")
        counts = np.bincount(self.units, minlength=units)
        if np.any(counts != counts[0]) or counts[0] == 0:
            raise ValueError("some of its units are left out")
        return order.reshape(units, counts[0])

    def sources(self) -> set[str]:
        """The producers of these units: all that were joined on the way."""
        found = {self.source}
        for stage in self.stages:
            for branch in stage.branches:
                found |= branch.sources()
        return found

    def history(self) -> Iterator[Stage]:
        """All stages, those before a joining layer included."""
        for stage in self.stages:
            for branch in stage.branches:
                yield from branch.history()
            yield stage


@dataclasses.dataclass(frozen=True, eq=False)
class Stream:
    """The features of one tensor.

    Attributes:
        axis: Index of the feature axis, the batch axis counted: 1 or more.
        width: Number of features along it.
        pieces: The features that are units of some producer; all others stay as they are.
    """

    axis: int
    width: int
    pieces: tuple[Piece, ...] = ()

    def take(self, source: np.ndarray, axis: int) -> "Stream":
        """The stream whose feature `i` is this one's feature `source[i]`."""
        pieces = []
        for piece in self.pieces:
            lookup = np.full(self.width, -1)
            lookup[piece.columns] = np.arange(len(piece.columns))
            found = lookup[source]
            columns = np.flatnonzero(found >= 0)
            pieces.append(piece.take(found[columns], columns))
        return Stream(axis, len(source), tuple(pieces))

    def through(self, rule: Any, call: Any) -> "Stream":
        """This stream behind a layer that treats feature by feature."""
        pieces = tuple(piece.through(rule, call) for piece in self.pieces)
        return dataclasses.replace(self, pieces=pieces)

    def beside_zeros(self) -> "Stream":
        """This stream with zeros put beside its positions."""
        pieces = tuple(dataclasses.replace(piece, padded=True) for piece in self.pieces)
        return dataclasses.replace(self, pieces=pieces)

    def lines_up_with(self, other: "Stream") -> bool:
        """Whether both hold as many units in the same places, if of different producers."""
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
        """This stream with the sources of its pieces replaced."""
        pieces = tuple(
            dataclasses.replace(piece, source=names.get(piece.source, piece.source))
            for piece in self.pieces
        )
        return dataclasses.replace(self, pieces=pieces)

    def kept(self, kept_units: dict[str, np.ndarray]) -> np.ndarray:
        """Which features stay: bool array, shape `(width,)`.

        Args:
            kept_units: Indices of the kept units by producer; producers not named stay whole.
        """
        stays = np.ones(self.width, bool)
        for piece in self.pieces:
            if piece.source in kept_units:
                stays[piece.columns] = np.isin(piece.units, kept_units[piece.source])
        return stays
