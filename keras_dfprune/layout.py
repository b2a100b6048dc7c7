"""What `locate` finds in a model: groups of units, what is cut along with them, and refusals."""

import dataclasses

import numpy as np

from keras_dfprune.graph import Call, Tensor
from keras_dfprune.rules.base import Rule, UnitRule
from keras_dfprune.streams import Piece, Stage, Stream


@dataclasses.dataclass(frozen=True)
class Refusal:
    """A layer left whole, and why.

    Attributes:
        layer: Path of the layer.
        reason: A sentence without its full stop.
    """

    layer: str
    reason: str


@dataclasses.dataclass(frozen=True, eq=False)
class LayerFeatures:
    """A layer whose variables, config or arguments depend on the features around it.

    Attributes:
        call: Its first call.
        rule: Its rule.
        inputs: Features of its input; None where they are all fixed.
        outputs: Features of its output, for a producer.
    """

    call: Call
    rule: Rule
    inputs: Stream | None
    outputs: Stream | None

    @property
    def path(self) -> str:
        return self.call.path


@dataclasses.dataclass(frozen=True, eq=False)
class Inlet:
    """One call of a consumer, as one producer's units reach it.

    Attributes:
        call: The call of the consumer.
        rule: The consumer's rule.
        piece: The features of its input that are the group's units.
        order: Positions in `piece` by unit: int array, shape `(units, positions)`.
        selected: Stages up to the seam: they are only cut.
        carried: Stages behind the seam: affine ones that scale the outgoing weights.
        normalization: The BatchNormalization directly behind a consumer that has no bias, or
            pads with zeros: it takes an offset in the consumer's place. Else None.
        seam: The tensor at the seam.
        seam_axis: Its feature axis.
        seam_columns: Its features, by unit: int array, shape `(units, positions)`.
        padded: Whether zeros stand beside the units, where an offset isn't constant.
    """

    call: Call
    rule: UnitRule
    piece: Piece
    order: np.ndarray
    selected: tuple[Stage, ...]
    carried: tuple[Stage, ...]
    normalization: Call | None
    seam: Tensor
    seam_axis: int
    seam_columns: np.ndarray
    padded: bool

    @property
    def columns(self) -> np.ndarray:
        """The consumer's input features, by unit: int array, shape `(units, positions)`."""
        return self.piece.columns[self.order]


@dataclasses.dataclass(frozen=True, eq=False)
class UnitGroup:
    """Units that are pruned together: a producer and everything its units pass.

    Attributes:
        name: Path of the producer.
        producer: A call of it.
        rule: Its rule.
        units: Number of units.
        inlets: All calls that consume the units.
    """

    name: str
    producer: Call
    rule: UnitRule
    units: int
    inlets: tuple[Inlet, ...]

    @property
    def offset_allowed(self) -> bool:
        """Whether a constant can be carried to every consumer, beside padding only nearly so."""
        return all(not inlet.padded or inlet.normalization for inlet in self.inlets)

    @property
    def offset_exact(self) -> bool:
        """Whether a constant stays one at every position."""
        spatial = any(stage.rule.spatial for inlet in self.inlets for stage in inlet.selected)
        return not spatial and not any(inlet.padded for inlet in self.inlets)


@dataclasses.dataclass(frozen=True, eq=False)
class Layout:
    """What can be pruned in a model.

    Attributes:
        groups: In the order of the graph, by name.
        refusals: All other layers that have units, with the reason.
        layers: Everything that is cut along with a group, by path.
        tied: Paths of layers that hold variables together, which have to stay the same objects.
        origins: Name of the model input that a producer sees unchanged (flattened at most), by
            the producer's path.
    """

    groups: dict[str, UnitGroup]
    refusals: tuple[Refusal, ...]
    layers: dict[str, LayerFeatures]
    origins: dict[str, str]
    tied: frozenset[str]
