"""Draw trials: the score against the size."""

import os

from keras_dfprune.report.plot import require_matplotlib
from keras_dfprune.report.trials_table import ReadableTrials, chosen_trial


def plot_trials(result: ReadableTrials, path: str | os.PathLike[str]) -> None:
    """Draw every trial of a search, the limit, the original and the chosen trial.

    Args:
        result: A `SearchResult`.
        path: The image file; its suffix decides the format.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for within, label, marker in ((True, "within the limit", "o"), (False, "beyond it", "x")):
        trials = [trial for trial in result.trials if trial.within == within]
        sizes = [100 * trial.size / result.size for trial in trials]
        scores = [trial.score for trial in trials]
        axes.plot(sizes, scores, marker, color="C0" if within else "C3", label=label)
    axes.plot([100], [result.baseline], "s", color="black", label="original")
    axes.axhline(result.limit, color="0.5", linestyle="--", label="limit")
    chosen = chosen_trial(result)
    if chosen is not None:
        share = 100 * chosen.size / result.size
        axes.plot([share], [chosen.score], "o", markersize=14, fillstyle="none", color="C2",
                  markeredgewidth=2, label=f"chosen: {share:.1f} %")  # fmt: skip
    axes.set(xlabel=f"{result.objective}, % of the original's", ylabel=result.measure)
    axes.set_xlim(left=0)
    axes.legend()
    figure.savefig(path, dpi=100)
