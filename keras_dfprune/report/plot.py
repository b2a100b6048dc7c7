"""Draw a plan: the curve of each group with the cut marked, and its histogram if it has one.

Srinivas & Babu 2015, Section 4: the test error rises where the saliency curve rises.
"""

import importlib.util
import os
import pathlib
from typing import TYPE_CHECKING

from keras_dfprune.report.curves import draw_curve, draw_histogram
from keras_dfprune.report.readable_plan import ReadablePlan
from keras_dfprune.report.staging import written

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ROW = 3.0  # inches
# Pixels: matplotlib draws no picture of 2^16 or more.
_TALLEST = 60_000


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
    """Draw one row for each group: its curve, and its histogram on the right if any group has one.

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
    columns = 1 if all(group.curve.histogram is None for group in plan.groups) else 2
    # A Figure made without pyplot changes no global state and opens no window.
    figure = Figure(figsize=(2 + 4 * columns, _ROW * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for group, row in zip(plan.groups, axes, strict=True):
        draw_curve(row[0], group)
        row[0].legend(fontsize="small")
        # The name of a layer is the user's text: a dollar sign in it starts no formula.
        row[0].set_title(
            f"{group.layer}: {group.units} -> {len(group.kept)} units", parse_math=False
        )
        if group.curve.histogram is not None:
            draw_histogram(row[1], group)
        elif columns > 1:
            row[1].remove()
    save_figure(figure, path, dpi=min(100.0, _TALLEST / (_ROW * rows)))


def save_figure(figure: "Figure", path: str | os.PathLike, dpi: float = 100.0) -> None:
    """Write a figure to a file, whole or not at all.

    Args:
        figure: The figure.
        path: The image file; its suffix decides the format. Without one it gets matplotlib's.
        dpi: Pixels for each inch.

    Raises:
        ValueError: If matplotlib doesn't know the suffix.
    """
    from matplotlib import rcParams

    target = pathlib.Path(path)
    if not target.suffix:
        target = target.with_name(f"{target.name}.{rcParams['savefig.format']}")
    with written(target) as staged:
        figure.savefig(staged, dpi=dpi)
