"""Remove the units of a plan from a model with the same layers and other weights.

The units are the plan's. Its merges are not: they were computed on other weights, and are nearly
right for a copy that was trained a little further, and wrong for a network of another start. The
plan's method therefore computes new merges of the same units.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from keras_dfprune.inputs.rows import Rows
from keras_dfprune.inputs.unit_values import unit_values
from keras_dfprune.locate.locate import LocatedModel
from keras_dfprune.methods.base import Context, Method
from keras_dfprune.planning.group_plan import GroupPlan
from keras_dfprune.planning.scoring_pass import ScoringPass
from keras_dfprune.planning.width_count import count_parameters
from keras_dfprune.report.progress import Progress


def rename_groups(groups: tuple[GroupPlan, ...], names: Mapping[str, str]) -> tuple[GroupPlan, ...]:
    """Give the groups of a plan the paths that another model has for the same layers.

    Args:
        groups: The groups.
        names: The other model's paths, by the plan's.
    """
    return tuple(
        dataclasses.replace(
            group,
            layer=names.get(group.layer, group.layer),
            layers=tuple(names.get(path, path) for path in group.layers),
        )
        for group in groups
    )


def merge_anew(
    located: LocatedModel,
    groups: tuple[GroupPlan, ...],
    method: Method,
    rows: Rows | None,
    progress: Progress,
) -> tuple[GroupPlan, ...]:
    """Compute merges that remove the same units, on a model's own weights.

    Args:
        located: The model.
        groups: The groups of a plan, under the model's paths.
        method: The plan's method.
        rows: Rows of the model's inputs, or None.
        progress: Shows how many groups are done.

    Returns:
        The groups with new merges. No removal counts as lossless, and no error is predicted.

    Raises:
        ValueError: If the method can't remove these units.
    """
    context = Context(
        values={} if rows is None else unit_values(located, rows.fit, seed=0),
        rows=0 if rows is None else rows.count,
        progress=progress,
    )
    count = count_parameters(located.layout, located.model.count_params())
    scoring, planned = ScoringPass(located, method, context, count), {g.layer: g for g in groups}
    merged = []
    names = located.layout.groups if method.predicts_error else planned
    for name in progress.over("Merging", list(names)):
        removed = planned[name].removed if name in planned else np.zeros(0, np.int64)
        curve = scoring.curve(name, removed)
        if name not in planned:
            scoring.leave_whole(name, curve)
            continue
        if not np.array_equal(curve.order[: len(removed)], removed):
            raise ValueError(
                f"The {len(removed)} units of layer '{name}' that the plan removes can't be "
                f"removed from this model: {curve.note or 'the method removes others'}. Make a "
                "new plan with `keras_dfprune.plan(model, ...)`."
            )
        merge = scoring.cut(name, curve, len(removed))
        merged.append(dataclasses.replace(planned[name].on_other_weights(), merge=merge))
    return tuple(merged)
