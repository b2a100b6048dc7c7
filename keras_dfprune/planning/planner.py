"""Score and cut the groups of a model from input to output, and write down what was decided.

A budget for the whole model is shared out over the groups by their curves on the original weights,
and the merges are those curves' too. A sparsity, or a method's own cut-off, needs no such overview:
each group is scored on the weights that the groups before it left, and cut. The result is rebuilt
and measured.
"""

import dataclasses
import functools
from collections.abc import Collection, Mapping

import numpy as np

from keras_dfprune.graph.fingerprint import LayerDigests, start_layer_digests
from keras_dfprune.inputs.rows import Rows
from keras_dfprune.inputs.unit_values import unit_values
from keras_dfprune.locate.groups import UnitGroup
from keras_dfprune.locate.locate import LocatedModel
from keras_dfprune.methods.base import Context, Curve
from keras_dfprune.methods.merge import UnitMerge
from keras_dfprune.planning.budget import SharedRemovals, count_for_sparsity
from keras_dfprune.planning.chosen_groups import choose_groups
from keras_dfprune.planning.gather_rows import gather_rows
from keras_dfprune.planning.group_plan import GroupPlan
from keras_dfprune.planning.measure import OutputChange, Yardstick, default_change, largest_change
from keras_dfprune.planning.notes import cutoff_notes, folded_parameters, new_biases, notes
from keras_dfprune.planning.parameter_count import ParameterCount
from keras_dfprune.planning.plan_data import PlanData
from keras_dfprune.planning.request import Request
from keras_dfprune.planning.scoring_pass import ScoringPass, check_merge
from keras_dfprune.rebuild.rebuild import Rebuilt, rebuild
from keras_dfprune.report.progress import Progress
from keras_dfprune.report.short_message import short_message
from keras_dfprune.surgery.carry_out import carry_out
from keras_dfprune.surgery.weights import LayerStates, without_bias

# Trial cuts of the search for the largest budget that a change of the outputs allows.
_TRIALS = 7


@dataclasses.dataclass(frozen=True, eq=False)
class Planned:
    """Plan, and the narrow model on which its change was measured.

    Attributes:
        plan: The plan.
        rebuilt: The narrow model after the last merge, not refined and not compiled.
        rows: The rows of inputs that were used, or None without any.
    """

    plan: PlanData
    rebuilt: Rebuilt
    rows: Rows | None


def make_plan(located: LocatedModel, request: Request, progress: Progress) -> Planned:
    """Decide which units of each group go, and carry the merges out on a copy of the weights.

    Args:
        located: The model with its groups.
        request: The caller's arguments.
        progress: Shows how many layers are done.

    Raises:
        ValueError: For layer names or data that don't fit the model, for a budget that can't be
            reached, and for a method that breaks its contract.
    """
    chosen = choose_groups(located, request)
    digests = start_layer_digests(located.graph)  # in a thread, while the groups are scored
    rows = gather_rows(located, request, progress)
    planner = _Planner(located, request, rows, progress)
    cut = planner.cut_to_budget(chosen)
    plan = planner.write_down(cut, digests.result())
    return Planned(plan, planner.rebuilt(cut), rows)


@dataclasses.dataclass(frozen=True, eq=False)
class _Cut:
    """Groups that have been cut, and the states of the layers after their merges."""

    groups: list[GroupPlan]
    states: LayerStates


