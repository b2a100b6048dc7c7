"""Hold what a plan says about one group: which units go, and which units replace them."""

import dataclasses

import numpy as np

from keras_dfprune.methods.merge import SurvivorMerge, UnitMerge


@dataclasses.dataclass(frozen=True, eq=False)
class GroupPlan:
    """Plan of one group of units.

    Attributes:
        layer: Path of the first producer.
        layers: Paths of all producers.
        units: Number of units before pruning.
        merge: The `UnitMerge`.
        parameters: Parameters of the producers before and after, biases included.
        saliency: Float array: cost of each removal along the whole path, normally down to one
            unit. The first `len(removed)` entries belong to the units that go.
        cutoff: Cost at which the automatic cut-off lies, or None.
        predicted_error: Expected squared change over the variance at the group's consumers, or
            None where the method predicts none.
        histogram: Counts and bin edges from which `cutoff` was read, or None.
        note: A sentence for the report, or None.
        lossless: How many of the first removals change nothing.
    """

    layer: str
    layers: tuple[str, ...]
    units: int
    merge: UnitMerge
    parameters: tuple[int, int]
    saliency: np.ndarray
    cutoff: float | None = None
    predicted_error: float | None = None
    histogram: tuple[np.ndarray, np.ndarray] | None = None
    note: str | None = None
    lossless: int = 0

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
