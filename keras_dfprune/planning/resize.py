"""Cut a plan again at another size, from the orders and costs that it holds."""

import dataclasses
import math
from typing import Any

from keras_dfprune.methods.merge import choose_units
from keras_dfprune.planning.budget import SharedRemovals, count_for_sparsity, to_multiple
from keras_dfprune.planning.group_plan import DIMENSIONS, GroupPlan
from keras_dfprune.planning.plan_data import PlanData
from keras_dfprune.planning.read_arguments import limit_of
from keras_dfprune.planning.request import METHODS, Request
from keras_dfprune.planning.width_count import MULTIPLY_ADDS, PARAMETERS, WidthCount

_UNMEASURED = "the change at this size isn't measured: plan.at(model=model, ...) measures it"
_AT_MOST = "parameters are counted with a bias for every layer that may need one"


def resized(plan: PlanData, request: Request, *, other_multiples: bool) -> dict[str, Any]:
    """Choose the units that go at another size.

    Args:
        plan: The plan.
        request: The new budget.
        other_multiples: Whether the budget's `multiple_of` replaces the plan's own.

    Returns:
        The fields of the plan that change. The merges are computed when it is applied.

    Raises:
        ValueError: If the plan doesn't hold enough for this budget. The message says why.
    """
    reason = _why_model_is_needed(plan, request, other_multiples)
    if reason is not None:
        raise ValueError(f"{reason} Give the model: plan.at(model=model, ...).")
    if other_multiples and isinstance(request.multiple_of, int):
        asked = request.multiple_of
        groups = tuple(
            dataclasses.replace(group, multiple=math.lcm(asked, group.blocks))
            for group in plan.groups
        )
        plan = dataclasses.replace(plan, groups=groups)
    counts = _counts(plan, request)
    parameters = _count(plan, PARAMETERS)
    kept = {group.layer: group.units - counts[group.layer] for group in plan.groups}
    groups = tuple(_resized(group, counts[group.layer], parameters, kept) for group in plan.groups)
    reserve = parameters.total({}) - plan.parameters[0]
    return {
        "groups": groups,
        "parameters": (plan.parameters[0], parameters.total(kept)),
        "measured": (),
        "notes": (_UNMEASURED, *([_AT_MOST] if reserve else [])),
    }


def _why_model_is_needed(plan: PlanData, request: Request, other_multiples: bool) -> str | None:
    if plan.method["name"] not in METHODS:
        return f"Merges at another size need method='{plan.method['name']}' itself."
    if request.max_bytes is not None:
        return "`max_bytes` is measured on exported files."
    if request.tolerance:
        return "A `tolerance` above 0 is measured on the narrow model."
    named = other_multiples and isinstance(request.multiple_of, dict)
    if isinstance(request.sparsity, dict) or named:
        return "Names of layers are looked up in the model."
    if not request.has_budget:
        return "Without a budget the change of the outputs decides."
    if not plan.shared_out and len(plan.groups) > 1:
        return (
            "This plan scored each layer on what the layers before it left, which another size "
            "changes."
        )
    return None


def _counts(plan: PlanData, request: Request) -> dict[str, int]:
    """Return how many units of each group go."""
    curves = {group.layer: group.curve for group in plan.groups}
    if isinstance(request.sparsity, float):
        return {
            group.layer: 0  # A plain number is about units alone.
            if group.kind == DIMENSIONS
            else min(
                count_for_sparsity(request.sparsity, group.units, group.multiple),
                len(group.curve.order),
            )
            for group in plan.groups
        }
    if request.tolerance is not None:
        return {
            group.layer: to_multiple(
                group.curve.lossless, group.units, group.multiple, at_most=True
            )
            for group in plan.groups
        }
    noun, size, argument = PARAMETERS, request.max_params, "max_params"
    if request.max_flops is not None:
        noun, size, argument = MULTIPLY_ADDS, request.max_flops, "max_flops"
    count = _count(plan, noun)
    multiples = {group.layer: group.multiple for group in plan.groups}
    removals = SharedRemovals(curves, count, multiples)
    whole = plan.parameters[0] if noun == PARAMETERS else count.total({})
    steps = removals.steps_to(limit_of(size or 0, whole), f"{argument}={size}")
    return removals.counts(steps)


def _count(plan: PlanData, noun: str) -> WidthCount:
    for count in plan.counts:
        if count.noun == noun:
            return count
    raise ValueError(f"This plan doesn't know the {noun}: a layer's input has no known shape.")


def _resized(
    group: GroupPlan, count: int, parameters: WidthCount, kept: dict[str, int]
) -> GroupPlan:
    return dataclasses.replace(
        group,
        merge=choose_units(group.curve.order, count, group.units),
        parameters=(group.parameters[0], parameters.of_group(group.layer, group.layers, kept)),
        predicted_error=None,
        note=None,
    )
