"""Remove the units of a plan from a model with the same layers and other weights.

The units are the plan's. Its merges are not: they were computed on other weights, and are nearly
right for a copy that was trained a little further, and wrong for a network of another start. The
plan's method therefore computes new merges of the same units.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from keras_dfprune.inputs.rows import Rows
from keras_dfprune.inputs.unit_values import Observed, observe
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

    def renamed(group: GroupPlan) -> str:
        first = group.layers[0]  # Behind it stands the kind of dimensions of heads.
        return names.get(first, first) + group.layer.removeprefix(first)

    return tuple(
        dataclasses.replace(
            group,
            layer=renamed(group),
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
    observed = Observed({}, {}) if rows is None else observe(located, rows.fit, seed=0)
    context = Context(
        values=observed.units,
        rows=0 if rows is None else rows.count,
        progress=progress,
    )
    count = count_parameters(located.layout, located.model.count_params())
    scoring = ScoringPass(located, method, context, count, observed.inputs)
    planned, merged = {group.layer: group for group in groups}, []
    hands_on = located.layout.groups if method.predicts_error else ()
    names = [name for name in located.layout.prunable if name in planned or name in hands_on]
    for name in progress.over("Merging", names):
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
