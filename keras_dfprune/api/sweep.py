"""Score a network at several sizes, and each of its layers cut alone."""

import dataclasses
import os
from collections.abc import Iterable, Sequence
from typing import Any

import keras

from keras_dfprune.api.evaluation import read_evaluation
from keras_dfprune.api.open_model import locate_in_any
from keras_dfprune.api.trial_file import TrialFile
from keras_dfprune.api.trials import Trial, Trials
from keras_dfprune.methods.base import Method
from keras_dfprune.planning.budget import SharedRemovals, count_for_sparsity
from keras_dfprune.planning.gather_rows import with_data_read
from keras_dfprune.planning.measure import largest_change
from keras_dfprune.planning.read_arguments import is_number
from keras_dfprune.planning.request import find_method, read_request
from keras_dfprune.report.memory import clear_memory_errors
from keras_dfprune.report.progress import Progress
from keras_dfprune.report.silence import without_keras_warnings
from keras_dfprune.report.table import align
from keras_dfprune.report.trials_plot import plot_sensitivity, plot_sweep

SIZES = (0.75, 0.5, 0.35, 0.25, 0.15, 0.1)


@dataclasses.dataclass(frozen=True, eq=False)
class SweepResult:
    """Scores of a network at several sizes.

    Attributes:
        measure: Name of the measure.
        baseline: Score of the original.
        parameters: Parameters of the original.
        trials: A `Trial` for each method and size that can be reached.
    """

    measure: str
    baseline: float
    parameters: int
    trials: tuple[Trial, ...]

    def __str__(self) -> str:
        rows = [("Method", "Parameters", "Of all", self.measure)]
        rows.append(("original", f"{self.parameters:,}", "100 %", f"{self.baseline:.5g}"))
        for trial in self.trials:
            share = f"{100 * trial.parameters / self.parameters:.1f} %"
            rows.append((trial.method, f"{trial.parameters:,}", share, f"{trial.score:.5g}"))
        return "\n".join(align(rows))

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw the score against the size, a line for each method.

        Args:
            path: The picture. The ending decides the format.

        Raises:
            ImportError: If matplotlib is not installed.
        """
        plot_sweep(self, path)


@dataclasses.dataclass(frozen=True)
class LayerSensitivity:
    """Loss by cutting one group of units alone.

    Attributes:
        layer: Path of the group's first producer.
        units: Number of its units.
        kept: How many of them were kept.
        saved: Parameters that the cut saves.
        value: The score of the model with this cut alone, or the squared change of its outputs
            over their variance where no measure was given.
    """

    layer: str
    units: int
    kept: int
    saved: int
    value: float


@dataclasses.dataclass(frozen=True, eq=False)
class SensitivityResult:
    """Sensitivity of each group of units.

    Attributes:
        measure: What `value` is.
        baseline: The value of the original.
        sparsity: Fraction of the units that each cut removes.
        layers: A `LayerSensitivity` for each group, in the order of the graph.
    """

    measure: str
    baseline: float
    sparsity: float
    layers: tuple[LayerSensitivity, ...]

    def __str__(self) -> str:
        rows = [("Layer", "Units", "Parameters saved", self.measure)]
        rows.append(("original", "", "0", f"{self.baseline:.5g}"))
        for layer in self.layers:
            units = f"{layer.units:,} -> {layer.kept:,}"
            rows.append((layer.layer, units, f"{layer.saved:,}", f"{layer.value:.5g}"))
        return "\n".join(align(rows))

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw a bar for each layer.

        Args:
            path: The picture. The ending decides the format.

        Raises:
            ImportError: If matplotlib is not installed.
        """
        plot_sensitivity(self, path)


def _parameters(narrow: keras.Model, multiply_adds: int | None) -> float:
    return float(narrow.count_params())


