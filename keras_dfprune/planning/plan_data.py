"""Hold what a plan says. `api/pruning_plan.py` adds the verbs."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from keras_dfprune.graph.fingerprint import LayerDigests
from keras_dfprune.locate.groups import Refusal
from keras_dfprune.planning.group_plan import GroupPlan


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
        refinement: Settings of the refinement after the merge, or None for none.
    """

    groups: tuple[GroupPlan, ...]
    refusals: tuple[Refusal, ...]
    parameters: tuple[int, int]
    method: dict[str, Any]
    model_name: str
    fingerprint: LayerDigests
    notes: tuple[str, ...] = ()
    refinement: Mapping[str, Any] | None = None
