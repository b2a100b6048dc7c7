"""Draw Figure 1: a toy network with two equal weight-sets, before and after the surgery.

Because `W_i = W_j`, unit j is removed and `a_i <- a_i + a_j`: the outputs stay equal (Section 3).
"""

from collections.abc import Sequence

import keras
import numpy as np
from matplotlib.axes import Axes

import keras_dfprune as dfprune
from examples.paper.results import new_figure, write_figure, write_table
from examples.paper.settings import Settings

Point = tuple[float, float]
_INCOMING = np.array([[0.8, -0.5, 0.8, 0.3], [-0.6, 0.9, -0.6, 0.7], [0.4, 0.2, 0.4, -0.8]])
_BIAS = np.array([0.1, -0.2, 0.1, 0.3])
_OUTGOING = np.array([[0.7, -0.4], [0.5, 0.6], [-0.2, 0.9], [0.8, -0.3]])
_EQUAL = (0, 2)  # units with equal weight-sets, biases included


def run(settings: Settings) -> dict[str, float]:
    """Draw both networks and compare their outputs on 1,000 random inputs."""
    model = toy_net()
    plan = dfprune.plan(model, method="saliency", tolerance=0)
    pruned = plan.apply(model)
    x = np.random.default_rng(0).standard_normal((1000, 3)).astype("float32")
    without = dfprune.apply(
        model, method=dfprune.Saliency(surgery=False), sparsity={"hidden": 0.25}
    )
    change = {
        "with the surgery": _largest_change(model, pruned, x),
        "without": _largest_change(model, without, x),
    }
    figure, axes = new_figure(9, 3.6, columns=2)
    _draw(axes[0], *_weights(model), range(4), "before: $h_1$ and $h_3$ have equal weight-sets")
    _draw(axes[1], *_weights(pruned), plan.groups[0].kept, "after: $a_3 \\leftarrow a_3 + a_1$")
    write_figure(settings.output / "figure1.png", figure)
    rows = [(name, f"{value:.1e}") for name, value in change.items()]
    header = ("one of two equal units removed", "largest change of an output")
    write_table(settings.output / "figure1.csv", header, rows)
    return change


def toy_net() -> keras.Model:
    """Build three inputs, four relu units of which two have equal weight-sets, and two outputs."""
    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(4, activation="relu", name="hidden"),
            keras.layers.Dense(2, name="outputs"),
        ],
        name="toy",
    )
    model.set_weights([_INCOMING, _BIAS, _OUTGOING, np.zeros(2)])
    return model


def _weights(model: keras.Model) -> tuple[np.ndarray, np.ndarray]:
    return model.get_layer("hidden").get_weights()[0], model.get_layer("outputs").get_weights()[0]


def _largest_change(model: keras.Model, other: keras.Model, x: np.ndarray) -> float:
    return float(np.abs(model.predict(x, verbose=0) - other.predict(x, verbose=0)).max())


def _draw(
    axes: Axes, incoming: np.ndarray, outgoing: np.ndarray, units: Sequence[int], title: str
) -> None:
    """Draw a network, inputs on the left.

    Line widths are the sizes of the weights; dashed lines are negative weights.
    """
    inputs, hidden, outputs = (_heights(count) for count in (3, 4, 2))
    for column, unit in enumerate(units):
        color = "C3" if unit in _EQUAL else "0.6"
        position = (1, hidden[unit])
        for height, weight in zip(inputs, incoming[:, column], strict=True):
            _edge(axes, (0, height), position, weight, color)
        for height, weight in zip(outputs, outgoing[column], strict=True):
            _edge(axes, position, (2, height), weight, color)
            _label(axes, position, (2, height), weight, color if unit in _EQUAL else "0.35")
        _node(axes, *position, f"$h_{unit + 1}$", "#f6c9c9" if unit in _EQUAL else "white")
    for x, heights, letter in ((0, inputs, "x"), (2, outputs, "z")):
        for number, height in enumerate(heights, start=1):
            _node(axes, x, height, f"${letter}_{number}$", "white")
    axes.set(title=title, xlim=(-0.2, 2.2), ylim=(-0.35, 3.35))
    axes.axis("off")


def _node(axes: Axes, x: float, y: float, text: str, face: str) -> None:
    axes.plot(x, y, "o", markersize=24, markerfacecolor=face, markeredgecolor="0.2")
    axes.text(x, y, text, ha="center", va="center", fontsize=11)


def _heights(count: int) -> np.ndarray:
    return 1.5 + (count - 1) / 2 - np.arange(count)


def _edge(axes: Axes, start: Point, end: Point, weight: float, color: str) -> None:
    style = "-" if weight >= 0 else "--"
    axes.plot(
        *zip(start, end, strict=True), style, color=color, linewidth=3 * abs(weight), zorder=0
    )


def _label(axes: Axes, start: Point, end: Point, weight: float, color: str) -> None:
    position = np.array(start) * 0.72 + np.array(end) * 0.28
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    axes.text(
        *position, f"{weight:+.1f}", fontsize=8, color=color, ha="center", va="center", bbox=box
    )
