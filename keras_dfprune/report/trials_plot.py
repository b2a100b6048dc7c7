"""Draw trials: the score against the size, and what cutting each layer alone costs."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from keras_dfprune.report.curves import CURVE, CUT, HINT
from keras_dfprune.report.plot import require_matplotlib, save_figure
from keras_dfprune.report.trials_table import ReadableTrial, ReadableTrials, chosen_trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class ReadableSweep(Protocol):
    """Result of a sweep; see `SweepResult` for the attributes."""

    @property
    def measure(self) -> str: ...
    @property
    def baseline(self) -> float: ...
    @property
    def parameters(self) -> int: ...
    @property
    def trials(self) -> Sequence[ReadableTrial]: ...


class ReadableLayer(Protocol):
    """Sensitivity of one layer; see `LayerSensitivity` for the attributes."""

    @property
    def layer(self) -> str: ...
    @property
    def value(self) -> float: ...


class ReadableSensitivity(Protocol):
    """Result of `sensitivity`; see `SensitivityResult` for the attributes."""

    @property
    def measure(self) -> str: ...
    @property
    def baseline(self) -> float: ...
    @property
    def sparsity(self) -> float: ...
    @property
    def layers(self) -> Sequence[ReadableLayer]: ...


def plot_trials(result: ReadableTrials, path: str | os.PathLike[str]) -> None:
    """Draw every trial of a search, the limit, the original and the chosen trial.

    Args:
        result: A `SearchResult`.
        path: The image file; its suffix decides the format.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    figure, axes = _new_axes(5.0)
    draw_trials(axes, result)
    axes.legend()
    save_figure(figure, path)


def draw_trials(axes: "Axes", result: ReadableTrials) -> None:
    """Draw the score against the size of every trial.

    Args:
        axes: The axes to draw on.
        result: A `SearchResult`.
    """
    for within, label, marker in ((True, "within the limit", "o"), (False, "beyond it", "x")):
        trials = [trial for trial in result.trials if trial.within == within]
        sizes = [100 * trial.size / result.size for trial in trials]
        scores = [trial.score for trial in trials]
        axes.plot(sizes, scores, marker, color=CURVE if within else CUT, label=label)
    axes.plot([100], [result.baseline], "s", color="black", label="original")
    axes.axhline(result.limit, color="0.5", linestyle="--", label="limit")
    chosen = chosen_trial(result)
    if chosen is not None:
        share = 100 * chosen.size / result.size
        axes.plot([share], [chosen.score], "o", markersize=14, fillstyle="none", color=HINT,
                  markeredgewidth=2, label=f"chosen: {share:.1f} %")  # fmt: skip
    axes.set_xlabel(f"{result.objective}, % of the original's", parse_math=False)
    axes.set_ylabel(result.measure, parse_math=False)
    axes.set_xlim(left=0)


def plot_sweep(result: ReadableSweep, path: str | os.PathLike[str]) -> None:
    """Draw the score against the size, a line for each method.

    Args:
        result: A `SweepResult`.
        path: The image file; its suffix decides the format.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    figure, axes = _new_axes(5.0)
    for method in dict.fromkeys(trial.method for trial in result.trials):
        trials = [trial for trial in result.trials if trial.method == method]
        sizes = [100.0, *(100 * trial.parameters / result.parameters for trial in trials)]
        axes.plot(sizes, [result.baseline, *(trial.score for trial in trials)], "o-", label=method)
    axes.set(xlabel="parameters, % of the original's", ylabel=result.measure)
    axes.set_xlim(left=0)
    axes.legend()
    save_figure(figure, path)


def plot_sensitivity(result: ReadableSensitivity, path: str | os.PathLike[str]) -> None:
    """Draw a bar for each layer: the value of the model in which it alone is cut.

    Args:
        result: A `SensitivityResult`.
        path: The image file; its suffix decides the format.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    names = [layer.layer for layer in result.layers]
    figure, axes = _new_axes(1.5 + 0.35 * len(names))
    axes.barh(range(len(names)), [layer.value for layer in result.layers])
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.axvline(result.baseline, color="black", linestyle="--", label="original")
    axes.set(xlabel=f"{result.measure} without {100 * result.sparsity:.0f} % of this layer's units")
    axes.legend()
    save_figure(figure, path)


def _new_axes(height: float) -> tuple["Figure", "Axes"]:
    """Return a new figure of a height in inches, and its axes."""
    require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, height), layout="constrained")
    return figure, figure.subplots()
