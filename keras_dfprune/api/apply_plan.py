"""Prepare a plan for the model that it is applied to: its groups there, and rows of inputs."""

from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_dfprune.api.image_weights import image_weights
from keras_dfprune.api.open_model import locate_in_any
from keras_dfprune.graph.fingerprint import (
    find_digest_mismatch,
    layer_digests,
    matching_layers,
)
from keras_dfprune.inputs.rows import Rows
from keras_dfprune.locate.groups import Layout
from keras_dfprune.locate.locate import LocatedModel
from keras_dfprune.methods.base import Method
from keras_dfprune.methods.merge import CentroidMerge
from keras_dfprune.planning.gather_rows import gather_rows
from keras_dfprune.planning.group_plan import GroupPlan
from keras_dfprune.planning.plan_data import PlanData
from keras_dfprune.planning.request import read_request
from keras_dfprune.planning.reuse import rename_groups
from keras_dfprune.report.progress import Progress
from keras_dfprune.report.silence import without_keras_warnings
from keras_dfprune.report.warning import warn

if TYPE_CHECKING:
    from keras_dfprune.api.pruning_plan import PruningPlan


def images_for(plan: PlanData, model: keras.Model | None) -> dict[str, np.ndarray]:
    """Return the weight-sets of groups that read an image, as `image_weights`; {} without a model.

    Args:
        plan: The plan.
        model: The model that was planned for, or None.

    Raises:
        ValueError: If the plan was made for another model.
    """
    if model is None:
        return {}
    with without_keras_warnings():
        located = locate_in_any(model)
        groups_for(plan, located, reuse=False)
        return image_weights(located)


def groups_for(
    plan: PlanData, located: LocatedModel, reuse: bool
) -> tuple[tuple[GroupPlan, ...], bool]:
    """Return the groups under the paths of a model, and whether it needs other merges.

    It does if it has other weights, or frozen layers that can't get weighted sums.

    Args:
        plan: The plan.
        located: The model that it is applied to.
        reuse: Whether the model may have other weights.

    Raises:
        ValueError: If the plan was made for another model.
    """
    digests, groups = layer_digests(located.graph), plan.groups
    mismatch = find_digest_mismatch(plan.fingerprint, digests)
    names = matching_layers(plan.fingerprint, digests) if mismatch else None
    if names and reuse:
        groups, mismatch = rename_groups(groups, names), None
    mismatch = mismatch or _missing_group(groups, located.layout)
    if mismatch:
        hint = " Or give reuse=True, to remove the same units from this one." if names else ""
        raise ValueError(
            f"This plan was made for another model than '{located.model.name}': {mismatch}. "
            f"Make a new plan with `keras_dfprune.plan(model, ...)`.{hint}"
        )
    known = plan.fingerprint
    changed = any(known[path] != digests[other] for path, other in (names or {}).items())
    return groups, changed or (reuse and _needs_weighted_sums(groups, located.layout))


def rows_for(
    plan: "PruningPlan",
    located: LocatedModel,
    data: Any,
    method: Method | None,
    *,
    changed: bool,
    progress: Progress,
) -> Rows | None:
    """Return rows for recovery and, if a method is given, for new merges by it.

    Args:
        plan: The plan, with its own rows if it still has them.
        located: The model that it is applied to.
        data: The caller's rows, or None for those of the plan.
        method: The method that computes new merges; None where the plan's are used.
        changed: Whether the model has other weights than the one that was planned for.
        progress: Shows the search for inputs.

    Raises:
        ValueError: If the plan was made with rows that its file doesn't hold.
    """
    needs_rows = method is not None and method.found_inputs is not None
    if not plan.refine_steps and not needs_rows:
        return plan.rows
    if data is None and plan.rows is not None and not (changed and plan.rows.synthetic):
        return plan.rows.adapted(located.model)
    if data is None and plan.used_data:
        raise ValueError(
            "This plan was made with `data`, which its file doesn't hold. Give the rows again, "
            "to recover or to merge on: plan.apply(model, data=...)."
        )
    settings = {} if method is None else {"method": method}
    steps, seed = plan.refine_steps, plan.seed
    request = read_request(data=data, refine_steps=steps, seed=seed, **settings)
    return gather_rows(located, request, progress)


def tell_of_other_merges(plan: "PruningPlan", model: keras.Model, *, merges_are_new: bool) -> None:
    """Tell the caller which merges are used on a model with other weights.

    Args:
        plan: The plan.
        model: The model that it is applied to.
        merges_are_new: Whether the plan's method computed new ones.
    """
    if not merges_are_new:
        warn(
            f"method='{plan.method['name']}' is none of this package, so the plan's own merges "
            f"are used on the other weights of model '{model.name}'. They suit a copy that was "
            "trained a little further. For any other model make a new plan."
        )
    elif plan.verbose:
        print(  # noqa: T201 - the caller asked for it
            f"Model '{model.name}' has other weights or frozen layers than the one that was "
            "planned for: the same units go, and new merges were computed."
        )


def _needs_weighted_sums(groups: tuple[GroupPlan, ...], layout: Layout) -> bool:
    """Return whether merges average weight-sets in groups that can't, such as frozen ones."""
    return any(
        isinstance(plan.merge, CentroidMerge) and not layout.groups[plan.layer].averages
        for plan in groups
    )


def _missing_group(groups: tuple[GroupPlan, ...], layout: Layout) -> str | None:
    """Describe the first group that a model with the same layers doesn't have."""
    for plan in groups:
        group = layout.prunable.get(plan.layer)
        if group is None or not group.units == plan.units == plan.merge.units:
            return f"layer {plan.layer} has no {plan.units} units there that can be pruned"
    return None
