"""Draw a plan: the saliency curve and the histogram of each group, with the cut-off marked.

Srinivas & Babu 2015, Section 4: the test error rises where the saliency curve rises.
"""

import importlib.util
import os
from typing import TYPE_CHECKING

import numpy as np

from keras_dfprune.report.readable_plan import ReadableGroup, ReadablePlan

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def require_matplotlib() -> None:
    """Make sure that matplotlib is installed.

    Raises:
        ImportError: If it is not.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise ImportError(
            "Plots need matplotlib, which isn't installed. Install it with: "
            'pip install "keras_dfprune[plots]"'
        )


def plot_plan(plan: ReadablePlan, path: str | os.PathLike) -> None:
    """Draw one row for each group: its curve on the left, its histogram on the right.

    Args:
        plan: A `PruningPlan`.
        path: The image file; its suffix decides the format.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If the plan has no groups, or if matplotlib doesn't know the suffix.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    if not plan.groups:
        raise ValueError(f"The plan for '{plan.model_name}' has nothing to draw: no groups.")
    rows = len(plan.groups)
    # A Figure made without pyplot changes no global state and opens no window.
    figure = Figure(figsize=(10, 3 * rows), layout="constrained")
    axes = figure.subplots(rows, 2, squeeze=False)
    for group, (curve, histogram) in zip(plan.groups, axes, strict=True):
        _draw_curve(curve, group)
        _draw_histogram(histogram, group)
    axes[0, 0].legend()
    figure.savefig(path, dpi=100)


def _draw_curve(axes: "Axes", group: ReadableGroup) -> None:
    removals = np.arange(1, len(group.saliency) + 1)
    # A logarithmic axis has no zero: lossless removals leave a gap on the left.
    axes.plot(removals, np.where(group.saliency > 0, group.saliency, np.nan), label="saliency")
    if np.any(group.saliency > 0):
        axes.set_yscale("log")
    axes.axvline(len(group.removed), color="C3", linestyle="--", label="removed")
    if group.cutoff is not None:
        axes.axhline(group.cutoff, color="C2", linestyle=":", label="cut-off")
    axes.set(title=f"{group.layer}: {group.units} -> {len(group.kept)} units")
    axes.set(xlabel="units removed", ylabel="saliency of the last unit removed")


def _draw_histogram(axes: "Axes", group: ReadableGroup) -> None:
    axes.set(xlabel="saliency", ylabel="pairs of units")
    if group.histogram is None:
        axes.text(0.5, 0.5, "no histogram", ha="center", va="center", transform=axes.transAxes)
        return
    counts, edges = group.histogram
    axes.stairs(counts, edges, fill=True, alpha=0.6)
    if group.cutoff is not None:
        axes.axvline(group.cutoff, color="C2", linestyle=":")
