"""Warn where a plan prunes less than its caller might think, or changes the outputs noticeably."""

from keras_dfprune.locate.depth import why_untied
from keras_dfprune.locate.groups import Layout
from keras_dfprune.locate.locate import LocatedModel
from keras_dfprune.planning.measure import NOTICEABLE, largest_change
from keras_dfprune.planning.plan_data import PlanData
from keras_dfprune.planning.request import Request
from keras_dfprune.planning.whole_layers import most_stays_whole
from keras_dfprune.report.table import by_reason
from keras_dfprune.report.warning import warn

# How much a warning names: the plan lists everything.
_REASONS_SHOWN, _LAYERS_SHOWN = 3, 3


def warn_of_plan(plan: PlanData, located: LocatedModel, request: Request) -> None:
    """Give one warning of all that the caller should know about a plan, or none.

    It says which layers stay whole although that might surprise, with the reasons, and whether the
    outputs change by more than a default budget would allow.

    Args:
        plan: The plan.
        located: The model.
        request: The caller's arguments.
    """
    stays = (
        _about_refusals(plan, located.layout, request)
        or _about_nothing_removed(plan, located, request)
        or _about_whole_layers(plan, located, request)
    )
    messages = [text for text in (stays, _about_change(plan, request)) if text is not None]
    if messages:
        warn(" ".join(f"{text.removesuffix('.')}." for text in messages))


def _about_refusals(plan: PlanData, layout: Layout, request: Request) -> str | None:
    """Say which layers stay whole although they were named, or that all do."""
    named = {getattr(layer, "name", layer) for layer in request.named_layers}
    refused = [r for r in layout.refusals if {r.layer, r.layer.rsplit("/")[-1]} & named]
    if refused:
        reasons = "; ".join(by_reason((refusal.layer, refusal.reason) for refusal in refused))
        return f"Layers left whole although they were named: {reasons}"
    if not layout.prunable:
        reasons = "; ".join(by_reason((r.layer, r.reason) for r in layout.refusals))
        reasons = reasons or "It has no layer with units, such as Dense or Conv2D"
        return f"Model '{plan.model_name}' has nothing to prune. {reasons}"
    return None


def _about_nothing_removed(plan: PlanData, located: LocatedModel, request: Request) -> str | None:
    """Say why no unit goes, where units can go and were asked for."""
    if request.has_budget and request.sparsity is None:
        return None
    if not (plan.groups and request.asks_for_units):
        return None
    if any(len(group.removed) for group in plan.groups):
        return None
    reasons = list(dict.fromkeys(group.note for group in plan.groups if group.note))
    if not reasons and request.sparsity is None and request.method.has_cutoff:
        reasons = ["no unit costs little enough for the automatic cut-off; give `sparsity`"]
    elif not reasons and request.sparsity is None:
        reasons = [_why_so_careful(located, request)]
    elif not reasons:
        reasons = ["`sparsity` of their units is less than half a unit in each layer"]
    return f"Nothing is removed from model '{plan.model_name}': {'; '.join(reasons)}"


def _about_whole_layers(plan: PlanData, located: LocatedModel, request: Request) -> str | None:
    """Say why layers with most of the parameters stay whole, unless the caller chose what goes.

    A budget for the whole model is such a choice: it is kept, whatever stays whole.
    """
    names_layers = request.layers is not None or isinstance(request.sparsity, dict)
    has_budget = request.has_budget and request.sparsity is None
    if names_layers or has_budget or not request.asks_for_units:
        return None
    total, found = located.model.count_params(), most_stays_whole(located, plan)
    if not found:
        return None
    sentences = []
    for whole in found[:_REASONS_SHOWN]:
        names, further = list(whole.parameters), len(whole.parameters) - _LAYERS_SHOWN
        layers = ", ".join(names[:_LAYERS_SHOWN]) + (f" and {further} more" if further > 0 else "")
        sentences.append(f"{100 * whole.total / total:.0f} % in {layers}: {whole.reason}.")
    share = 100 * sum(whole.total for whole in found) / total
    return (
        f"Most of model '{plan.model_name}' stays whole: {share:.0f} % of its parameters. "
        f"{' '.join(sentences)} print(keras_dfprune.plan(model)) gives the reason for every layer; "
        "name the `layers` to prune to go without this warning."
    )


def _why_so_careful(located: LocatedModel, request: Request) -> str:
    """Explain why nothing is removed without a budget."""
    untied = why_untied(located.graph)
    if request.has_data:
        return "any removal changes the outputs on `data`; give `max_params` to remove units anyway"
    remedy = "Give a few dozen unlabelled rows (`data`), or `max_params` to remove units anyway"
    if untied is None:
        return f"any removal might change the outputs. {remedy}"
    return f"any removal might change the outputs, and {untied}. {remedy}"


def _about_change(plan: PlanData, request: Request) -> str | None:
    """Say by how much the outputs change, where a default budget would not allow it."""
    change = largest_change(plan.measured)
    if change <= max(NOTICEABLE, request.tolerance or 0.0):
        return None
    worst = max(plan.measured, key=lambda output: output.change)
    remedies = ["remove less"]
    if not request.has_data:
        remedies.append("give a few dozen unlabelled rows (`data`)")
    if not request.refine_steps:
        remedies.append("let the model recover (`refine_steps=1000`)")
    bound = "up to " if worst.smallest < change else ""
    also = " This is before recovery." if request.refine_steps else ""
    return (
        f"The outputs of model '{plan.model_name}' change by {bound}{change:.2g} times "
        f"their variance ({worst.output}, measured on {worst.source}).{also} To change them less, "
        f"{', or '.join(remedies)}."
    )
