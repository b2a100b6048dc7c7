"""Draw curves and histograms as SVG that stands inside an HTML page."""

import io
import re
from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING

from keras_dfprune.report.curves import CURVE, CUT, HINT, draw_curve, draw_histogram
from keras_dfprune.report.readable_plan import ReadableGroup
from keras_dfprune.report.trials_plot import draw_trials
from keras_dfprune.report.trials_table import ReadableTrials

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Small enough for a telephone, where one point of the drawing is about one pixel.
_SIZE = (4.8, 2.9)  # inches
# The page's style sheet says what these are, in the light and in the dark.
_COLOURS = {
    "#000000": "currentColor",
    CURVE: "var(--curve)",
    CUT: "var(--cut)",
    HINT: "var(--hint)",
}
# The date would differ in every run, and the others name pages on the network.
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
# Attributes that only a file of its own needs, and names that would occur once in every drawing.
_NEEDLESS = re.compile(r' (?:xmlns(?::xlink)?|version|width|height)="[^"]*"')
_NAMES = re.compile(
    r' id="(?:figure|axes|patch|line2d|text|legend|matplotlib\.axis|xtick|ytick)_[^"]*"'
)


def curve_svg(group: ReadableGroup, name: str) -> str:
    """Return the curve of a group, with the cut marked.

    Args:
        group: The group.
        name: A name that no other drawing of the page has.
    """
    label = (
        f"Cost of each removal in {group.layer}. {len(group.removed):,} of {group.units:,} "
        f"{group.kind} are removed."
    )
    return _svg(lambda axes: draw_curve(axes, group), name, label, legend=True)


def histogram_svg(group: ReadableGroup, name: str) -> str:
    """Return the histogram from which the cut-off of a group was read.

    Args:
        group: A group whose curve has a histogram.
        name: A name that no other drawing of the page has.
    """
    label = f"Histogram of the {group.curve.measure} of pairs of units in {group.layer}."
    return _svg(lambda axes: draw_histogram(axes, group), name, label)


def trials_svg(result: ReadableTrials) -> str:
    """Return the score against the size of every trial of a search.

    Args:
        result: A `SearchResult`.
    """
    label = f"The {result.measure} of {len(result.trials)} trials against their size."
    return _svg(lambda axes: draw_trials(axes, result), "trials", label, legend=True)


def _svg(draw: Callable[["Axes"], None], name: str, label: str, *, legend: bool = False) -> str:
    import matplotlib
    from matplotlib.figure import Figure

    # The salt makes names inside the drawing that are its own, and the same in every run. Text
    # stays text, in the page's own typeface.
    settings = {"svg.fonttype": "none", "svg.hashsalt": name, "font.size": 9}
    file = io.StringIO()
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=_SIZE, layout="constrained")
        axes = figure.subplots()
        draw(axes)
        axes.spines[["top", "right"]].set_visible(False)
        if legend:
            figure.legend(loc="outside upper center", ncols=4, frameon=False, handlelength=1.5)
        figure.savefig(file, format="svg", transparent=True, metadata=_NO_METADATA)
    drawing = file.getvalue()
    return _inline(drawing[drawing.index("<svg") :], label)


def _inline(svg: str, label: str) -> str:
    """Return an SVG element for the inside of a page: scaled and coloured by it, and labelled."""
    start, rest = svg.split(">", 1)
    start = _NEEDLESS.sub("", start)
    for colour, meaning in _COLOURS.items():
        rest = rest.replace(colour, meaning)
    return f'{start} role="img" aria-label="{escape(label)}">{_NAMES.sub("", rest)}'
