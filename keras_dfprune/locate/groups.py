"""What `locate` finds in a model: groups of units, what is cut along with them, and refusals."""

import dataclasses

import numpy as np

from keras_dfprune.graph.calls import Call, Tensor
from keras_dfprune.rules.base import Rule, UnitRule
from keras_dfprune.rules.features import Piece, Stage, Stream
from keras_dfprune.rules.layer_state import Cut


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
    """One call of a consumer, as the units of a group reach it.

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
    """Units that are pruned together: their producers and everything that they pass.

    Several producers are one group where their units are joined feature by feature (a residual
    Add): unit `u` of the group is unit `u` of each.

    Attributes:
        producers: The producing layers, in the order of the graph.
        units: Number of units.
        inlets: All calls that consume the units.
        seams: One inlet for each way in which units reach their consumers: inlets that see the
            same values at their seams count once.
        places: For each of `inlets`, which of `seams` it stands for.
        averages: Whether a kept unit can get a weighted sum of several weight-sets: there is one
            producer, not frozen, and one seam, and what is constant in front of the activation
            has a place.
        normalization: The BatchNormalization behind a producer without bias that stands in for
            it; else None.
    """

    producers: tuple[LayerFeatures, ...]
    units: int
    inlets: tuple[Inlet, ...]
    seams: tuple[Inlet, ...]
    places: tuple[int, ...]
    averages: bool = False
    normalization: Call | None = None

    @property
    def name(self) -> str:
        """Path of the first producer."""
        return self.producers[0].path

    @property
    def layers(self) -> tuple[str, ...]:
        """Paths of all producers."""
        return tuple(producer.path for producer in self.producers)

    @property
    def levels(self) -> bool:
        """Whether a constant can be added to the units in front of their activation."""
        producer = self.producers[0]
        bias = producer.rule.has_bias(producer.call.operation)
        return self.averages and (bias or self.normalization is not None)

    @property
    def offset_allowed(self) -> bool:
        """Whether a constant can be carried to every consumer, beside padding only nearly so."""
        placed = all(not inlet.padded or inlet.normalization for inlet in self.inlets)
        return placed and len(self.seams) == 1  # at another seam it is another constant

    @property
    def offset_exact(self) -> bool:
        """Whether a unit without incoming weights is the same constant at every position."""
        stages = [stage for inlet in self.inlets for stage in inlet.piece.history()]
        uneven = any(stage.rule.spatial or stage.branches for stage in stages)
        padded = any(inlet.padded for inlet in self.inlets)
        return not uneven and not padded and len(self.seams) == 1


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
        normalized: Scale and shift of the LayerNormalization whose output a producer sees
            unchanged, by the producer's path.
    """

    groups: dict[str, UnitGroup]
    refusals: tuple[Refusal, ...]
    layers: dict[str, LayerFeatures]
    origins: dict[str, str]
    normalized: dict[str, tuple[np.ndarray, np.ndarray]]
    tied: frozenset[str]


def cut_of(record: LayerFeatures, kept: dict[str, np.ndarray]) -> Cut:
    """Which features of a layer stay when the groups keep these units."""
    masks = []
    for stream in (record.inputs, record.outputs):
        mask = None if stream is None else stream.kept(kept)
        masks.append(None if mask is None or mask.all() else mask)
    return Cut(masks[0], masks[1], 0 if record.inputs is None else record.inputs.axis)


def is_cut(cut: Cut) -> bool:
    """Whether any features go."""
    return cut.inputs is not None or cut.outputs is not None
