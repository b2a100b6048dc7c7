"""Find the dimensions of attention heads that can be pruned, the same number in each head."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from keras_dfprune.graph.calls import Call, Tensor
from keras_dfprune.rules.heads import HeadsRule


@dataclasses.dataclass(frozen=True, eq=False)
class HeadGroup:
    """Dimensions of the heads of an attention layer, of which every head loses equally many.

    Attributes:
        calls: All calls of the layer.
        rule: The layer's rule.
        kind: The kind of the dimensions, a name of the rule.
        units: Number of dimensions of each head.
        known: Scale and shift of the LayerNormalization that an input of the layer comes from.
    """

    calls: tuple[Call, ...]
    rule: HeadsRule
    kind: str
    units: int
    known: Mapping[Tensor, tuple[np.ndarray, np.ndarray]]

    @property
    def path(self) -> str:
        """Path of the layer."""
        return self.calls[0].path

    @property
    def name(self) -> str:
        """Path of the layer with the kind behind it."""
        return f"{self.path}/{self.kind}"

    @property
    def layers(self) -> tuple[str, ...]:
        """Path of the layer."""
        return (self.path,)

    @property
    def block_count(self) -> int:
        """Number of blocks: all dimensions of a head can be mixed."""
        return 1

    @property
    def keeps_mean(self) -> bool:
        """True if the mean of the left side is a constant of the outputs in every call."""
        return all(self.rule.keeps_mean(call, self.kind) for call in self.calls)


def find_head_groups(
    rule: HeadsRule, calls: Sequence[Call], known: Mapping[Tensor, tuple[np.ndarray, np.ndarray]]
) -> dict[str, HeadGroup]:
    """Find the groups of dimensions of a layer's heads, by kind.

    Args:
        rule: The layer's rule.
        calls: All calls of the layer.
        known: Scale and shift of each tensor behind a LayerNormalization.
    """
    return {
        kind: HeadGroup(tuple(calls), rule, kind, units, known)
        for kind, units in rule.dimensions(calls[0].operation).items()
        if units > 1
    }
