"""Hold what a plan says. `api/pruning_plan.py` adds the verbs."""

import dataclasses
from typing import Any

from keras_dfprune.graph.fingerprint import LayerDigests
from keras_dfprune.locate.groups import Refusal
from keras_dfprune.planning.group_plan import GroupPlan
from keras_dfprune.planning.measure import OutputChange


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
        notes: Further sentences for the report.
        measured: Change of each output by the cut, before recovery. Empty where the cut changes
            nothing.
        refine_steps: Steps of recovery after the cut, 0 for none.
        seed: Seed of the draws.
        used_data: Whether the caller gave rows. They are not stored.
    """

    groups: tuple[GroupPlan, ...]
    refusals: tuple[Refusal, ...]
    parameters: tuple[int, int]
    method: dict[str, Any]
    model_name: str
    fingerprint: LayerDigests
    notes: tuple[str, ...] = ()
    measured: tuple[OutputChange, ...] = ()
    refine_steps: int = 0
    seed: int = 0
    used_data: bool = False
