"""A plan into a picture: each group's saliency curve and histogram, with the cut-off marked.

Srinivas & Babu 2015, Section 4: the curve rises where the test error does.
"""

import os

import numpy as np


def plot_plan(plan, path: str | os.PathLike) -> None:
    """Draws one row for each group: its curve on the left, its histogram on the right.

    Args:
        plan: A `PruningPlan`.
        path: The picture; the ending decides the format.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If the plan has no groups, or for an ending that matplotlib doesn't know.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            'Plots need matplotlib, which isn\'t installed: pip install "keras_dfprune[plots]"'
        ) from error
    if not plan.groups:
        raise ValueError(f"The plan for '{plan.model_name}' has nothing to draw: no groups.")
    rows = len(plan.groups)
    # A figure of its own, outside pyplot: nothing global, no window.
    figure = Figure(figsize=(10, 3 * rows), layout="constrained")
    axes = figure.subplots(rows, 2, squeeze=False)
    for group, (curve, histogram) in zip(plan.groups, axes, strict=True):
        _draw_curve(curve, group)
        _draw_histogram(histogram, group)
    axes[0, 0].legend()
    figure.savefig(path, dpi=100)


def _draw_curve(axes, group) -> None:
    removals = np.arange(1, len(group.saliency) + 1)
    # A logarithmic axis has no zero: lossless removals are gaps at the left.
    axes.plot(removals, np.where(group.saliency > 0, group.saliency, np.nan), label="saliency")
    if np.any(group.saliency > 0):
        axes.set_yscale("log")
    axes.axvline(len(group.removed), color="C3", linestyle="--", label="removed")
    if group.cutoff is not None:
        axes.axhline(group.cutoff, color="C2", linestyle=":", label="cut-off")
    axes.set(title=f"{group.layer}: {group.units} -> {len(group.kept)} units")
    axes.set(xlabel="units removed", ylabel="saliency of the last")


def _draw_histogram(axes, group) -> None:
    axes.set(xlabel="saliency", ylabel="pairs")
    if group.histogram is None:
        axes.text(0.5, 0.5, "no histogram", ha="center", va="center", transform=axes.transAxes)
        return
    counts, edges = group.histogram
    axes.stairs(counts, edges, fill=True, alpha=0.6)
    if group.cutoff is not None:
        axes.axvline(group.cutoff, color="C2", linestyle=":")
