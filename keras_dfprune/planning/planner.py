"""Score and cut the groups of a model from input to output, and write down what was decided.

Two passes where a budget is shared out over the model: the first scores every group on the original
weights, to share out the budget; the second scores each group on the weights that the groups before
it left, and cuts it. Without such a budget there is only the second pass.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_dfprune.graph.fingerprint import LayerDigests, start_layer_digests
from keras_dfprune.inputs.unit_values import unit_values
from keras_dfprune.locate.groups import UnitGroup
from keras_dfprune.locate.locate import LocatedModel
from keras_dfprune.methods.base import Context, Curve, Method
from keras_dfprune.methods.merge import UnitMerge
from keras_dfprune.planning.budget import count_for_sparsity, count_for_tolerance, share_out
from keras_dfprune.planning.chosen_groups import choose_groups
from keras_dfprune.planning.group_plan import GroupPlan
from keras_dfprune.planning.notes import folded_parameters, new_biases, notes
from keras_dfprune.planning.parameter_count import ParameterCount
from keras_dfprune.planning.plan_data import PlanData
from keras_dfprune.planning.request import Request
from keras_dfprune.report.progress import Progress
from keras_dfprune.surgery.carry_out import carry_out
from keras_dfprune.surgery.group_view import view_group
from keras_dfprune.surgery.weights import LayerStates, without_bias


@dataclasses.dataclass(frozen=True, eq=False)
class Planned:
    """Plan, and the model's weights with all its merges carried out.

    Attributes:
        plan: The plan.
        states: The states of the layers after the last merge: what the narrow model is built from.
    """

    plan: PlanData
    states: LayerStates


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
    planner = _Planner(located, request, progress)
    counts: Mapping[str, int | None] = dict.fromkeys(chosen)
    if request.max_params is not None:
        counts = planner.share_out(set(chosen), request.max_params)
    groups, states = planner.cut(counts, chosen)
    plan = planner.write_down(groups, states, digests.result())
    return Planned(plan, states)


class _Planner:
    """Planner of one request for one model: the two passes and the data that they share."""

    def __init__(self, located: LocatedModel, request: Request, progress: Progress):
        self._located, self._layout, self._request = located, located.layout, request
        self._method, self._progress = request.method, progress
        self._count = ParameterCount(self._layout, located.model.count_params())
        data, values = request.method.calibration_data, {}
        if data is not None:
            values = unit_values(located, data, request.seed)
        self._context = Context(
            request.seed, values=values, strategy=request.strategy, progress=progress
        )

    def share_out(self, chosen: set[str], max_params: int) -> dict[str, int]:
        """Score every group on the original weights and share the budget out over the chosen."""
        scoring, curves = self._start_pass(), {}
        for name in self._progress.over("Allocating", self._layout.groups):
            curve = scoring.curve(name)
            scoring.leave_whole(name, curve)
            if name in chosen:
                curves[name] = curve
        units = {name: self._layout.groups[name].units for name in curves}
        # The biases that some consumers may get are paid for in advance.
        reserve = sum(self._count.outputs(path, {}) for path in without_bias(self._layout))
        total = self._located.model.count_params() + reserve
        return share_out(curves, units, ParameterCount(self._layout, total), max_params)

    def cut(
        self, counts: Mapping[str, int | None], sparsity: Mapping[str, float | None]
    ) -> tuple[list[GroupPlan], LayerStates]:
        """Score and cut each group on the weights that the groups before it left.

        Args:
            counts: How many units go, by group; None where that follows from the sparsity, the
                tolerance or the method's automatic cut-off.
            sparsity: Sparsity of each of these groups, None where it isn't given.
        """
        scoring, groups = self._start_pass(), []
        # Groups that stay whole are scored only for the moments that they hand on.
        names = self._layout.groups if self._method.predicts_error else counts
        for name in self._progress.over("Pruning", list(names)):
            curve = scoring.curve(name)
            if name in counts:
                asked = self._asked(name, curve, counts[name], sparsity[name])
                groups.append(self._cut_group(scoring, name, curve, asked))
            else:
                scoring.leave_whole(name, curve)
            del curve  # It may hold large matrices: none stays while the next group is scored.
        return groups, scoring.states

    def _start_pass(self) -> "_ScoringPass":
        return _ScoringPass(self._located, self._method, self._context, self._count)

    def _asked(
        self, name: str, curve: Curve, count: int | None, sparsity: float | None
    ) -> int | None:
        """Return how many units are to go, or None where that is left to the method."""
        if count is not None:
            return count
        if sparsity is not None:
            return count_for_sparsity(sparsity, self._layout.groups[name].units)
        if self._request.tolerance is not None:
            return count_for_tolerance(curve, self._request.tolerance)
        return None

    def _cut_group(
        self, scoring: "_ScoringPass", name: str, curve: Curve, asked: int | None
    ) -> GroupPlan:
        group, wanted = self._layout.groups[name], curve.automatic if asked is None else asked
        if wanted is None:
            raise ValueError(
                f"method='{self._method.name}' has no automatic cut-off. Give `sparsity` or "
                "`max_params`."
            )
        count = min(wanted, len(curve.order), group.units - 1)
        merge = scoring.cut(name, curve, count)
        order_ends_early = count == len(curve.order) < group.units - 1
        return GroupPlan(
            layer=name,
            layers=group.layers,
            units=group.units,
            merge=merge,
            parameters=(0, 0),  # counted when all groups are cut
            saliency=np.asarray(curve.costs, np.float64),
            cutoff=curve.cutoff,
            predicted_error=self._predicted_error(curve, count),
            histogram=curve.histogram,
            note=curve.note if asked is None or order_ends_early else None,
            lossless=curve.lossless,
        )

    def _predicted_error(self, curve: Curve, count: int) -> float | None:
        if not self._method.predicts_error:
            return None
        expected = np.sum(curve.costs[:count]) if curve.error is None else curve.error(count)
        return float(expected / curve.scale)

    def write_down(
        self, groups: list[GroupPlan], states: LayerStates, fingerprint: LayerDigests
    ) -> PlanData:
        """Return the plan of groups that have been cut, with their parameters counted."""
        graph, layout, model = self._located.graph, self._layout, self._located.model
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
            notes=notes(graph, layout, states),
            refinement=self._method.refinement,
        )


class _ScoringPass:
    """Pass over the groups, from input to output.

    Attributes:
        states: The states of the layers as the groups so far have left them.
    """

    def __init__(
        self, located: LocatedModel, method: Method, context: Context, count: ParameterCount
    ):
        self.states = LayerStates(located.layout)
        self._layout, self._method = located.layout, method
        self._context, self._count = context, count
        self._moments: dict[str, Any] = {}

    def curve(self, name: str) -> Curve:
        """Score a group on the weights that the groups before it left."""
        kept = {path: len(units) for path, units in self.states.kept.items()}
        per_unit = self._count.saved_by_one(name, kept)
        view = view_group(self._layout.groups[name], self._layout, self.states, per_unit)
        return self._method.curve(view, dataclasses.replace(self._context, moments=self._moments))

    def leave_whole(self, name: str, curve: Curve) -> None:
        """Keep all units of a group, for the groups behind it to see."""
        self.states.kept[name] = np.arange(self._layout.groups[name].units)
        self._hand_on(name, curve, 0)

    def cut(self, name: str, curve: Curve, count: int) -> UnitMerge:
        """Carry out the merge of a group's first `count` removals."""
        group = self._layout.groups[name]
        merge = curve.merge(count)
        _check_merge(self._method, group, merge, count)
        carry_out(group, merge, self.states)
        self._hand_on(name, curve, count)
        return merge

    def _hand_on(self, name: str, curve: Curve, count: int) -> None:
        if curve.moments is not None:
            self._moments[name] = curve.moments(count)


def _check_merge(method: Method, group: UnitGroup, merge: UnitMerge, count: int) -> None:
    """Check that a method's merge is the one that was asked for."""
    if merge.units != group.units or len(merge.removed) != count:
        raise ValueError(
            f"method='{method.name}' must remove {count} of the {group.units} units of layer "
            f"'{group.name}', as `Curve.merge({count})` was asked to. Received: a merge that "
            f"removes {len(merge.removed)} of {merge.units}"
        )
    if np.any(merge.offset) and not group.offset_allowed:
        raise ValueError(
            f"method='{method.name}' returned an offset for layer '{group.name}', which can't "
            "take one. Return zeros where `GroupView.offset_allowed` is False."
        )
