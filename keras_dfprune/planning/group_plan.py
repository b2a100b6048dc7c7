"""Hold what a plan says about one group: which units go, and which units replace them."""

import dataclasses

import numpy as np

from keras_dfprune.methods.merge import Removal, SurvivorMerge

SALIENCY = "saliency"
PREDICTED = "expected squared change of the consumers' outputs"
UNITS, DIMENSIONS = "units", "dimensions"


@dataclasses.dataclass(frozen=True, eq=False)
class GroupCurve:
    """Order in which the units of a group can go, and what each removal costs.

    Attributes:
        order: Int array, shape `(removals,)`: the units in the order of their removal, normally
            all but one.
        costs: Float64 array, shape `(removals,)`: the cost of each removal.
        measure: Name of the costs' unit of measure: `"saliency"` (Srinivas & Babu 2015, Eq. 8), or
            the expected squared change of the consumers' outputs.
        scale: Positive number that the costs are divided by when groups are compared. Where the
            costs are expected squared changes it is the variance.
        lossless: How many of the first removals change nothing.
        automatic: How many removals a method with a cut-off of its own makes, or None.
        cutoff: Cost at which it stops, or None.
        histogram: Counts, shape `(bins,)`, and bin edges, shape `(bins + 1,)`, from which `cutoff`
            was read; or None.
    """

    order: np.ndarray
    costs: np.ndarray
    measure: str = SALIENCY
    scale: float = 1.0
    lossless: int = 0
    automatic: int | None = None
    cutoff: float | None = None
    histogram: tuple[np.ndarray, np.ndarray] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class GroupPlan:
    """Plan of one group of units, or of the dimensions of attention heads.

    Attributes:
        layer: Path of the first producer. For dimensions of heads the path of the attention layer
            with `/query_key` or `/value` behind it.
        layers: Paths of all producers.
        units: Number of units before pruning, or of dimensions of each head.
        merge: The `UnitMerge`, or the maps of the heads.
        parameters: Parameters of the producers before and after, biases included. For dimensions
            of heads those of the kernels and biases that get smaller with them.
        curve: The order and the costs of all removals. The first `len(removed)` are those of the
            units that go.
        predicted_error: Expected squared change over the variance at the group's consumers, or
            None where the method predicts none.
        note: A sentence for the report, or None.
        multiple: Number that the units that stay are a multiple of, if any goes.
        blocks: Number of blocks of units that lose equally many: `multiple` is a multiple of it.
        kind: `"units"`, or `"dimensions"` of attention heads.
    """

    layer: str
    layers: tuple[str, ...]
    units: int
    merge: Removal
    parameters: tuple[int, int]
    curve: GroupCurve
    predicted_error: float | None = None
    note: str | None = None
    multiple: int = 1
    blocks: int = 1
    kind: str = UNITS

    @property
    def saliency(self) -> np.ndarray:
        """Cost of each removal, normally down to one unit: float array, shape `(removals,)`."""
        return self.curve.costs

    @property
    def cutoff(self) -> float | None:
        """Cost at which the automatic cut-off lies, or None."""
        return self.curve.cutoff

    @property
    def histogram(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Counts and bin edges from which `cutoff` was read, or None."""
        return self.curve.histogram

    @property
    def changes_nothing(self) -> bool:
        """True if no unit goes, or only units whose removal changes nothing."""
        return len(self.removed) <= self.curve.lossless

    def on_other_weights(self) -> "GroupPlan":
        """Return the same cut for other weights, where no removal counts as lossless."""
        curve = dataclasses.replace(self.curve, lossless=0)
        return dataclasses.replace(self, curve=curve, predicted_error=None)

    @property
    def kept(self) -> np.ndarray:
        """Units that stay: int array, shape `(kept,)`, ascending."""
        return self.merge.kept

    @property
    def removed(self) -> np.ndarray:
        """Units that go, in the order of their removal: int array, shape `(removed,)`."""
        return self.merge.removed

    @property
    def survivor(self) -> np.ndarray:
        """Kept unit that replaces each removed one, -1 for none or several: shape `(removed,)`."""
        if not isinstance(self.merge, SurvivorMerge):
            return np.full(len(self.removed), -1)
        return np.where(self.merge.survivor >= 0, self.kept[self.merge.survivor], -1)
