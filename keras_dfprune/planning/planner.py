"""Decide how many units of each group go, cut, measure the result and write down what was decided.

A budget for the whole model is shared out over the groups by their curves on the original weights.
A sparsity, or a method's own cut-off, says it for each group by itself.
"""

import dataclasses
import functools
from collections.abc import Mapping

import keras
import numpy as np

from keras_dfprune.graph.fingerprint import LayerDigests, start_layer_digests
from keras_dfprune.inputs.rows import Rows
from keras_dfprune.locate.locate import LocatedModel
from keras_dfprune.methods.base import Curve
from keras_dfprune.planning.budget import SharedRemovals, count_for_sparsity, to_multiple
from keras_dfprune.planning.chosen_groups import ChosenGroups, choose_groups
from keras_dfprune.planning.cutting import Cut, Cutter
from keras_dfprune.planning.file_budget import removals_to_bytes
from keras_dfprune.planning.gather_rows import gather_rows
from keras_dfprune.planning.measure import default_change, largest_bound, largest_change
from keras_dfprune.planning.notes import cutoff_notes, folded_parameters, new_biases, notes
from keras_dfprune.planning.plan_data import PlanData
from keras_dfprune.planning.read_arguments import limit_of
from keras_dfprune.planning.request import Request
from keras_dfprune.planning.width_count import WidthCount, bias_length, count_multiply_adds
from keras_dfprune.rebuild.compile_state import carry_compile_state
from keras_dfprune.rebuild.rebuild import Rebuilt
from keras_dfprune.report.progress import Progress
from keras_dfprune.surgery.weights import without_bias

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
    planner = Planner(located, request, progress)
    return planner.planned(planner.cut_to_budget())


