"""Turn a plan into plain values that can be written as JSON."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_dfprune.report.readable_plan import ReadableCurve, ReadableGroup, ReadablePlan

_OUTPUT = ("output", "change", "smallest", "at_most", "agreement", "source")


def plan_dict(plan: ReadablePlan) -> dict[str, Any]:
    """Return the values of a plan, JSON-serialisable.

    Args:
        plan: A `PruningPlan`.

    Returns:
        Dict with the plan's attributes. Arrays and pairs are lists, and numbers that are not
        finite are the texts `"inf"`, `"-inf"` and `"nan"`, which `float` reads. Merges are left
        out.
    """
    return _plain(
        {
            "model_name": plan.model_name,
            "method": plan.method,
            "arguments": plan.arguments,
            "seed": plan.seed,
            "used_data": plan.used_data,
            "refine_steps": plan.refine_steps,
            "parameters": plan.parameters,
            "multiply_adds": plan.multiply_adds,
            "groups": [_group(group) for group in plan.groups],
            "refusals": [{"layer": r.layer, "reason": r.reason} for r in plan.refusals],
            "measured": [
                {name: getattr(output, name) for name in _OUTPUT} for output in plan.measured
            ],
            "notes": plan.notes,
            "refined": {
                layer: {"before": reached.before, "after": reached.after, "step": reached.step}
                for layer, reached in plan.refined.items()
            },
        }
    )


def _group(group: ReadableGroup) -> dict[str, Any]:
    return {
        "layer": group.layer,
        "layers": group.layers,
        "kind": group.kind,
        "units": group.units,
        "kept": group.kept,
        "removed": group.removed,
        "survivor": group.survivor,
        "parameters": group.parameters,
        "predicted_error": group.predicted_error,
        "note": group.note,
        "curve": _curve(group.curve),
    }


def _curve(curve: ReadableCurve) -> dict[str, Any]:
    histogram = None
    if curve.histogram is not None:
        counts, edges = curve.histogram
        histogram = {"counts": counts, "edges": edges}
    return {
        "order": curve.order,
        "costs": curve.costs,
        "measure": curve.measure,
        "scale": curve.scale,
        "lossless": curve.lossless,
        "automatic": curve.automatic,
        "cutoff": curve.cutoff,
        "histogram": histogram,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple | range):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