def sweep(
    model: keras.Model,
    evaluate: Any,
    *,
    sizes: Sequence[float] = SIZES,
    methods: Iterable[str | Method] = ("moments",),
    lower_is_better: bool | None = None,
    data: Any = None,
    seed: int = 0,
    **arguments: Any,
) -> SweepResult:
    """Score a network at several sizes: the curve from which to choose one.

    Args:
        model: A built Keras model. It is not changed.
        evaluate: The measure, as in `search`.
        sizes: Fractions of the parameters, each in (0, 1). Default: 0.75 down to 0.1.
        methods: Methods, as in `apply`. Default: `"moments"`.
        lower_is_better: As in `search`.
        data: Unlabelled rows, as in `apply`.
        seed: As in `apply`.
        **arguments: `layers`, `exclude`, `trainable_only`, `multiple_of` and `refine_steps`, as in
            `apply`.

    Returns:
        A `SweepResult`: print it, or `.plot(path)`. Sizes below what the narrowest layers have are
        left out.

    Raises:
        TypeError, ValueError: As `search`.

    Examples:
        >>> import keras, keras_dfprune as dfprune
        >>> model = keras.Sequential([keras.Input((8,)), *map(keras.layers.Dense, (20, 3))])
        >>> result = dfprune.sweep(model, lambda narrow: narrow.layers[0].units, sizes=(0.5, 0.25))
        >>> [trial.score for trial in result.trials]
        [9.0, 4.0]
    """
    for size in sizes:
        if not (is_number(size) and 0.0 < size < 1.0):
            raise ValueError(f"`sizes` must be fractions in (0, 1). Received: {size!r}")
    request = read_request(data=data, seed=seed, **arguments)
    found_methods = [find_method(method) for method in methods]
    evaluation = read_evaluation(model, evaluate, lower_is_better)
    found: list[Trial] = []
    with without_keras_warnings(), clear_memory_errors():
        located = locate_in_any(model)
        request = with_data_read(request, located.model)
        baseline = evaluation.score(model)
        for method in found_methods:
            of_method = dataclasses.replace(request, method=method)
            trials = Trials(
                located, of_method, evaluation, baseline, _parameters, TrialFile(), Progress(0)
            )
            count = trials.planner.parameters_at_most()
            removals = SharedRemovals(trials.curves, count, trials.planner.chosen.multiples)
            for size in sizes:
                limit = int(size * model.count_params())
                if removals.sizes[-1] <= limit:
                    steps = removals.steps_to(limit, f"size {size}")
                    found.append(trials.run(removals.counts(steps)))
    return SweepResult(evaluation.name, baseline, model.count_params(), tuple(found))


def sensitivity(
    model: keras.Model,
    evaluate: Any = None,
    *,
    data: Any = None,
    sparsity: float = 0.5,
    lower_is_better: bool | None = None,
    method: str | Method = "moments",
    seed: int = 0,
    **arguments: Any,
) -> SensitivityResult:
    """Cut each layer alone, and see what that costs.

    Args:
        model: A built Keras model. It is not changed.
        evaluate: The measure, as in `search`. None (default): the squared change of the outputs
            over their variance, on `data` or on draws, as in `PruningPlan.measured`.
        data: Unlabelled rows, as in `apply`.
        sparsity: Fraction of the units of each layer to remove, in (0, 1). Default: 0.5.
        lower_is_better: As in `search`.
        method: As in `apply`.
        seed: As in `apply`.
        **arguments: `layers`, `exclude` and `trainable_only`, as in `apply`.

    Returns:
        A `SensitivityResult`: print it, or `.plot(path)`.

    Raises:
        TypeError, ValueError: As `search`.

    Examples:
        >>> import keras, keras_dfprune as dfprune
        >>> model = keras.Sequential([keras.Input((8,)), *map(keras.layers.Dense, (20, 10, 3))])
        >>> result = dfprune.sensitivity(model, lambda narrow: narrow.count_params())
        >>> [layer.saved for layer in result.layers]
        [190, 120]
    """
    if not (is_number(sparsity) and 0.0 < sparsity < 1.0):
        raise ValueError(f"`sparsity` must be a fraction in (0, 1). Received: {sparsity!r}")
    request = read_request(method=method, data=data, seed=seed, **arguments)
    evaluation = None if evaluate is None else read_evaluation(model, evaluate, lower_is_better)
    layers, baseline = [], 0.0
    with without_keras_warnings(), clear_memory_errors():
        located = locate_in_any(model)
        if evaluation is not None:
            baseline = evaluation.score(model)
        trials = Trials(
            located, request, evaluation, baseline, _parameters, TrialFile(), Progress(0)
        )
        multiples = trials.planner.chosen.multiples
        for name, curve in trials.curves.items():
            units = located.layout.prunable[name].units
            removed = min(count_for_sparsity(sparsity, units, multiples[name]), len(curve.order))
            counts = {**dict.fromkeys(trials.curves, 0), name: removed}
            if evaluation is None:
                planned, narrow = trials.model(counts, verify=False)
                value, parameters = largest_change(planned.plan.measured), narrow.count_params()
            else:
                trial = trials.run(counts)
                value, parameters = trial.score, trial.parameters
            saved = model.count_params() - parameters
            layers.append(LayerSensitivity(name, units, units - removed, saved, value))
    measure = "change of the outputs" if evaluation is None else evaluation.name
    return SensitivityResult(measure, baseline, float(sparsity), tuple(layers))