class Planner:
    """Planner of one request for one model.

    Args:
        located: The model with its groups.
        request: The caller's arguments.
        progress: Shows how many layers are done.

    Attributes:
        rows: The rows of inputs that are used, or None.
        chosen: The groups to prune.
        cutter: Cuts and rebuilds the model.
    """

    def __init__(self, located: LocatedModel, request: Request, progress: Progress):
        self._located, self._layout, self._request = located, located.layout, request
        self._progress = progress
        self.chosen: ChosenGroups = choose_groups(located, request)
        self._digests = start_layer_digests(located.graph)  # in a thread, beside the scoring
        self.rows = gather_rows(located, request, progress)
        self.cutter = Cutter(located, request, self.rows, progress)

    def cut_to_budget(self) -> Cut:
        """Cut the chosen groups as the budget says, or the method without one."""
        request, limit = self._request, self._largest_change()
        if not request.has_size_budget and limit is None:
            return self.cutter.cut_one_by_one(self.chosen.sparsity, self._count_alone)
        curves = self.cutter.curves(self.chosen.sparsity)
        removals = self.share_out(curves)
        if limit is not None:
            return self._largest_within(curves, removals, limit)
        return self.cutter.cut_by_curves(curves, removals.counts(self._steps(curves, removals)))

    def _largest_change(self) -> float | None:
        """Return the largest change that the request allows, or None where it isn't about that."""
        request = self._request
        if request.tolerance is not None:
            return request.tolerance or None
        if request.has_budget or request.method.has_cutoff:
            return None
        return default_change(self._located, self.rows)

    def _count_alone(self, name: str, curve: Curve) -> int | None:
        """Return how many units of a group go, whatever the others do; None: the method says it."""
        sparsity, units = self.chosen.sparsity[name], self._layout.prunable[name].units
        multiple = self.chosen.multiples[name]
        if sparsity is not None:
            return count_for_sparsity(sparsity, units, multiple)
        if self._request.tolerance is not None:
            return to_multiple(curve.lossless, units, multiple, at_most=True)
        if multiple > 1:
            return to_multiple(curve.automatic or 0, units, multiple)
        return None

    def share_out(self, curves: Mapping[str, Curve]) -> SharedRemovals:
        """Put the removals of all groups in one order, by what the budget is about.

        Args:
            curves: The curves of the groups on the original weights.
        """
        count = self.parameters_at_most()
        if self._request.max_flops is not None:
            count = self._multiply_adds()
        return SharedRemovals(curves, count, self.chosen.multiples)

    def parameters_at_most(self) -> WidthCount:
        """Count the parameters with the biases that some consumers may get."""
        reserve = sum(bias_length(self._layout, path, {}) for path in without_bias(self._layout))
        return self.cutter.count.plus(reserve)

    def _multiply_adds(self) -> WidthCount:
        try:
            return self.multiply_adds
        except ValueError as error:
            raise ValueError(
                f"`max_flops` needs inputs of known shape: {error} Give `max_params` instead."
            ) from error

    def _steps(self, curves: Mapping[str, Curve], removals: SharedRemovals) -> int:
        """Return how many of the shared-out removals keep to the budget."""
        request = self._request
        if request.max_flops is not None:
            limit = limit_of(request.max_flops, int(removals.sizes[0]))
            return removals.steps_to(limit, f"max_flops={request.max_flops}")
        if request.max_params is not None:
            limit = limit_of(request.max_params, self._located.model.count_params())
            return removals.steps_to(limit, f"max_params={request.max_params}")
        ((kind, size),) = (request.max_bytes or {}).items()

        model = self._located.model

        def narrow(steps: int) -> keras.Model:
            cut = self.cutter.cut_by_curves(curves, removals.counts(steps))
            rebuilt = self.cutter.rebuilt(cut)
            if kind == "keras":  # The file holds the optimizer's state, too.
                carry_compile_state(model, rebuilt.model, rebuilt.variables)
            return rebuilt.model

        return removals_to_bytes(model, kind, size, narrow, removals.sizes, self._progress)

    def _largest_within(
        self, curves: Mapping[str, Curve], removals: SharedRemovals, limit: float
    ) -> Cut:
        """Return the largest shared-out cut whose measured change stays within a limit."""
        cutter, (fewest, most) = self.cutter, (removals.lossless, len(removals.steps) + 1)
        best = cutter.cut_by_curves(curves, removals.counts(fewest))
        if cutter.yardstick is None:
            return best
        # The caller's limit is about the change itself, the default's is kept with some certainty.
        change_of = largest_bound if self._request.tolerance is None else largest_change
        for _ in self._progress.over("Searching the budget", range(_TRIALS), "trial"):
            # Halves the parameters, not the removals: narrow layers have many removals of few.
            middle = 0.5 * (removals.sizes[fewest] + removals.sizes[most - 1])
            steps = int(np.searchsorted(-removals.sizes, -middle))
            steps = min(max(steps, fewest + 1), most - 1)
            if not fewest < steps < most:
                break
            cut = cutter.cut_by_curves(curves, removals.counts(steps))
            if change_of(cutter.measure(cut)) <= limit:
                fewest, best = steps, cut
            else:
                most = steps
        return best

    def planned(self, cut: Cut) -> Planned:
        """Return the plan of a cut, with its narrow model."""
        return Planned(self.write_down(cut), self.cutter.rebuilt(cut), self.rows)

    def write_down(self, cut: Cut) -> PlanData:
        """Return the plan of a cut, with its parameters counted and its change measured."""
        graph, layout, model = self._located.graph, self._layout, self._located.model
        groups, states, count = cut.groups, cut.states, self.cutter.count
        kept = {group.layer: len(group.kept) for group in groups}
        biases = {path: bias_length(layout, path, kept) for path in new_biases(layout, states)}
        counted = []
        for group in groups:
            before = count.of_group(group.layer, group.layers, {})
            after = count.of_group(group.layer, group.layers, kept)
            if group.layer in group.layers:
                after += sum(biases.get(path, 0) for path in group.layers)
            multiple = self.chosen.multiples[group.layer]
            counted.append(
                dataclasses.replace(group, parameters=(before, after), multiple=multiple)
            )
        after = count.total(kept) + sum(biases.values()) - folded_parameters(layout, states)
        request = self._request
        return PlanData(
            groups=tuple(counted),
            refusals=layout.refusals,
            parameters=(model.count_params(), after),
            method={"name": request.method.name, **request.method.get_config()},
            model_name=model.name,
            fingerprint=self._fingerprint(),
            counts=self._counts,
            notes=(
                *self._located.notes,
                *cutoff_notes(request),
                *self.chosen.notes,
                *notes(graph, layout, states),
            ),
            measured=self.cutter.measure(cut),
            refine_steps=request.refine_steps,
            seed=request.seed,
            used_data=request.has_data,
            shared_out=request.has_size_budget or self._largest_change() is not None,
        )

    def _fingerprint(self) -> LayerDigests:
        return self._digests.result()

    @functools.cached_property
    def _counts(self) -> tuple[WidthCount, ...]:
        """Everything that can be counted of the model at any widths."""
        try:
            return self.parameters_at_most(), self.multiply_adds
        except ValueError:  # A layer works at an unknown number of positions.
            return (self.parameters_at_most(),)

    @property
    def whole_multiply_adds(self) -> int | None:
        """Multiply-adds of one row of the original; None where a length is unknown."""
        return self._counts[1].total({}) if len(self._counts) > 1 else None

    @functools.cached_property
    def multiply_adds(self) -> WidthCount:
        """Counter of the multiply-adds of one row.

        Raises:
            ValueError: If a layer works at an unknown number of positions.
        """
        return count_multiply_adds(self._located.graph, self._layout)
