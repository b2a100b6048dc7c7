"""Find the smallest narrow model that the user's own measure allows."""

import contextlib
import dataclasses
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import keras

from keras_dfprune.api.evaluation import Evaluation, check_limits, read_evaluation
from keras_dfprune.api.open_model import locate_in_any
from keras_dfprune.api.pruning_plan import PruningPlan
from keras_dfprune.api.search_result import SearchResult
from keras_dfprune.api.size_search import SizeSearch
from keras_dfprune.api.trial_file import TrialFile, digest, settings_of
from keras_dfprune.api.trials import Trial, Trials
from keras_dfprune.exporting.export import exported_size
from keras_dfprune.methods.base import Method
from keras_dfprune.planning.budget import SharedRemovals
from keras_dfprune.planning.gather_rows import with_data_read
from keras_dfprune.planning.read_arguments import BUDGETS, is_number
from keras_dfprune.planning.request import read_request
from keras_dfprune.planning.width_count import WidthCount
from keras_dfprune.report.memory import clear_memory_errors
from keras_dfprune.report.progress import Progress
from keras_dfprune.report.silence import without_keras_warnings
from keras_dfprune.report.warning import warn

_OBJECTIVES = ("params", "flops", "bytes")
_STEPS = 20


def search(
    model: keras.Model,
    evaluate: Any,
    *,
    max_drop: float | None = None,
    min_score: float | None = None,
    lower_is_better: bool | None = None,
    objective: str | Callable[[keras.Model], float] = "params",
    method: str | Method = "moments",
    data: Any = None,
    steps: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    seed: int = 0,
    verbose: int = 0,
    **arguments: Any,
) -> SearchResult:
    """Find the smallest narrow model whose score stays within a limit.

    It first looks along the budget that is shared out over the layers, by bisection, then makes
    single layers narrower while the score allows it.

    Args:
        model: A built Keras model. It is not changed.
        evaluate: The measure: a function from a model to a number, or a tuple `(x, y)` or
            `(x, y, sample_weight)`, for the first compiled metric (the loss without metrics).
            Give rows that are neither those of the training nor those of the final report.
        max_drop: How much worse than the original's the score may be, at least 0, in the measure's
            own unit. Give this or `min_score`.
        min_score: Worst score that is allowed.
        lower_is_better: Whether low scores are good. None (default): what Keras says of the
            metric; False for a function.
        objective: What is made small: `"params"` (default), `"flops"` (multiply-adds of one row),
            `"bytes"` (of a LiteRT file), or a function from a model to a number.
        method: As in `apply`.
        data: Unlabelled rows, as in `apply`.
        steps: Largest number of models that are scored, beside the original, at least 1. None
            (default): 20.
        checkpoint: File that remembers every trial. An interrupted search goes on where it was.
            It stays when the search is finished. It is refused for another model, other arguments
            and other rows. If the code of `evaluate` has changed, a warning says so.
        seed: As in `apply`.
        verbose: 1 for a line for each trial.
        **arguments: `layers`, `exclude`, `trainable_only`, `multiple_of` and `refine_steps`, as in
            `apply`.

    Returns:
        A `SearchResult`: `.model`, `.plan`, `.score`, `.trials`, `.plot(path)`. Ctrl-C ends the
        search, and the result is the best so far. If no model is within the limit, it is the
        original's lossless form, with a warning.

    Raises:
        TypeError: If `evaluate` is no measure, or for an unknown argument.
        ValueError: For arguments that make no sense, a measure that fails or returns anything but
            a number, and a checkpoint of another search.

    Examples:
        >>> import keras, numpy as np, keras_dfprune as dfprune
        >>> model = keras.Sequential([keras.Input((8,)), *map(keras.layers.Dense, (20, 3))])
        >>> x = np.random.default_rng(0).normal(size=(100, 8))
        >>> wide = model.predict(x, verbose=0)
        >>> def r(narrow):
        ...     return np.corrcoef(narrow.predict(x, verbose=0).ravel(), wide.ravel())[0, 1]
        >>> result = dfprune.search(model, r, max_drop=0.01, steps=6)
        >>> result.score >= 0.99 and result.plan.parameters[1] < 243
        True
    """
    check_limits(max_drop, min_score)
    check_no_budget(arguments)
    steps = _read_steps(steps)
    request = read_request(method=method, data=data, seed=seed, verify=True, **arguments)
    noun = _read_objective(objective)
    evaluation = read_evaluation(model, evaluate, lower_is_better)
    file = TrialFile(checkpoint)
    with without_keras_warnings(), clear_memory_errors():
        located, progress = locate_in_any(model), Progress(0)
        request = with_data_read(request, located.model)
        size, count_of = _sizes(objective)
        file.use_for(
            settings_of(
                located, request, objective=noun, max_drop=max_drop, min_score=min_score,
                measure=evaluation.name, lower_is_better=evaluation.lower_is_better,
                evaluate=None if callable(evaluate) else digest(evaluate),
            )
        )  # fmt: skip
        _check_code(evaluate, file)
        baseline = _baseline(evaluation, model, file)
        limit = evaluation.limit(baseline, max_drop, min_score)
        trials = Trials(located, request, evaluation, limit, size, file, progress)
        count = count_of(trials)
        multiples = trials.planner.chosen.multiples
        removals = SharedRemovals(trials.curves, count, multiples)
        whole = size(model, trials.planner.whole_multiply_adds)
        tell = _teller(verbose, evaluation.name, whole)
        found = SizeSearch(trials, removals, count, steps, multiples, tell)
        interrupted = False
        try:
            found.run()
        except KeyboardInterrupt:
            interrupted = True
        counts = found.best[0] if found.best else removals.counts(removals.lossless)
        planned, narrow = trials.model(counts, verify=True)
    score = found.best[1].score if found.best else baseline
    result = SearchResult(
        model=narrow,
        plan=PruningPlan.of(planned, dataclasses.replace(request, verbose=0)),
        score=score,
        baseline=baseline,
        limit=limit,
        measure=evaluation.name,
        objective=noun,
        size=whole,
        trials=tuple(trials.done),
        interrupted=interrupted,
    )
    _warn(result)
    return result