class _Planner:
    """Planner of one request for one model: the passes over the groups and what they share."""

    def __init__(
        self, located: LocatedModel, request: Request, rows: Rows | None, progress: Progress
    ):
        self._located, self._layout, self._request = located, located.layout, request
        self._method, self._progress, self._rows = request.method, progress, rows
        self._count = ParameterCount(self._layout, located.model.count_params())
        wanted = request.has_data or self._method.found_inputs is not None
        values = _values(located, rows, request.seed) if rows and wanted else {}
        self._context = Context(
            request.seed,
            values=values,
            rows=rows.count if rows and values else 0,
            strategy=request.strategy,
            progress=progress,
        )
        self._rebuilt: tuple[_Cut, Rebuilt] | None = None

    @functools.cached_property
    def _yardstick(self) -> Yardstick | None:
        """Inputs to measure on; None where the model can't be run on any that can be drawn."""
        try:
            return Yardstick(self._located, self._rows, self._request.seed)
        except Exception:  # whatever a layer raises for inputs that don't suit it
            if self._rows is not None:
                raise
            return None

    def cut_to_budget(self, chosen: Mapping[str, float | None]) -> _Cut:
        """Cut the chosen groups as the budget says, or the method without one.

        Args:
            chosen: Sparsity of each group, None where it isn't given.
        """
        request, limit = self._request, self._largest_change()
        if request.max_params is None and limit is None:
            return self._cut_one_by_one(chosen)
        curves = self._curves(chosen)
        removals = self._share_out(curves)
        if limit is not None:
            return self._largest_within(curves, removals, limit)
        budget = request.max_params_of(self._located.model.count_params())
        steps = removals.steps_to(budget, request.max_params)
        return self._cut_by_curves(curves, removals.counts(steps))

    def _largest_change(self) -> float | None:
        """Return the largest change that the request allows, or None where it isn't about that."""
        request = self._request
        if request.tolerance is not None:
            return request.tolerance or None
        given = request.sparsity is not None or request.max_params is not None
        if given or self._method.has_cutoff:
            return None
        return default_change(self._located, self._rows)

    def _curves(self, chosen: Collection[str]) -> dict[str, Curve]:
        """Score every group on the original weights, and return the curves of the chosen."""
        scoring, curves = self._start_pass(), {}
        names = self._layout.groups if self._method.predicts_error else chosen
        for name in self._progress.over("Scoring", list(names)):
            curve = scoring.curve(name)
            scoring.leave_whole(name, curve)
            if name in chosen:
                curves[name] = curve
        return curves

    def _share_out(self, curves: Mapping[str, Curve]) -> SharedRemovals:
        """Put the removals of all groups in one order."""
        units = {name: self._layout.groups[name].units for name in curves}
        # The biases that some consumers may get are paid for in advance.
        reserve = sum(self._count.outputs(path, {}) for path in without_bias(self._layout))
        total = self._located.model.count_params() + reserve
        return SharedRemovals(curves, units, ParameterCount(self._layout, total))

    def _largest_within(
        self, curves: Mapping[str, Curve], removals: SharedRemovals, limit: float
    ) -> _Cut:
        """Return the largest shared-out cut whose measured change stays within a limit."""
        fewest, most = removals.lossless, len(removals.steps) + 1
        best = self._cut_by_curves(curves, removals.counts(fewest))
        if self._yardstick is None:
            return best
        for _ in self._progress.over("Searching the budget", range(_TRIALS), "trial"):
            # Halves the parameters, not the removals: narrow layers have many removals of few.
            middle = 0.5 * (removals.parameters[fewest] + removals.parameters[most - 1])
            steps = int(np.searchsorted(-removals.parameters, -middle))
            steps = min(max(steps, fewest + 1), most - 1)
            if not fewest < steps < most:
                break
            cut = self._cut_by_curves(curves, removals.counts(steps))
            if largest_change(self._measure(cut)) <= limit:
                fewest, best = steps, cut
            else:
                most = steps
        return best

    def _cut_by_curves(self, curves: Mapping[str, Curve], counts: Mapping[str, int]) -> _Cut:
        """Cut groups at given counts by curves that were computed on the original weights."""
        states, groups = LayerStates(self._layout), []
        for name, group in self._layout.groups.items():
            if name in curves:
                merge = curves[name].merge(counts[name])
                check_merge(self._method, group, merge, counts[name])
                carry_out(group, merge, states)
                groups.append(self._group_plan(group, curves[name], merge, asked=True))
            else:
                states.kept[name] = np.arange(group.units)
        return _Cut(groups, states)

    def _cut_one_by_one(self, chosen: Mapping[str, float | None]) -> _Cut:
        """Score and cut each group on the weights that the groups before it left."""
        scoring, groups = self._start_pass(), []
        # Groups that stay whole are scored only for the moments that they hand on.
        names = self._layout.groups if self._method.predicts_error else chosen
        for name in self._progress.over("Pruning", list(names)):
            curve = scoring.curve(name)
            if name in chosen:
                groups.append(self._cut_group(scoring, name, curve, chosen[name]))
            else:
                scoring.leave_whole(name, curve)
            del curve  # It may hold large matrices: none stays while the next group is scored.
        return _Cut(groups, scoring.states)

    def _start_pass(self) -> ScoringPass:
        return ScoringPass(self._located, self._method, self._context, self._count)

    def _cut_group(
        self, scoring: ScoringPass, name: str, curve: Curve, sparsity: float | None
    ) -> GroupPlan:
        group = self._layout.groups[name]
        asked: int | None = None
        if sparsity is not None:
            asked = count_for_sparsity(sparsity, group.units)
        elif self._request.tolerance is not None:
            asked = curve.lossless
        wanted = curve.automatic if asked is None else asked
        count = min(wanted or 0, len(curve.order), group.units - 1)
        return self._group_plan(group, curve, scoring.cut(name, curve, count), asked is not None)

    def _group_plan(
        self, group: UnitGroup, curve: Curve, merge: UnitMerge, asked: bool
    ) -> GroupPlan:
        count = len(merge.removed)
        order_ends_early = count == len(curve.order) < group.units - 1
        return GroupPlan(
            layer=group.name,
            layers=group.layers,
            units=group.units,
            merge=merge,
            parameters=(0, 0),  # counted when all groups are cut
            saliency=np.asarray(curve.costs, np.float64),
            cutoff=curve.cutoff,
            predicted_error=self._predicted_error(curve, count),
            histogram=curve.histogram,
            note=curve.note if not asked or order_ends_early else None,
            lossless=curve.lossless,
        )

    def rebuilt(self, cut: _Cut) -> Rebuilt:
        """Return the narrow model of a cut."""
        if self._rebuilt is None or self._rebuilt[0] is not cut:
            self._rebuilt = cut, rebuild(self._located, cut.states, self._progress)
        return self._rebuilt[1]

    def _measure(self, cut: _Cut) -> tuple[OutputChange, ...]:
        """Measure what a cut changes; empty where it changes nothing, or nothing can be run."""
        if all(len(group.removed) <= group.lossless for group in cut.groups):
            return ()
        yardstick = self._yardstick
        return () if yardstick is None else yardstick.measure(self.rebuilt(cut).model)

    def _predicted_error(self, curve: Curve, count: int) -> float | None:
        if not self._method.predicts_error:
            return None
        expected = np.sum(curve.costs[:count]) if curve.error is None else curve.error(count)
        return float(expected / curve.scale)

    def write_down(self, cut: _Cut, fingerprint: LayerDigests) -> PlanData:
        """Return the plan of a cut, with its parameters counted and its change measured."""
        graph, layout, model = self._located.graph, self._layout, self._located.model
        groups, states = cut.groups, cut.states
        kept = {group.layer: len(group.kept) for group in groups}
        biases = {path: self._count.outputs(path, kept) for path in new_biases(layout, states)}
        counted = []
        for group in groups:
            before = self._count.of_layers(group.layers, {})
            after = self._count.of_layers(group.layers, kept)
            after += sum(biases.get(path, 0) for path in group.layers)
            counted.append(dataclasses.replace(group, parameters=(before, after)))
        after = self._count.total(kept) + sum(biases.values()) - folded_parameters(layout, states)
        return PlanData(
            groups=tuple(counted),
            refusals=layout.refusals,
            parameters=(model.count_params(), after),
            method={"name": self._method.name, **self._method.get_config()},
            model_name=model.name,
            fingerprint=fingerprint,
            notes=(*cutoff_notes(self._request), *notes(graph, layout, states)),
            measured=self._measure(cut),
            refine_steps=self._request.refine_steps,
            seed=self._request.seed,
            used_data=self._request.has_data,
        )


def _values(located: LocatedModel, rows: Rows, seed: int) -> dict[str, np.ndarray]:
    try:
        return unit_values(located, rows.fit, seed)
    except Exception as error:  # whatever a layer raises for rows that don't suit it
        raise ValueError(
            f"Model '{located.model.name}' can't be run on the {rows.source}: "
            f"{short_message(error)}"
        ) from error
