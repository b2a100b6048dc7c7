"""Make a plan anew for another size of the same model."""

import dataclasses
from typing import Any

import keras

from keras_dfprune.api.open_model import locate_in_any
from keras_dfprune.graph.fingerprint import find_digest_mismatch, layer_digests
from keras_dfprune.planning.group_plan import UNITS
from keras_dfprune.planning.plan_data import PlanData
from keras_dfprune.planning.planner import Planned, make_plan
from keras_dfprune.planning.request import Request, method_of_plan, read_request, with_budget
from keras_dfprune.report.memory import clear_memory_errors
from keras_dfprune.report.progress import Progress
from keras_dfprune.report.silence import without_keras_warnings


def plan_again(
    plan: PlanData, made_from: Request | None, model: keras.Model, data: Any, budget: Request
) -> tuple[Planned, Request]:
    """Plan with the same method, layers and seed for another budget.

    Args:
        plan: The plan.
        made_from: The arguments that it was made from; None for a plan that was loaded.
        model: The model that was planned for.
        data: Unlabelled rows in place of those of the plan, or None.
        budget: The new budget.

    Returns:
        The new plan, and the arguments that it was made from.

    Raises:
        ValueError: If the plan is for another model, or lacks its method or its rows.
    """
    request = made_from if made_from is not None else _from_file(plan, data, budget)
    if data is not None:
        request = dataclasses.replace(request, data=data)
    request = with_budget(request, budget)
    with without_keras_warnings(), clear_memory_errors():
        located = locate_in_any(model)
        mismatch = find_digest_mismatch(plan.fingerprint, layer_digests(located.graph))
        if mismatch:
            raise ValueError(
                f"This plan was made for another model than '{model.name}': {mismatch}. Make a new "
                "plan with `keras_dfprune.plan(model, ...)`."
            )
        return make_plan(located, request, Progress(request.verbose)), request


def _from_file(plan: PlanData, data: Any, budget: Request) -> Request:
    """Return the arguments that a loaded plan was made from, as far as its file holds them."""
    method = method_of_plan(plan.method)
    if method is None:
        raise ValueError(
            f"method='{plan.method['name']}' is none of this package, and the plan's file doesn't "
            "hold it. Make a new plan with `keras_dfprune.plan(model, ...)`."
        )
    if plan.used_data and data is None:
        raise ValueError(
            "This plan was made with `data`, which its file doesn't hold. Give the rows again: "
            "plan.at(model=model, data=..., ...)."
        )
    is_number = isinstance(budget.sparsity, float)  # which is about units alone
    layers = [group.layer for group in plan.groups if not is_number or group.kind == UNITS]
    return read_request(
        method=method, layers=layers, seed=plan.seed, refine_steps=plan.refine_steps
    )
