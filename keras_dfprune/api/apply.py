"""Prune a model: the public functions `apply` and `plan`, and the way through the stages."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ParamSpec, TypeVar

import keras
import tensorflow as tf

from keras_dfprune.api.narrow_model import narrow_model
from keras_dfprune.api.pruning_plan import PruningPlan
from keras_dfprune.locate.depth import why_untied
from keras_dfprune.locate.groups import Layout
from keras_dfprune.locate.locate import LocatedModel, locate_model
from keras_dfprune.methods.base import Method
from keras_dfprune.planning.measure import NOTICEABLE, largest_change
from keras_dfprune.planning.planner import Planned, make_plan
from keras_dfprune.planning.request import Request, read_request
from keras_dfprune.report.progress import Progress
from keras_dfprune.report.table import each_reason_once
from keras_dfprune.report.warning import warn

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def apply(
    model: keras.Model,
    *,
    method: str | Method = "moments",
    max_params: float | int | None = None,
    sparsity: float | Mapping[str, float] | None = None,
    tolerance: float | None = None,
    data: Any = None,
    refine_steps: int = 0,
    layers: Iterable[str] | None = None,
    verify: bool = True,
    seed: int = 0,
    strategy: tf.distribute.Strategy | None = None,
    verbose: int = 0,
) -> keras.Model:
    """Make the layers of a trained model narrower, without data and without training.

    Args:
        model: A built Sequential or Functional `keras.Model`. It is not changed.
        method: `"moments"` (default), `"saliency"` (Srinivas & Babu 2015), or a `Method`.
        max_params: Size of the whole model, biases included: a float in (0, 1) is the fraction of
            its parameters that may remain, an integer their number. Units go where a saved
            parameter costs least.
        sparsity: Fraction of the units to remove, in [0, 1): of every prunable layer, or by
            layer name. Layers that aren't named stay whole.
        tolerance: Largest change of an output, at least 0: squared change over the variance, in
            front of the last activation, as in `PruningPlan.measured`. 0: lossless removals only.
        data: Unlabelled rows, from which the method learns what the units do: an array; a dict of
            arrays by input name; a list of arrays, one for each input; a `tf.data.Dataset` or a
            generator, whose labels are ignored. A few dozen rows help much, and some hundreds are
            plenty. A quarter is held out to measure the change. None (default): assumptions.
        refine_steps: Steps of recovery, 0 or more (default 0): the narrow model learns to follow
            the original's outputs on `data`, or on drawn inputs.
        layers: Names of the layers to consider. None (default): all.
        verify: Whether to compare the result with the wide twin, a copy of the original whose
            removed units are cut off, on two random inputs.
        seed: Seed for whatever a method draws at random.
        strategy: A `tf.distribute.Strategy` whose replicas share the distances of each layer, which
            `"saliency"` computes. The plan is the same. Every worker of a
            `MultiWorkerMirroredStrategy` makes the plan, from the same model. None (default):
            TensorFlow places the work.
        verbose: 1 for progress bars and the plan's table; 0 (default) for silence.

    Returns:
        A new Keras model of the same kind, compiled as `model` was, optimizer state included.
        Without a budget `"moments"` removes as many units as change the outputs by next to
        nothing, and `"saliency"` those below the paper's cut-off.

    Raises:
        TypeError: If `model` is not a Keras 3 model.
        ValueError: For a model that isn't built or whose graph can't be seen, and for arguments
            that make no sense.
        VerificationError: If the result doesn't compute what was planned.

    Example:
    >>> import keras, numpy as np, keras_dfprune as dfprune
    >>> model = keras.Sequential(
    ...     [keras.Input((8,)), keras.layers.Dense(20, "relu"), keras.layers.Dense(3)]
    ... )
    >>> pruned = dfprune.apply(model, sparsity=0.5, data=np.random.normal(size=(200, 8)))
    >>> pruned.layers[0].units
    10
    """
    request = read_request(
        method=method,
        max_params=max_params,
        sparsity=sparsity,
        tolerance=tolerance,
        data=data,
        refine_steps=refine_steps,
        layers=layers,
        verify=verify,
        seed=seed,
        strategy=strategy,
        verbose=verbose,
    )
    return plan_and_apply(model, request)[1]


def _with_arguments_of(
    function: Callable[_Arguments, Any],
) -> Callable[[Callable[..., _Result]], Callable[_Arguments, _Result]]:
    """Return a decorator that shows the signature of another function to people and tools."""

    def decorate(other: Callable[..., _Result]) -> Callable[_Arguments, _Result]:
        returns = inspect.signature(other).return_annotation
        shown = inspect.signature(function).replace(return_annotation=returns)
        vars(other)["__signature__"] = shown  # PEP 362
        return other

    return decorate


@_with_arguments_of(apply)
def plan(model: keras.Model, **arguments: Any) -> PruningPlan:
    """Decide which units to remove, to look at before anything is cut.

    Args:
        model: A built Sequential or Functional `keras.Model`. It is not changed.
        **arguments: The arguments of `apply`, with the same defaults. `verify` and `verbose` are
            what `PruningPlan.apply` goes by.

    Returns:
        A `PruningPlan`. `plan.apply(model)` makes the narrow model.

    Raises:
        TypeError: As `apply`.
        ValueError: As `apply`.

    Example:
    >>> import keras, keras_dfprune as dfprune
    >>> model = keras.Sequential(
    ...     [keras.Input((8,)), keras.layers.Dense(20, "relu"), keras.layers.Dense(3)]
    ... )
    >>> dfprune.plan(model, max_params=130).parameters
    (243, 123)
    """
    request = read_request(**arguments)
    return _plan(locate_model(model), request, Progress(request.verbose))[0]


def plan_and_apply(model: keras.Model, request: Request) -> tuple[PruningPlan, keras.Model]:
    """Plan and make the narrow model in one go: read, locate, merge and hash once.

    Args:
        model: The model to prune.
        request: The checked arguments.

    Returns:
        The plan and the narrow model.
    """
    located, progress = locate_model(model), Progress(request.verbose)
    pruning_plan, planned = _plan(located, request, progress)
    pruning_plan.check_scope()
    narrow = narrow_model(
        located, pruning_plan, planned.rebuilt, verify=pruning_plan.verify, progress=progress
    )
    pruning_plan.refined.update(narrow.refined)
    return pruning_plan, narrow.model


def _plan(
    located: LocatedModel, request: Request, progress: Progress
) -> tuple[PruningPlan, Planned]:
    planned = make_plan(located, request, progress)
    pruning_plan = PruningPlan(**vars(planned.plan), verify=request.verify, verbose=request.verbose)
    _warn_of_refusals(pruning_plan, located.layout, request)
    _warn_of_nothing_removed(pruning_plan, located, request)
    _warn_of_change(pruning_plan, request)
    if request.verbose:
        print(pruning_plan)  # noqa: T201 - the caller asked for it
    return pruning_plan, planned


def _warn_of_refusals(pruning_plan: PruningPlan, layout: Layout, request: Request) -> None:
    """Warn once where the caller might think that more was pruned."""
    named = set(request.named_layers)
    refused = [r for r in layout.refusals if {r.layer, r.layer.rsplit("/")[-1]} & named]
    if refused:
        reasons = "; ".join(each_reason_once(refused))
        warn(f"Layers left whole although they were named: {reasons}")
    elif not layout.groups:
        reasons = "; ".join(each_reason_once(layout.refusals))
        reasons = reasons or "It has no layer with units, such as Dense or Conv2D"
        warn(f"Model '{pruning_plan.model_name}' has nothing to prune. {reasons}")


def _warn_of_nothing_removed(
    pruning_plan: PruningPlan, located: LocatedModel, request: Request
) -> None:
    """Warn where units can go and were asked for, but none does."""
    if request.max_params is not None or request.tolerance is not None:
        return
    if not (pruning_plan.groups and request.asks_for_units):
        return
    if any(len(group.removed) for group in pruning_plan.groups):
        return
    reasons = list(dict.fromkeys(group.note for group in pruning_plan.groups if group.note))
    if not reasons and request.sparsity is None and request.method.has_cutoff:
        reasons = ["no unit costs little enough for the automatic cut-off; give `sparsity`"]
    elif not reasons and request.sparsity is None:
        reasons = [_why_so_careful(located, request)]
    elif not reasons:
        reasons = ["`sparsity` of their units is less than half a unit in each layer"]
    warn(f"Nothing is removed from model '{pruning_plan.model_name}': {'; '.join(reasons)}")


def _warn_of_change(pruning_plan: PruningPlan, request: Request) -> None:
    """Warn where the outputs change by more than a default budget would allow."""
    change = largest_change(pruning_plan.measured)
    if change <= max(NOTICEABLE, request.tolerance or 0.0):
        return
    worst = max(pruning_plan.measured, key=lambda output: output.change)
    remedies = ["remove less"]
    if not request.has_data:
        remedies.append("give a few dozen unlabelled rows (`data`)")
    if not request.refine_steps:
        remedies.append("let the model recover (`refine_steps=1000`)")
    also = " This is before recovery." if request.refine_steps else ""
    warn(
        f"The outputs of model '{pruning_plan.model_name}' change by {change:.2g} times their "
        f"variance ({worst.output}, measured on {worst.source}).{also} To change them less, "
        f"{', or '.join(remedies)}."
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
