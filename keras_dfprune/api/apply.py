"""The public functions: a model into a plan, and a model into a narrower model."""

from collections.abc import Mapping, Sequence

import keras
import tensorflow as tf

from keras_dfprune.api.pruning_plan import PruningPlan
from keras_dfprune.locate.groups import Layout
from keras_dfprune.methods.base import Context, Method
from keras_dfprune.planning.planner import Planner
from keras_dfprune.planning.request import check_budget, check_strategy, find_method, read_request
from keras_dfprune.report.progress import Progress
from keras_dfprune.report.warning import warn


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
    strategy: tf.distribute.Strategy | None = None,
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
        strategy: A `tf.distribute.Strategy` whose replicas share the distances of each layer; the
            plan is the same. Every worker of a `MultiWorkerMirroredStrategy` makes it, from the
            same model. None (default): where TensorFlow places them. `"saliency"` only.
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
        strategy=strategy,
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
    strategy: tf.distribute.Strategy | None = None,
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
        strategy: As for `apply`.
        verbose: As for `apply`.

    Returns:
        A `PruningPlan`; `plan.apply(model)` makes the narrow model.

    Raises:
        TypeError: As `apply`.
        ValueError: As `apply`.
    """
    method = find_method(method)
    check_budget(method, sparsity, max_params, tolerance)
    check_strategy(method, strategy)
    graph, layout, wanted = read_request(model, method, sparsity, layers)
    context = Context(seed, strategy=strategy)
    planner = Planner(model, graph, layout, method, context, Progress(verbose))
    if max_params is not None:
        counts = planner.share_out(wanted, int(max_params))
    else:
        counts = dict.fromkeys(wanted)
    groups = planner.cut(counts, wanted, tolerance)
    made = planner.finish(groups, verify)
    _warn(made, layout, sparsity, layers)
    if max_params is None and tolerance is None:
        _warn_of_nothing(made, sparsity)
    if verbose:
        print(made)  # noqa: T201 - it was asked for
    return made


def _warn(made: PruningPlan, layout: Layout, sparsity, layers) -> None:
    """One warning where the caller might think that more was pruned."""
    named = list(sparsity) if isinstance(sparsity, Mapping) else layers or []
    named = [named] if isinstance(named, str) else named
    refused = [r for r in layout.refusals if r.layer in named or r.layer.rsplit("/")[-1] in named]
    if refused:
        reasons = "; ".join(f"{refusal.layer}: {refusal.reason}" for refusal in refused)
        warn(f"Layers left whole although they were named: {reasons}")
    elif not layout.groups:
        reasons = "; ".join(f"{r.layer}: {r.reason}" for r in layout.refusals)
        reasons = reasons or "It has no Dense layer"
        warn(f"Model '{made.model_name}' has nothing to prune. {reasons}")


def _warn_of_nothing(made: PruningPlan, sparsity) -> None:
    """A warning where units could go and were asked for, but none does."""
    asked = sparsity.values() if isinstance(sparsity, Mapping) else [sparsity]
    if not made.groups or not any(value is None or value > 0 for value in asked):
        return
    if any(len(group.removed) for group in made.groups):
        return
    reasons = dict.fromkeys(group.note for group in made.groups if group.note)
    if not reasons and sparsity is None:
        reasons = ["no unit costs little enough for the automatic cut-off; give `sparsity`"]
    elif not reasons:
        reasons = ["`sparsity` of their units is less than half a unit in each layer"]
    warn(f"Nothing is removed from model '{made.model_name}': {'; '.join(reasons)}")
