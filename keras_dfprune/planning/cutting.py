"""Cut the groups of a model at given counts, rebuild the narrow model and measure it.

A budget for the whole model cuts by curves on the original weights, and the merges are those
curves' too. A sparsity, or a method's own cut-off, needs no such overview: each group is scored on
the weights that the groups before it left, and cut.
"""

import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping

import numpy as np

from keras_dfprune.inputs.rows import Rows
from keras_dfprune.inputs.unit_values import Observed, observe
from keras_dfprune.locate.groups import Group, UnitGroup
from keras_dfprune.locate.locate import LocatedModel
from keras_dfprune.methods.base import Context, Curve
from keras_dfprune.methods.merge import Removal
from keras_dfprune.planning.group_plan import (
    DIMENSIONS,
    PREDICTED,
    SALIENCY,
    UNITS,
    GroupCurve,
    GroupPlan,
)
from keras_dfprune.planning.measure import OutputChange, Yardstick
from keras_dfprune.planning.request import Request
from keras_dfprune.planning.scoring_pass import ScoringPass, check_merge
from keras_dfprune.planning.width_count import WidthCount, count_parameters
from keras_dfprune.rebuild.rebuild import Rebuilt, rebuild
from keras_dfprune.report.progress import Progress
from keras_dfprune.report.short_message import short_message
from keras_dfprune.surgery.carry_out import carry_out
from keras_dfprune.surgery.weights import LayerStates


@dataclasses.dataclass(frozen=True, eq=False)
class Cut:
    """Groups that have been cut, and the states of the layers after their merges."""

    groups: list[GroupPlan]
    states: LayerStates


