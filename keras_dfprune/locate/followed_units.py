"""Hold the units of a graph and everything that they pass."""

import dataclasses

import numpy as np

from keras_dfprune.graph.calls import Call, Tensor
from keras_dfprune.graph.ownership import Ownership
from keras_dfprune.locate.groups import LayerFeatures
from keras_dfprune.rules.effects import Effect
from keras_dfprune.rules.features import Piece, Stream
from keras_dfprune.rules.kernels import ConsumerRule


@dataclasses.dataclass(frozen=True, eq=False)
class Arrival:
    """Units that arrive at one call of a consumer.

    Attributes:
        call: The call.
        rule: The consumer's rule.
        piece: The features of its input that are units.
        recurrent: Whether they are the consumer's own units of the step before.
    """

    call: Call
    rule: ConsumerRule
    piece: Piece
    recurrent: bool = False


@dataclasses.dataclass(eq=False)
class FollowedUnits:
    """Units of a graph and everything that they pass.

    Attributes:
        ownership: The operations that hold variables together with others.
        streams: The units in each tensor that holds any.
        effects: What an operation does to each unit, by its path.
        arrivals: The calls of consumers that units reach.
        records: The features around a layer that is cut, at each of its calls, by its path.
        producers: The first call of each layer that has units, by its path.
        reasons: Why a producer stays whole, or a layer with a kernel that no rule covers, by path.
        ties: The producers whose units stay or go together with a producer's, by its path.
        origins: For a tensor that holds the values of a model input, the input's name.
        normalized: For a tensor behind a LayerNormalization, the scale and shift of its features.
        users: The calls that take a tensor in.
        outputs: The tensors that the model returns.
    """

    ownership: Ownership
    streams: dict[Tensor, Stream] = dataclasses.field(default_factory=dict)
    effects: dict[str, Effect] = dataclasses.field(default_factory=dict)
    arrivals: list[Arrival] = dataclasses.field(default_factory=list)
    records: dict[str, list[LayerFeatures]] = dataclasses.field(default_factory=dict)
    producers: dict[str, Call] = dataclasses.field(default_factory=dict)
    reasons: dict[str, str] = dataclasses.field(default_factory=dict)
    ties: dict[str, set[str]] = dataclasses.field(default_factory=dict)
    origins: dict[Tensor, str] = dataclasses.field(default_factory=dict)
    normalized: dict[Tensor, tuple[np.ndarray, np.ndarray]] = dataclasses.field(
        default_factory=dict
    )
    users: dict[Tensor, list[Call]] = dataclasses.field(default_factory=dict)
    outputs: frozenset[Tensor] = frozenset()

    def tied_producers(self) -> list[list[str]]:
        """Return the producers that are tied to each other, in the order of the graph."""
        groups: list[list[str]] = []
        seen: set[str] = set()
        for path in self.producers:
            if path in seen:
                continue
            together, waiting = set(), [path]
            while waiting:
                producer = waiting.pop()
                if producer not in together:
                    together.add(producer)
                    waiting += self.ties.get(producer, ())
            groups.append([producer for producer in self.producers if producer in together])
            seen |= together
        return groups


def title(call: Call) -> str:
    """Name a call in a reason: path and type of the layer."""
    return f"{call.layer_path} ({type(call.layer).__name__})"
