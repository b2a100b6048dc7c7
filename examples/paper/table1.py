"""Table 1: LeNet-5 on MNIST, units removed against accuracy and compression; and more of them.

Four ways to choose: random, smallest weight-sets (both only dropped), the paper's saliency on the
weight-sets as they are, and on normalised ones (Section 5.1).
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

import keras_dfprune as dfprune
from benchmarks.baselines import Drop
from examples.paper.results import mean_and_spread, new_figure, progress, write_figure, write_table
from examples.paper.settings import Settings
from examples.paper.sweep import Experiment, Trained, trained_models

WAYS = ("random", "naive", "ours, raw", "ours, normalised")
CUTOFF_SCALES = (0.25, 0.5, 0.75, 1.0)


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table; tuples have one entry for each trained model.

    Attributes:
        label: `""`, or the automatic cut-off that chose the number.
        removed: Units removed.
        accuracy: Percent, for each of `WAYS`.
        compression: Percent of all parameters of the net that are gone.
    """

    label: str
    removed: tuple[int, ...]
    accuracy: dict[str, tuple[float, ...]]
    compression: tuple[float, ...]


def run(settings: Settings) -> list[Row]:
    """The paper's own table."""
    experiment = Experiment("lenet5", "mnist", ("fc1",))
    removals = (0, 50, 100, 200, 300, 350, 400, 420, 440, 450, 460, 470, 480, 490)
    return make(experiment, removals, "table1", settings)


def make(experiment, removals: Sequence[int], name: str, settings: Settings) -> list[Row]:
    """Trains, prunes, and writes `name.csv` and `name.png`."""
    experiment = experiment.smaller(settings)
    models = trained_models(experiment, settings)
    for trained in models:
        print(f"seed {trained.seed}: norms of the weight-sets {_norms(trained)}")
    removals = (0, 128, 192) if settings.quick else removals
    cells = [[(removed, "") for _ in models] for removed in removals]
    for scale in CUTOFF_SCALES[-1:] if settings.quick else CUTOFF_SCALES:
        label = f"automatic, cutoff_scale={scale:g}"
        cells.append([(_automatic(trained, scale), label) for trained in models])
    rows = [_row(models, line) for line in progress(name, cells)]
    rows.sort(key=lambda row: np.mean(row.removed))
    _write(rows, experiment, name, settings)
    return rows


def method(way: str, seed: int) -> dfprune.Method:
    """The method behind one of `WAYS`."""
    return {
        "random": Drop("random", seed),
        "naive": Drop("weights"),
        "ours, raw": dfprune.Saliency(normalize=False),
        "ours, normalised": dfprune.Saliency(),
    }[way]


def _norms(trained: Trained) -> str:
    """Smallest to largest, layer by layer."""
    found = []
    for name in trained.experiment.layers:
        kernel, bias = trained.model.get_layer(name).get_weights()
        norms = np.sqrt(np.square(kernel).sum(axis=0) + np.square(bias))
        found.append(f"{name} {norms.min():.2f} to {norms.max():.2f}")
    return ", ".join(found)


def _automatic(trained: Trained, scale: float) -> int:
    plan = trained.plan(dfprune.Saliency(cutoff_scale=scale))
    return sum(len(group.removed) for group in plan.groups)


def _row(models: list[Trained], line) -> Row:
    accuracy = {way: [] for way in WAYS}
    compression = []
    for trained, (removed, _) in zip(models, line, strict=True):
        for way in WAYS:
            narrow = trained.pruned(method(way, trained.seed), removed)
            accuracy[way].append(trained.accuracy(narrow))
        left = narrow.count_params() / trained.model.count_params()
        compression.append(100.0 * (1.0 - left))
    return Row(
        line[0][1],
        tuple(removed for removed, _ in line),
        {way: tuple(values) for way, values in accuracy.items()},
        tuple(compression),
    )


def papers_compression(removed: float) -> float:
    """The paper's accounting for LeNet-5, in percent: 810 parameters a unit, of 407,330.

    A unit has 800 + 1 + 10 = 811 parameters, and the net 431,080: the second convolution has
    20 * 25 * 50 + 50 of them, and was counted as 25 * 50 + 50.
    """
    return 100.0 * 810.0 * removed / 407_330.0


def _write(rows: list[Row], experiment: Experiment, name: str, settings: Settings) -> None:
    lenet5 = experiment.net == "lenet5"
    header = ["units removed", *(f"{way} [%]" for way in WAYS), "compression [%]"]
    header += ["paper's accounting [%]"] * lenet5 + ["chosen by"]
    lines = []
    for row in rows:
        spread = len(set(row.removed)) > 1
        removed = mean_and_spread(row.removed, 0) if spread else str(row.removed[0])
        line = [removed, *(mean_and_spread(row.accuracy[way]) for way in WAYS)]
        line.append(f"{np.mean(row.compression):.1f}")
        line += [f"{papers_compression(np.mean(row.removed)):.1f}"] * lenet5
        lines.append([*line, row.label or "hand"])
    write_table(settings.output / f"{name}.csv", header, lines)
    write_figure(settings.output / f"{name}.png", _draw(rows, experiment))


def _draw(rows: list[Row], experiment: Experiment):
    figure, (axes,) = new_figure(7.5, 4.2)
    by_hand = [row for row in rows if not row.label]
    x = [row.removed[0] for row in by_hand]
    for way, marker in zip(WAYS, "v^os", strict=True):
        values = np.array([row.accuracy[way] for row in by_hand])
        mean = values.mean(axis=1)
        (line,) = axes.plot(x, mean, marker=marker, markersize=4, label=way)
        if values.shape[1] > 1:
            spread = values.std(axis=1, ddof=1)
            low, high = mean - spread, np.minimum(mean + spread, 100.0)
            axes.fill_between(x, low, high, color=line.get_color(), alpha=0.2)
    for row in rows:
        if row.label:
            where, scale = np.mean(row.removed), row.label.rsplit("=")[-1]
            axes.axvline(where, color="0.5", linestyle=":")
            axes.text(where, 2, f"auto x {scale} ", ha="right", rotation=90, fontsize=8)
    axes.set(xlabel=f"units removed, of {_units(experiment)}", ylabel="test accuracy [%]")
    axes.set(title=f"{experiment.title}: mean and spread of {len(rows[0].removed)}", ylim=(0, 102))
    axes.grid(alpha=0.3)
    axes.legend(loc=(0.02, 0.35))
    return figure


def _units(experiment: Experiment) -> int:
    widths = {"lenet5": {"fc1": 500}, "lenet300": {"fc1": 300, "fc2": 100}}
    return sum(widths.get(experiment.net, {}).get(layer, 256) for layer in experiment.layers)
