"""The public functions: a model into a plan, and a model into a narrower model."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import keras
import numpy as np

from keras_dfprune.budget import (
    check_budget,
    count_for_sparsity,
    count_for_tolerance,
    resolve,
    share_out,
)
from keras_dfprune.calibration import unit_values
from keras_dfprune.centroids import carry_out
from keras_dfprune.fingerprint import layer_digests
from keras_dfprune.graph import Graph, read_graph
from keras_dfprune.layout import Layout
from keras_dfprune.locate import locate
from keras_dfprune.merge import UnitMerge
from keras_dfprune.methods import METHODS
from keras_dfprune.methods.base import Context, Curve, Method
from keras_dfprune.model_check import check_model
from keras_dfprune.notes import folded_parameters, new_biases, notes
from keras_dfprune.parameters import ParameterCount
from keras_dfprune.plan import GroupPlan, PruningPlan
from keras_dfprune.progress import Progress
from keras_dfprune.states import States, without_bias
from keras_dfprune.view import view
from keras_dfprune.warning import warn


def apply(
    model: keras.Model,
    *,
    method: str | Method = "saliency",
    sparsity: float | Mapping[str, float] | None = None,
    max_params: int | None = None,
    tolerance: float | None = None,
    layers: Sequence[str] | None = None,
    verify: bool = True,
    seed: int = 0,
    verbose: int = 0,
) -> keras.Model:
    """Makes the layers of a trained model narrower, without data and without training.

    Args:
        model: A built Sequential or Functional `keras.Model`. It is not changed.
        method: `"saliency"` (default; Srinivas & Babu 2015), `"moments"`, or a `Method`.
        sparsity: Fraction of the units to remove, in [0, 1): of every prunable layer, or by
            layer name; layers not named stay whole.
        max_params: Largest number of parameters that the whole model may have, biases included.
        tolerance: Largest predicted error at each group's consumers: expected squared change
            over variance. 0: lossless removals only, with any method. Above 0: `"moments"` only.
        layers: Names of the layers to consider; None for all.
        verify: Whether to compare the result with the original, its removed units cut off, on
            two random inputs.
        seed: Seed for whatever a method draws at random.
        verbose: 1 for a progress bar and the plan's table; 0 (default) for silence.

    Returns:
        A new Keras model of the same kind; compiled as `model` was, optimizer state included.
        Without a budget each method decides how many units may go.

    Raises:
        TypeError: If `model` is not a Keras 3 model.
        ValueError: For a model that isn't built or whose graph can't be seen, and for arguments
            that make no sense.
        VerificationError: If the result doesn't compute what was planned.

    Example:
    >>> import keras, keras_dfprune as dfprune
    >>> model = keras.Sequential(
    ...     [keras.Input((8,)), keras.layers.Dense(20, "relu"), keras.layers.Dense(3)]
    ... )
    >>> pruned = dfprune.apply(model, sparsity=0.5)
    >>> pruned.layers[0].units
    10
    """
    made = plan(
        model,
        method=method,
        sparsity=sparsity,
        max_params=max_params,
        tolerance=tolerance,
        layers=layers,
        verify=verify,
        seed=seed,
        verbose=verbose,
    )
    return made.apply(model)


def plan(
    model: keras.Model,
    *,
    method: str | Method = "saliency",
    sparsity: float | Mapping[str, float] | None = None,
    max_params: int | None = None,
    tolerance: float | None = None,
    layers: Sequence[str] | None = None,
    verify: bool = True,
    seed: int = 0,
    verbose: int = 0,
) -> PruningPlan:
    """Decides which units to remove, to look at before anything is cut.

    Args:
        model: As for `apply`, like all other arguments.
        method: As for `apply`.
        sparsity: As for `apply`.
        max_params: As for `apply`.
        tolerance: As for `apply`.
        layers: As for `apply`.
        verify: What `PruningPlan.apply` does by default.
        seed: As for `apply`.
        verbose: As for `apply`.

    Returns:
        A `PruningPlan`; `plan.apply(model)` makes the narrow model.

    Raises:
        TypeError: As `apply`.
        ValueError: As `apply`.
    """
    check_model(model)
    method = find_method(method)
    check_budget(method, sparsity, max_params, tolerance)
    graph = read_graph(model)
    layout = locate(graph)
    wanted = _wanted(graph, layout, sparsity, layers)
    planner = _Planner(model, graph, layout, method, seed, Progress(verbose))
    if max_params is not None:
        counts = planner.share_out(wanted, int(max_params))
    else:
        counts = dict.fromkeys(wanted)
    groups = planner.cut(counts, wanted, tolerance)
    made = planner.finish(groups, verify)
    _warn(made, layout, sparsity, layers)
    if verbose:
        print(made)  # noqa: T201 - it was asked for
    return made


def find_method(method: str | Method) -> Method:
    """The method that an argument names.

    Raises:
        ValueError: If it names none.
    """
    if isinstance(method, Method):
        return method
    if isinstance(method, str) and method in METHODS:
        return METHODS[method]()
    raise ValueError(
        f"`method` must be one of {', '.join(map(repr, METHODS))} or a `keras_dfprune.Method`. "
        f"Received: method={method!r}"
    )


def _wanted(graph: Graph, layout: Layout, sparsity, layers) -> dict[str, float | None]:
    """The groups to cut, with the sparsity of each where one is given."""
    refused = [refusal.layer for refusal in layout.refusals]
    tied = {group.name: group.layers for group in layout.groups.values()}
    names = {path: name for name, paths in tied.items() for path in paths}
    producers = [*names, *refused]
    others = [path for path in graph.paths.values() if path not in producers]
    if isinstance(sparsity, Mapping):
        if layers is not None:
            raise ValueError("Give layer names in `sparsity` or in `layers`, not in both.")
        wanted: dict[str, float | None] = {}
        for name, value in sparsity.items():
            path = resolve(name, producers, others)
            group = names.get(path, path)
            if wanted.setdefault(group, float(value)) != float(value):
                others_tied = [one for one in tied.get(group, ()) if one != path]
                also = f", or a layer tied to it ({', '.join(others_tied)})" if others_tied else ""
                raise ValueError(
                    f"`sparsity` names layer '{path}'{also} twice, with {wanted[group]} and "
                    f"{value}."
                )
    else:
        if isinstance(layers, str):
            layers = [layers]
        if not (layers is None or isinstance(layers, Iterable)):
            raise ValueError(f"`layers` must be a list of layer names. Received: layers={layers!r}")
        value = None if sparsity is None else float(sparsity)
        paths = [
            resolve(name, producers, others) for name in (producers if layers is None else layers)
        ]
        wanted = {names.get(path, path): value for path in paths}
    return {path: wanted[path] for path in layout.groups if path in wanted}


class _Planner:
    """Scores and cuts the groups of one model from input to output."""

    def __init__(self, model, graph, layout, method, seed, progress):
        self._model = model
        self._graph = graph
        self._layout = layout
        self._method = method
        self._seed = seed
        self._progress = progress
        self._verbose = progress.verbose
        self._states = States(layout)
        self._values = {}
        if method.calibration_data is not None:
            self._values = unit_values(model, graph, layout, method.calibration_data, seed)
        self._count = ParameterCount(layout, model.count_params())

    def share_out(self, wanted, max_params: int) -> dict[str, int]:
        """First pass: every curve on the original weights, and the budget over all of them."""
        states, moments, curves = States(self._layout), {}, {}
        for name in self._progress.over("Allocating", self._layout.groups):
            units = self._layout.groups[name].units
            curve = self._curve(name, states, moments)
            states.kept[name] = np.arange(units)
            if curve.moments is not None:
                moments[name] = curve.moments(0)
            if name in wanted:
                curves[name] = curve
        units = {name: self._layout.groups[name].units for name in curves}
        # the biases that some consumers may get are paid for in advance
        reserve = sum(self._count.outputs(path, {}) for path in without_bias(self._layout))
        count = ParameterCount(self._layout, self._model.count_params() + reserve)
        return share_out(curves, units, count, max_params)

    def cut(self, counts, wanted, tolerance) -> list[GroupPlan]:
        """Second pass: each group is scored on the weights that the one before left."""
        states, moments, groups = States(self._layout), {}, []
        self._states = states
        relevant = self._layout.groups if self._method.predicts_error else counts
        for name in self._progress.over("Pruning", list(relevant)):
            curve = self._curve(name, states, moments)
            group = self._layout.groups[name]
            count = 0
            if name in counts:
                count = self._number(curve, group, counts[name], wanted[name], tolerance)
            merge = self._merge(curve, group, count)
            carry_out(group, merge, states)
            if curve.moments is not None:
                moments[name] = curve.moments(count)
            if name in counts:
                groups.append(self._group_plan(name, curve, merge, count))
        return groups

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
            fingerprint=layer_digests(self._graph),
            notes=notes(self._graph, self._layout, self._states),
            refinement=self._method.refinement,
            verify=verify,
            verbose=self._verbose,
        )

    def _curve(self, name, states, moments) -> Curve:
        group = self._layout.groups[name]
        kept = {path: len(units) for path, units in states.kept.items()}
        seen = view(group, self._layout, states, self._count.saved_by_one(name, kept))
        return self._method.curve(seen, Context(self._seed, moments, self._values))

    def _number(self, curve, group, count, sparsity, tolerance) -> int:
        if count is None and sparsity is not None:
            count = count_for_sparsity(sparsity, group.units)
        if count is None and tolerance is not None:
            count = count_for_tolerance(curve, tolerance)
        if count is None:
            count = curve.automatic
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

    def _group_plan(self, name, curve: Curve, merge, count: int) -> GroupPlan:
        error = None
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
            note=curve.note if count == curve.automatic else None,
        )


def _warn(made: PruningPlan, layout: Layout, sparsity, layers) -> None:
    """One warning where the caller might think that more was pruned."""
    named = list(sparsity) if isinstance(sparsity, Mapping) else layers or []
    named = [named] if isinstance(named, str) else named
    refused = [r for r in layout.refusals if r.layer in named or r.layer.rsplit("/")[-1] in named]
    if refused:
        reasons = "; ".join(f"{refusal.layer}: {refusal.reason}" for refusal in refused)
        warn(f"Layers left whole although they were named: {reasons}")
    elif not made.groups:
        reasons = "; ".join(f"{r.layer}: {r.reason}" for r in layout.refusals)
        reasons = reasons or "It has no Dense layer"
        warn(f"Model '{made.model_name}' has nothing to prune. {reasons}")
