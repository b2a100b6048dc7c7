"""Hold what is located in a model: groups of units, the layers cut with them, and refusals."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping

import numpy as np

from keras_dfprune.graph.calls import Call, Tensor
from keras_dfprune.locate.head_groups import HeadGroup
from keras_dfprune.rules.base import Rule
from keras_dfprune.rules.features import Piece, Stage, Stream
from keras_dfprune.rules.kernels import ConsumerRule, ProducerRule
from keras_dfprune.rules.layer_state import Cut


@dataclasses.dataclass(frozen=True)
class Refusal:
    """Layer that is left whole, with the reason.

    Attributes:
        layer: Path of the layer.
        reason: A sentence without its full stop.
    """

    layer: str
    reason: str


@dataclasses.dataclass(frozen=True, eq=False)
class LayerFeatures:
    """Layer whose variables, config or arguments depend on the features around it.

    Attributes:
        call: The layer's first call.
        rule: The layer's rule.
        inputs: Features of the input, or None where they are all fixed.
        outputs: Features of the output, or None where they are all fixed. Of a producer its units,
            each once: they may be features of several outputs, and several features of one.
        heads: Groups of the dimensions of its heads, by kind.
    """

    call: Call
    rule: Rule
    inputs: Stream | None
    outputs: Stream | None
    heads: Mapping[str, HeadGroup] = dataclasses.field(default_factory=dict, kw_only=True)

    @property
    def path(self) -> str:
        """Path of the layer."""
        return self.call.path


@dataclasses.dataclass(frozen=True, eq=False)
class ProducerFeatures(LayerFeatures):
    """`LayerFeatures` of a producer."""

    rule: ProducerRule
    outputs: Stream

    @property
    def has_bias(self) -> bool:
        """True if the layer has a bias."""
        return self.rule.has_bias(self.call.operation)

    @property
    def units(self) -> int:
        """Number of units; a Reshape can make one unit of several columns of the layer."""
        return int(self.outputs.pieces[0].units.max()) + 1


@dataclasses.dataclass(frozen=True, eq=False)
class SeamFeatures:
    """Features of the tensor at a seam.

    Attributes:
        tensor: The tensor.
        axis: Its feature axis, the batch axis counted.
        columns: Its features by unit: int array, shape `(units, positions)`, or
            `(units, positions, sites)` for all sites of a unit.
    """

    tensor: Tensor
    axis: int
    columns: np.ndarray

    def at(self, site: int) -> "SeamFeatures":
        """Return the features at one site."""
        columns = self.columns[:, :, site] if self.columns.ndim > 2 else self.columns
        return dataclasses.replace(self, columns=columns)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Inlet:
    """Call of a consumer, as the units of a group reach it.

    Attributes:
        call: The call of the consumer.
        rule: The consumer's rule.
        piece: The features of its input that are the group's units.
        order: Positions in `piece` by unit: int array, shape `(units, positions)`.
        selected: Stages before the seam. They are only cut.
        carried: Stages behind the seam: affine ones, which scale the outgoing weights.
        normalization: The BatchNormalization directly behind a consumer that has no bias, or that
            pads with zeros. It takes an offset instead of the consumer. None for others, and
            where zeros between the inputs leave no constant at all.
        seam: The features at the seam.
        padded: Whether zeros stand beside the units behind the seam, so that an offset isn't
            constant.
        recurrent: Whether the consumer is the producer itself, which takes in its own units of the
            step before. An offset can't pass there: the state that it starts from has none.
    """

    call: Call
    rule: ConsumerRule
    piece: Piece
    order: np.ndarray
    selected: tuple[Stage, ...]
    carried: tuple[Stage, ...]
    normalization: Call | None
    seam: SeamFeatures
    padded: bool
    recurrent: bool = False

    @property
    def kernels(self) -> tuple[str, bool]:
        """Key of the kernels that consume: those of one layer for its input, or its own units."""
        return self.call.path, self.recurrent

    @property
    def columns(self) -> np.ndarray:
        """Input features of the consumer by unit: int array, shape `(units, positions)`."""
        return self.piece.columns[self.order]

    def at_each_site(self) -> Iterator["Inlet"]:
        """Iterate over the inlet as it is at each site of the units."""
        for site in range(self.piece.sites):
            yield dataclasses.replace(
                self,
                piece=self.piece.at(site),
                selected=tuple(stage.at(site) for stage in self.selected),
                seam=self.seam.at(site),
            )


@dataclasses.dataclass(frozen=True, eq=False)
class UnitGroup:
    """Units that are pruned together: their producers and the layers that they pass.

    Several producers are one group where their units are joined feature by feature (a residual
    Add): unit `u` of the group is unit `u` of each producer.

    Attributes:
        producers: The producing layers, in the order of the graph.
        units: Number of units.
        inlets: All calls that consume the units.
        seams: One inlet for each seam. Inlets that see the same values share a seam. Units that a
            Reshape spreads over positions have a seam for each site.
        seam_numbers: The positions in `seams` of each inlet's seams.
        blocks: Int array, shape `(units,)`: the block of each unit, from 0 on. Units take over for
            each other only within their block, and all blocks lose equally many. One block, but
            for layers that split their channels into groups.
        averages: Whether a kept unit can get a weighted sum of several weight-sets. It can if there
            is one producer, which isn't frozen, and one seam, and a constant in front of the
            activation has a bias to go to.
        normalization: The BatchNormalization behind a producer without bias that takes the constant
            instead, or None.
    """

    producers: tuple[ProducerFeatures, ...]
    units: int
    inlets: tuple[Inlet, ...]
    seams: tuple[Inlet, ...]
    seam_numbers: tuple[tuple[int, ...], ...]
    blocks: np.ndarray
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
    def block_count(self) -> int:
        """Number of blocks."""
        return int(self.blocks.max()) + 1

    def units_of(self, block: int) -> np.ndarray:
        """Return the units of a block: int array, ascending."""
        return np.flatnonzero(self.blocks == block)

    def block_name(self, block: int) -> str:
        """Return the name by which methods know a block: that of the group if it is the only."""
        return self.name if self.block_count == 1 else f"{self.name}[{block}]"

    @property
    def levels(self) -> bool:
        """True if a constant can be added to the units in front of their activation."""
        return self.averages and (self.producers[0].has_bias or self.normalization is not None)

    @property
    def offset_allowed(self) -> bool:
        """True if every consumer can take a constant, if only approximately beside padding."""
        taken = all(
            not inlet.recurrent and (not inlet.padded or inlet.normalization)
            for inlet in self.inlets
        )
        return taken and len(self.seams) == 1  # At another seam the constant is another one.

    @property
    def offset_exact(self) -> bool:
        """True if every consumer can take a constant that is the same at every position."""
        exact = not any(inlet.padded or inlet.recurrent for inlet in self.inlets)
        return exact and len(self.seams) == 1

    @property
    def edited_inlets(self) -> list[Inlet]:
        """Inlets without further calls of a shared consumer: each kernel is edited once."""
        first: dict[tuple[str, bool], Call] = {}
        for inlet in self.inlets:
            first.setdefault(inlet.kernels, inlet.call)
        return [inlet for inlet in self.inlets if first[inlet.kernels] is inlet.call]


Group = UnitGroup | HeadGroup  # what is pruned together


@dataclasses.dataclass(frozen=True, eq=False)
class Layout:
    """Everything that can be pruned in a model, and what can't.

    Attributes:
        groups: The groups of units by name, in the order of the graph.
        heads: The groups of dimensions of attention heads, likewise.
        refusals: All other layers that have units, with the reason.
        layers: Every layer that is cut along with a group, by path.
        origins: Name of the model input that a producer gets unchanged (flattened at most), by the
            producer's path.
        normalized: Scale and shift of the LayerNormalization whose output a producer gets
            unchanged, by the producer's path.
        tied: Paths of layers that share variables with each other. They stay the same objects.
    """

    groups: dict[str, UnitGroup]
    heads: dict[str, HeadGroup]
    refusals: tuple[Refusal, ...]
    layers: dict[str, LayerFeatures]
    origins: dict[str, str]
    normalized: dict[str, tuple[np.ndarray, np.ndarray]]
    tied: frozenset[str]

    @functools.cached_property
    def prunable(self) -> dict[str, Group]:
        """Groups of both kinds by name, in the order of the graph."""
        position = {path: number for number, path in enumerate(self.layers)}
        groups: list[Group] = [*self.groups.values(), *self.heads.values()]
        groups.sort(key=lambda group: position[group.layers[0]])
        return {group.name: group for group in groups}

    def inlets_of(self, call: Call) -> list[tuple[UnitGroup, Inlet]]:
        """Return where units reach a call, each with the group that they are of."""
        inlets = [(group, inlet) for group in self.groups.values() for inlet in group.inlets]
        return [(group, inlet) for group, inlet in inlets if inlet.call is call]


def cut_of(record: LayerFeatures, kept: Mapping[str, np.ndarray]) -> Cut:
    """Return which features of a layer stay when the groups keep these units."""
    masks = []
    for stream in (record.inputs, record.outputs):
        mask = None if stream is None else stream.kept(kept)
        masks.append(None if mask is None or mask.all() else mask)
    axis, output_axis = (
        0 if stream is None else stream.axis for stream in (record.inputs, record.outputs)
    )
    dimensions = {
        kind: np.isin(np.arange(group.units), kept[group.name])
        for kind, group in record.heads.items()
        if len(kept.get(group.name, ())) not in (0, group.units)
    }
    return Cut(masks[0], masks[1], axis, output_axis, dimensions)


def is_cut(cut: Cut) -> bool:
    """Return whether any features go, or dimensions of heads."""
    return cut.inputs is not None or cut.outputs is not None or bool(cut.dimensions)