def check_no_budget(arguments: Mapping[str, Any]) -> None:
    """Check that no budget is given to what finds the budget itself.

    Raises:
        TypeError: If one is.
    """
    for name in BUDGETS:
        if name in arguments:
            raise TypeError(f"`search` finds the budget itself. Received: {name}")


def _read_steps(steps: Any) -> int:
    if steps is None:
        return _STEPS
    if not is_number(steps) or int(steps) != steps or steps < 1:
        raise ValueError(f"`steps` must be an integer of at least 1. Received: {steps!r}")
    return int(steps)


def _read_objective(objective: Any) -> str:
    if callable(objective):
        return getattr(objective, "__name__", "size").replace("<lambda>", "size")
    if objective not in _OBJECTIVES:
        raise ValueError(
            f"`objective` must be one of {', '.join(map(repr, _OBJECTIVES))}, or a function from a "
            f"model to a number. Received: {objective!r}"
        )
    return {"params": "parameters", "flops": "multiply-adds", "bytes": "bytes"}[objective]


def _sizes(
    objective: Any,
) -> tuple[Callable[[keras.Model, int | None], float], Callable[[Trials], WidthCount]]:
    """Return what a model's size is, and what the removals are shared out by."""

    def parameters(trials: Trials) -> WidthCount:
        return trials.planner.parameters_at_most()

    if callable(objective):
        return lambda narrow, adds: float(objective(narrow)), parameters
    if objective == "bytes":
        return lambda narrow, adds: float(exported_size(narrow, "tflite")), parameters
    if objective == "params":
        return lambda narrow, adds: float(narrow.count_params()), parameters
    return lambda narrow, adds: float(adds or 0), lambda trials: trials.planner.multiply_adds


def _check_code(evaluate: Any, file: TrialFile) -> None:
    """Warn if the function has changed since its scores were remembered."""
    code, known = {"digest": digest(evaluate)}, file.get("code")
    if known is not None and known != code:
        warn(
            "The code of `evaluate` has changed since the checkpoint was written. The scores in it "
            "are used as they are; delete it if they are no longer right."
        )
    file.put("code", code)


def _baseline(evaluation: Evaluation, model: keras.Model, file: TrialFile) -> float:
    """Score the original twice, to see whether the measure is noisy."""
    known: Mapping[str, Any] | None = file.get("baseline")
    if known is None:
        scores = [evaluation.score(model) for _ in range(2)]
        known = {"scores": scores}
        file.put("baseline", known)
    first, second = known["scores"]
    if first != first or second != second:
        raise ValueError("`evaluate` returned NaN for the original model.")
    if first != second:
        warn(
            f"`evaluate` is noisy: it gave the original {first:.6g} and then {second:.6g}. Their "
            "mean is the baseline. Give it more rows, or a fixed seed: a search takes luck for "
            "quality."
        )
    return 0.5 * (first + second) if first != second else first


def _teller(verbose: int, measure: str, whole: float) -> Callable[[Trial], None]:
    def tell(trial: Trial) -> None:
        with contextlib.suppress(BrokenPipeError):
            sys.stdout.write(
                f"{trial.size / whole:7.1%} of the size, {trial.parameters:,} parameters: "
                f"{measure} {trial.score:.5g}{'' if trial.within else ' (beyond the limit)'}, "
                f"{trial.seconds:.1f} s\n"
            )

    return tell if verbose else lambda trial: None


def _warn(result: SearchResult) -> None:
    if result.interrupted:
        warn("The search was interrupted: this is the best of what was tried so far.")
    elif not any(trial.within for trial in result.trials):
        warn(
            f"No narrow model has a {result.measure} within {result.limit:.5g} (the original's is "
            f"{result.baseline:.5g}). The result loses nothing and is hardly smaller. Allow a "
            "larger drop, give unlabelled rows (`data`), or let the models recover "
            "(`refine_steps=1000`)."
        )