class Cutter:
    """Cutter of one model by one method, on the same rows and draws.

    Args:
        located: The model with its groups.
        request: The caller's arguments: method, seed, data, strategy.
        rows: Rows of inputs, or None.
        progress: Shows how many layers are done.

    Attributes:
        count: Counts the model's parameters.
    """

    def __init__(
        self, located: LocatedModel, request: Request, rows: Rows | None, progress: Progress
    ):
        self._located, self._layout, self._request = located, located.layout, request
        self._method, self._progress, self._rows = request.method, progress, rows
        self.count: WidthCount = count_parameters(self._layout, located.model.count_params())
        wanted = request.has_data or self._method.found_inputs is not None
        observed = _observed(located, rows, request.seed) if rows and wanted else Observed({}, {})
        values, self._inputs = observed.units, observed.inputs
        self._context = Context(
            request.seed,
            values=values,
            rows=rows.count if rows and (values or self._inputs) else 0,
            strategy=request.strategy,
            progress=progress,
        )
        self._rebuilt: tuple[Cut, Rebuilt] | None = None

    @functools.cached_property
    def yardstick(self) -> Yardstick | None:
        """Inputs to measure on; None where the model can't be run on any that can be drawn."""
        try:
            return Yardstick(self._located, self._rows, self._request.seed)
        except Exception:  # whatever a layer raises for inputs that don't suit it
            if self._rows is not None:
                raise
            return None

    def curves(self, chosen: Collection[str]) -> dict[str, Curve]:
        """Score every group on the original weights, and return the curves of the chosen."""
        scoring, curves = self._start_pass(), {}
        for name in self._progress.over("Scoring", self._scored(chosen)):
            curve = scoring.curve(name)
            scoring.leave_whole(name, curve)
            if name in chosen:
                curves[name] = curve
        return curves

    def cut_by_curves(self, curves: Mapping[str, Curve], counts: Mapping[str, int]) -> Cut:
        """Cut groups at given counts by curves that were computed on the original weights."""
        states, groups = LayerStates(self._layout), []
        for name, group in self._layout.prunable.items():
            if name in curves:
                merge = curves[name].merge(counts[name])
                check_merge(self._method, group, merge, counts[name])
                carry_out(group, merge, states)
                groups.append(self._group_plan(group, curves[name], merge, asked=True))
            else:
                states.kept[name] = np.arange(group.units)
        return Cut(groups, states)

    def cut_one_by_one(
        self, chosen: Collection[str], count: Callable[[str, Curve], int | None]
    ) -> Cut:
        """Score and cut each group on the weights that the groups before it left.

        Args:
            chosen: Names of the groups to cut.
            count: Function from a group and its curve to the number of units to remove; None for
                the method's own cut-off.
        """
        scoring, groups = self._start_pass(), []
        for name in self._progress.over("Pruning", self._scored(chosen)):
            curve, group = scoring.curve(name), self._layout.prunable[name]
            if name in chosen:
                asked = count(name, curve)
                wanted = curve.automatic if asked is None else asked
                number = min(wanted or 0, len(curve.order), group.units - 1)
                merge = scoring.cut(name, curve, number)
                groups.append(self._group_plan(group, curve, merge, asked is not None))
            else:
                scoring.leave_whole(name, curve)
            del curve  # It may hold large matrices: none stays while the next group is scored.
        return Cut(groups, scoring.states)

    def _start_pass(self) -> ScoringPass:
        return ScoringPass(self._located, self._method, self._context, self.count, self._inputs)

    def _scored(self, chosen: Collection[str]) -> list[str]:
        """Return the groups to score: units that stay whole only for the moments they hand on."""
        hands_on = self._layout.groups if self._method.predicts_error else ()
        return [name for name in self._layout.prunable if name in chosen or name in hands_on]

    def _group_plan(self, group: Group, curve: Curve, merge: Removal, asked: bool) -> GroupPlan:
        count = len(merge.removed)
        # Singular values are expected errors, whatever method orders the units.
        predicts = self._method.predicts_error or not isinstance(group, UnitGroup)
        order_ends_early = count == len(curve.order) < group.units - group.block_count
        return GroupPlan(
            layer=group.name,
            layers=group.layers,
            units=group.units,
            merge=merge,
            parameters=(0, 0),  # counted when all groups are cut
            curve=GroupCurve(
                order=np.asarray(curve.order, np.int64),
                costs=np.asarray(curve.costs, np.float64),
                measure=PREDICTED if predicts else SALIENCY,
                scale=float(curve.scale),
                lossless=int(curve.lossless),
                automatic=None if curve.automatic is None else int(curve.automatic),
                cutoff=None if curve.cutoff is None else float(curve.cutoff),
                histogram=curve.histogram,
            ),
            predicted_error=self._predicted_error(curve, count) if predicts else None,
            note=curve.note if not asked or order_ends_early else None,
            blocks=group.block_count,
            kind=UNITS if isinstance(group, UnitGroup) else DIMENSIONS,
        )

    def _predicted_error(self, curve: Curve, count: int) -> float:
        expected = np.sum(curve.costs[:count]) if curve.error is None else curve.error(count)
        return float(expected / curve.scale)

    def rebuilt(self, cut: Cut) -> Rebuilt:
        """Return the narrow model of a cut."""
        if self._rebuilt is None or self._rebuilt[0] is not cut:
            self._rebuilt = cut, rebuild(self._located, cut.states, self._progress)
        return self._rebuilt[1]

    def measure(self, cut: Cut) -> tuple[OutputChange, ...]:
        """Measure what a cut changes; empty where it changes nothing, or nothing can be run."""
        if all(group.changes_nothing for group in cut.groups):
            return ()
        yardstick = self.yardstick
        return () if yardstick is None else yardstick.measure(self.rebuilt(cut).model)


def _observed(located: LocatedModel, rows: Rows, seed: int) -> Observed:
    try:
        return observe(located, rows.fit, seed)
    except Exception as error:  # whatever a layer raises for rows that don't suit it
        raise ValueError(
            f"Model '{located.model.name}' can't be run on the {rows.source}: "
            f"{short_message(error)}"
        ) from error
