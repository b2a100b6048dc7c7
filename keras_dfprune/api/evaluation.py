"""Read the user's measure of a model: a function, or labelled rows for the compiled metrics."""

import contextlib
import dataclasses
import math
import numbers
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from keras_dfprune.graph.keras_private import metric_direction
from keras_dfprune.report.short_message import short_message


@contextlib.contextmanager
def keeps_metrics(model: keras.Model) -> Iterator[None]:
    """Leave the state of a model's metrics as it was: they go on from where `fit` left them."""
    state = [(variable, variable.numpy()) for variable in model.metrics_variables]
    try:
        yield
    finally:
        for variable, value in state:
            variable.assign(value)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Measure of models.

    Attributes:
        name: What is measured, for tables and plots.
        function: Function from a model to its score.
        lower_is_better: Whether low scores are good.
    """

    name: str
    function: Callable[[keras.Model], Any]
    lower_is_better: bool

    def score(self, model: keras.Model) -> float:
        """Return the score of a model; NaN is a score.

        Raises:
            ValueError: If the function fails, or returns anything but one number.
        """
        try:
            value = self.function(model)
        except KeyboardInterrupt:
            raise
        except Exception as error:
            raise ValueError(
                f"`evaluate` failed on a model of {model.count_params():,} parameters: "
                f"{type(error).__name__}: {short_message(error)}"
            ) from error
        if isinstance(value, numbers.Real):
            return float(value)
        shape = getattr(value, "shape", None)
        if shape is not None and tuple(shape) == ():
            return float(np.asarray(value))
        kind = type(value).__name__
        if shape is not None:
            kind += f" of shape {tuple(shape)}"
        if isinstance(value, dict):
            kind += f" with the keys {', '.join(map(str, value))}"
        raise ValueError(
            f"`evaluate` must return one number for a model. Received: a {kind}. Return one of its "
            "entries, or their mean."
        )

    def is_as_good(self, score: float, limit: float) -> bool:
        """Return whether a score is at least as good as a limit; NaN never is."""
        return score <= limit if self.lower_is_better else score >= limit

    def limit(self, baseline: float, max_drop: float | None, min_score: float | None) -> float:
        """Return the worst score that is allowed."""
        if min_score is not None:
            return min_score
        drop = max_drop or 0.0
        return baseline + drop if self.lower_is_better else baseline - drop


def read_evaluation(
    model: keras.Model, evaluate: Any, lower_is_better: bool | None = None
) -> Evaluation:
    """Read the argument `evaluate`.

    Args:
        model: The model to be searched.
        evaluate: A function from a model to a number, or a tuple `(x, y)` or `(x, y, weights)`.
        lower_is_better: Whether low scores are good; None for what the measure says: high ones
            for a function.

    Raises:
        TypeError: If it is neither.
        ValueError: If labels are given for a model that isn't compiled.
    """
    if isinstance(evaluate, tuple | list) and len(evaluate) in (2, 3):
        return _of_rows(model, evaluate, lower_is_better)
    if not callable(evaluate) or isinstance(evaluate, type):
        raise TypeError(
            "`evaluate` must be a function from a model to a number, or a tuple (x, y). "
            f"Received: {type(evaluate).__name__}"
        )
    name = getattr(evaluate, "__name__", "score")
    return Evaluation("score" if name == "<lambda>" else name, evaluate, bool(lower_is_better))


def _of_rows(model: keras.Model, rows: Any, lower_is_better: bool | None) -> Evaluation:
    if not getattr(model, "compiled", False):
        raise ValueError(
            "`evaluate=(x, y)` uses the model's compiled metrics, and the model isn't compiled. "
            "Call model.compile(loss=..., metrics=[...]), or give a function from a model to a "
            "number."
        )
    x, y, weights = (*rows, None)[:3]

    def scores(candidate: keras.Model) -> dict[str, float]:
        with keeps_metrics(candidate):
            return candidate.evaluate(x, y, sample_weight=weights, verbose=0, return_dict=True)

    names = [name for name in scores(model) if name != "loss"]
    name = names[0] if names else "loss"
    direction = metric_direction(model, name)
    if lower_is_better is None and direction is None:
        raise ValueError(
            f"Say whether low values of the metric '{name}' are good: lower_is_better=True or "
            "False."
        )
    lower = direction == "down" if lower_is_better is None else lower_is_better
    return Evaluation(name, lambda candidate: scores(candidate)[name], lower)


def check_limits(max_drop: Any, min_score: Any) -> None:
    """Check that one limit is given, and is a number.

    Raises:
        ValueError: If not.
    """
    if (max_drop is None) == (min_score is None):
        raise ValueError(
            "Give `max_drop` (how much worse than the original's the score may be) or `min_score`. "
            f"Received: max_drop={max_drop!r}, min_score={min_score!r}"
        )
    for name, value in (("max_drop", max_drop), ("min_score", min_score)):
        if value is None:
            continue
        is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value) or (name == "max_drop" and value < 0):
            least = " of at least 0" if name == "max_drop" else ""
            raise ValueError(f"`{name}` must be a finite number{least}. Received: {value!r}")
