"""The groups of one model, scored and cut from input to output, into a plan.

Two passes where a budget is shared out: every group on the original weights, to allocate; then each
on the weights that the one before left.
"""

import dataclasses
from collections.abc import Mapping

import keras
import numpy as np

from keras_dfprune.api.pruning_plan import PruningPlan
from keras_dfprune.graph.calls import Graph
from keras_dfprune.graph.fingerprint import start_layer_digests
from keras_dfprune.inputs.unit_values import unit_values
from keras_dfprune.locate.groups import Layout, UnitGroup
from keras_dfprune.methods.base import Context, Curve, Method
from keras_dfprune.methods.merge import UnitMerge
from keras_dfprune.planning.budget import count_for_sparsity, count_for_tolerance, share_out
from keras_dfprune.planning.group_plan import GroupPlan
from keras_dfprune.planning.notes import folded_parameters, new_biases, notes
from keras_dfprune.planning.parameter_count import ParameterCount
from keras_dfprune.report.progress import Progress
from keras_dfprune.surgery.carry_out import carry_out
from keras_dfprune.surgery.group_view import view_group
from keras_dfprune.surgery.weights import LayerStates, without_bias

Wanted = Mapping[str, float | None]  # the groups to cut, with the sparsity where one is given


class Planner:
    """Scores and cuts the groups of one model from input to output."""

    def __init__(
        self,
        model: keras.Model,
        graph: Graph,
        layout: Layout,
        method: Method,
        context: Context,
        progress: Progress,
    ):
        self._model = model
        self._graph = graph
        self._layout = layout
        self._method = method
        self._context = dataclasses.replace(context, progress=progress)
        self._progress = progress
        self._verbose = progress.verbose
        self._digests = start_layer_digests(graph)
        self._states = LayerStates(layout)
        if method.calibration_data is not None:
            data = method.calibration_data
            values = unit_values(model, graph, layout, data, context.seed)
            self._context = dataclasses.replace(context, values=values)
        self._count = ParameterCount(layout, model.count_params())

    def share_out(self, wanted: Wanted, max_params: int) -> dict[str, int]:
        """First pass: every curve on the original weights, and the budget over all of them."""
        states, moments, curves = LayerStates(self._layout), {}, {}
        for name in self._progress.over("Allocating", self._layout.groups):
            curve = self._leave_whole(name, states, moments)
            if name in wanted:
                curves[name] = curve
        units = {name: self._layout.groups[name].units for name in curves}
        # the biases that some consumers may get are paid for in advance
        reserve = sum(self._count.outputs(path, {}) for path in without_bias(self._layout))
        count = ParameterCount(self._layout, self._model.count_params() + reserve)
        return share_out(curves, units, count, max_params)

    def cut(
        self, counts: Mapping[str, int | None], wanted: Wanted, tolerance: float | None
    ) -> list[GroupPlan]:
        """Second pass: each group is scored on the weights that the one before left.

        Args:
            counts: How many units go, by group; None where that is found from what is wanted, the
                tolerance, or the method's automatic cut-off.
            wanted: The sparsity of each group, None where it isn't given.
            tolerance: Largest predicted error, or None.
        """
        self._states, moments, groups = LayerStates(self._layout), {}, []
        relevant = self._layout.groups if self._method.predicts_error else counts
        for name in self._progress.over("Pruning", list(relevant)):
            if name in counts:
                asked = (counts[name], wanted[name], tolerance)
                groups.append(self._cut_one(name, moments, asked))
            else:
                self._leave_whole(name, self._states, moments)
        return groups

    def _leave_whole(self, name: str, states: LayerStates, moments: dict) -> Curve:
        """The curve of a group; later ones see all of its units."""
        curve = self._curve(name, states, moments)
        states.kept[name] = np.arange(self._layout.groups[name].units)
        if curve.moments is not None:
            moments[name] = curve.moments(0)
        return curve

    def _cut_one(
        self, name: str, moments: dict, asked: tuple[int | None, float | None, float | None]
    ) -> GroupPlan:
        """The plan of one group, cut in the states; its curve, which may be large, is let go."""
        curve, group = self._curve(name, self._states, moments), self._layout.groups[name]
        number = _asked(curve, group, *asked)
        count = self._number(curve, group, number)
        merge = self._merge(curve, group, count)
        carry_out(group, merge, self._states)
        if curve.moments is not None:
            moments[name] = curve.moments(count)
        exhausted = count == len(curve.order) < group.units - 1
        note = curve.note if number is None or exhausted else None  # why there are no more
        return self._group_plan(name, curve, merge, note)

    def finish(self, groups: list[GroupPlan], verify: bool) -> PruningPlan:
        """The plan of these groups."""
        kept = {group.layer: len(group.kept) for group in groups}
        before = self._model.count_params()
        biases = new_biases(self._layout, self._states)
        folded = folded_parameters(self._layout, self._states)
        gained = {path: self._count.outputs(path, kept) for path in biases}
        added = sum(gained.values())
        counted = []
        for group in groups:
            whole = self._count.of_layers(group.layers, {})
            left = self._count.of_layers(group.layers, kept)
            left += sum(gained.get(path, 0) for path in group.layers)
            counted.append(dataclasses.replace(group, parameters=(whole, left)))
        return PruningPlan(
            groups=tuple(counted),
            refusals=self._layout.refusals,
            parameters=(before, self._count.total(kept) + added - folded),
            method={"name": self._method.name, **self._method.get_config()},
            model_name=self._model.name,
            fingerprint=self._digests.result(),
            notes=notes(self._graph, self._layout, self._states),
            refinement=self._method.refinement,
            verify=verify,
            verbose=self._verbose,
        )

    def _curve(self, name, states, moments) -> Curve:
        group = self._layout.groups[name]
        kept = {path: len(units) for path, units in states.kept.items()}
        seen = view_group(group, self._layout, states, self._count.saved_by_one(name, kept))
        return self._method.curve(seen, dataclasses.replace(self._context, moments=moments))

    def _number(self, curve, group, asked: int | None) -> int:
        count = curve.automatic if asked is None else asked
        if count is None:
            raise ValueError(
                f"method='{self._method.name}' has no automatic cut-off. Give `sparsity` or "
                "`max_params`."
            )
        return min(count, len(curve.order), group.units - 1)

    def _merge(self, curve: Curve, group, count: int) -> UnitMerge:
        merge = curve.merge(count)
        if merge.units != group.units or len(merge.removed) != count:
            raise ValueError(
                f"method='{self._method.name}' must remove {count} of the {group.units} units of "
                f"layer '{group.name}', as `Curve.merge({count})` was asked to. Received: a merge "
                f"that removes {len(merge.removed)} of {merge.units}"
            )
        if np.any(merge.offset) and not group.offset_allowed:
            raise ValueError(
                f"method='{self._method.name}' returned an offset for layer '{group.name}', which "
                "has nowhere to go. Return zeros where `GroupView.offset_allowed` is False."
            )
        return merge

    def _group_plan(self, name, curve: Curve, merge: UnitMerge, note: str | None) -> GroupPlan:
        error, count = None, len(merge.removed)
        if self._method.predicts_error:
            expected = np.sum(curve.costs[:count]) if curve.error is None else curve.error(count)
            error = float(expected / curve.scale)
        return GroupPlan(
            layer=name,
            layers=self._layout.groups[name].layers,
            units=self._layout.groups[name].units,
            merge=merge,
            parameters=(0, 0),  # counted once all groups are cut
            saliency=np.asarray(curve.costs, np.float64),
            cutoff=curve.cutoff,
            predicted_error=error,
            histogram=curve.histogram,
            note=note,
            lossless=curve.lossless,
        )


def _asked(curve: Curve, group: UnitGroup, count, sparsity, tolerance) -> int | None:
    """How many units are to go, or None where that is left to the method."""
    if count is None and sparsity is not None:
        return count_for_sparsity(sparsity, group.units)
    if count is None and tolerance is not None:
        return count_for_tolerance(curve, tolerance)
    return count
