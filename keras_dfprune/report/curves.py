"""Draw the curve of one group, with the cut marked, and the histogram of its saliencies."""

import textwrap
from typing import TYPE_CHECKING

import numpy as np

from keras_dfprune.report.readable_plan import ReadableCurve, ReadableGroup

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Colours of the curve, of the cut, and of what the method says about it.
CURVE, CUT, HINT = "#1f77b4", "#d62728", "#2ca02c"
# Costs of this measure are compared over the variance. `planning/group_plan.py` gives the name.
_EXPECTED_CHANGE = "expected squared change of the consumers' outputs"
_LABEL_WIDTH = 36  # characters: longer labels don't fit beside a curve


def draw_curve(axes: "Axes", group: ReadableGroup) -> None:
    """Draw what each removal costs, and mark how many are made.

    Args:
        axes: The axes to draw on. The caller sets the title.
        group: The group.
    """
    costs, measure = curve_costs(group.curve)
    positive = costs > 0
    # A logarithmic axis has no zero: removals that cost nothing leave a gap on the left. A dot
    # shows a cost that stands alone.
    marker = "o" if np.count_nonzero(positive) == 1 else None
    removals = np.arange(1, len(costs) + 1)
    axes.plot(removals, np.where(positive, costs, np.nan), marker=marker, color=CURVE, label="cost")
    if np.any(positive):
        axes.set_yscale("log")
    if group.curve.lossless:
        span = (0, group.curve.lossless)
        axes.axvspan(*span, color=HINT, alpha=0.2, linewidth=0, label="changes nothing")
    axes.axvline(len(group.removed), color=CUT, linestyle="--", label="removed")
    if group.curve.cutoff is not None:
        axes.axhline(group.curve.cutoff, color=HINT, linestyle=":", label="cut-off")
    axes.set(xlabel=f"{group.kind} removed", xlim=(0, max(group.units, 1)))
    # A measure is text of a method: a dollar sign in it starts no formula.
    axes.set_ylabel(textwrap.fill(measure, _LABEL_WIDTH), parse_math=False)


def draw_histogram(axes: "Axes", group: ReadableGroup) -> None:
    """Draw the histogram from which the cut-off was read, with the cut-off marked.

    Args:
        axes: The axes to draw on.
        group: A group whose curve has a histogram.
    """
    if group.curve.histogram is None:
        return
    counts, edges = group.curve.histogram
    axes.stairs(counts, edges, fill=True, color=CURVE, alpha=0.6)
    if group.curve.cutoff is not None:
        axes.axvline(group.curve.cutoff, color=HINT, linestyle=":", label="cut-off")
    axes.set(ylabel="pairs of units")
    axes.set_xlabel(group.curve.measure, parse_math=False)


def curve_costs(curve: ReadableCurve) -> tuple[np.ndarray, str]:
    """Return the costs that are drawn, and their measure.

    Expected squared changes are divided by the variance, `curve.scale`. Others stay as they are.

    Args:
        curve: The curve of a group.

    Returns:
        Float64 array, shape `(removals,)`, and the name of the measure.
    """
    costs = np.asarray(curve.costs, np.float64)
    if curve.measure == _EXPECTED_CHANGE:
        return costs / curve.scale, f"{curve.measure}, over the variance"
    return costs, curve.measure
