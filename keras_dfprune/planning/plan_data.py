"""Hold what a plan says. `api/pruning_plan.py` adds the verbs."""

import dataclasses
from typing import Any

from keras_dfprune.graph.fingerprint import LayerDigests
from keras_dfprune.locate.groups import Refusal
from keras_dfprune.planning.group_plan import GroupPlan
from keras_dfprune.planning.measure import OutputChange
from keras_dfprune.planning.width_count import MULTIPLY_ADDS, WidthCount


@dataclasses.dataclass(frozen=True, eq=False)
class PlanData:
    """Units to remove from a model: everything that a plan's file holds.

    Attributes:
        groups: A `GroupPlan` for each group that was asked for, in the order of the graph.
        refusals: A `Refusal` for each layer that can't be pruned.
        parameters: Parameters of the model before and after, biases included.
        method: Name and settings of the method, JSON-serialisable.
        model_name: Name of the model.
        fingerprint: Digests of the model's weights, by layer.
        counts: A `WidthCount` of the parameters, with all biases that consumers may get, and one
            of the multiply-adds where these are known.
        notes: Further sentences for the report.
        measured: Change of each output by the cut, before recovery. Empty where the cut changes
            nothing.
        refine_steps: Steps of recovery after the cut, 0 for none.
        seed: Seed of the draws.
        used_data: Whether the caller gave rows. They are not stored.
        shared_out: Whether a budget for the whole model was shared out, so that all curves are
            those of the original weights.
    """

    groups: tuple[GroupPlan, ...]
    refusals: tuple[Refusal, ...]
    parameters: tuple[int, int]
    method: dict[str, Any]
    model_name: str
    fingerprint: LayerDigests
    counts: tuple[WidthCount, ...] = ()
    notes: tuple[str, ...] = ()
    measured: tuple[OutputChange, ...] = ()
    refine_steps: int = 0
    seed: int = 0
    used_data: bool = False
    shared_out: bool = False

    @property
    def multiply_adds(self) -> tuple[int, int] | None:
        """Multiply-adds of one row before and after; None where a length is unknown."""
        kept = {group.layer: len(group.kept) for group in self.groups}
        for count in self.counts:
            if count.noun == MULTIPLY_ADDS:
                return count.total({}), count.total(kept)
        return None
