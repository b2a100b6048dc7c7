"""Write Table 1: accuracy and compression of LeNet-5 on MNIST, by units removed.

There are four methods: random units and the smallest weight-sets, both without surgery, and the
paper's saliency on the weight-sets as they are and on normalised weight-sets (Section 5.1).
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

import keras_dfprune as dfprune
from benchmarks.baselines import Drop
from examples.paper.results import mean_and_spread, new_figure, progress, write_figure, write_table
from examples.paper.settings import Settings
from examples.paper.sweep import Experiment, Trained, trained_models

METHODS = ("random", "naive", "ours, raw", "ours, normalised")
CUTOFF_SCALES = (0.25, 0.5, 0.75, 1.0)


@dataclasses.dataclass(frozen=True)
class Row:
    """Line of the table; tuples have one entry for each trained model.

    Attributes:
        label: The automatic cut-off that chose the number of units, or `""`.
        removed: Units removed.
        accuracy: Test accuracy in percent, by method.
        compression: Parameters removed, in percent of the whole network.
    """

    label: str
    removed: tuple[int, ...]
    accuracy: dict[str, tuple[float, ...]]
    compression: tuple[float, ...]


def run(settings: Settings) -> list[Row]:
    """Write the paper's table."""
    experiment = Experiment("lenet5", "mnist", ("fc1",))
    removals = (0, 50, 100, 200, 300, 350, 400, 420, 440, 450, 460, 470, 480, 490)
    return make(experiment, removals, "table1", settings)


def make(
    experiment: Experiment, removals: Sequence[int], name: str, settings: Settings
) -> list[Row]:
    """Train, prune and write `name.csv` and `name.png`; return the rows."""
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


def make_method(name: str, seed: int) -> dfprune.Method:
    """Make a method by its name in `METHODS`."""
    return {
        "random": Drop("random", seed),
        "naive": Drop("weights"),
        "ours, raw": dfprune.Saliency(normalize=False),
        "ours, normalised": dfprune.Saliency(),
    }[name]


def _norms(trained: Trained) -> str:
    """Describe the range of the weight-sets' norms, layer by layer."""
    ranges = []
    for name in trained.experiment.layers:
        kernel, bias = trained.model.get_layer(name).get_weights()
        norms = np.sqrt(np.square(kernel).sum(axis=0) + np.square(bias))
        ranges.append(f"{name} {norms.min():.2f} to {norms.max():.2f}")
    return ", ".join(ranges)


def _automatic(trained: Trained, scale: float) -> int:
    """Count the units that the automatic cut-off removes."""
    plan = trained.plan(dfprune.Saliency(cutoff_scale=scale))
    return sum(len(group.removed) for group in plan.groups)


def _row(models: list[Trained], removals: Sequence[tuple[int, str]]) -> Row:
    """Prune each model by every method; `removals` has a number and a label for each model."""
    accuracy: dict[str, list[float]] = {name: [] for name in METHODS}
    compression = []
    for trained, (removed, _) in zip(models, removals, strict=True):
        for name in METHODS:
            narrow = trained.pruned(make_method(name, trained.seed), removed)
            accuracy[name].append(trained.accuracy(narrow))
        left = narrow.count_params() / trained.model.count_params()
        compression.append(100.0 * (1.0 - left))
    return Row(
        removals[0][1],
        tuple(removed for removed, _ in removals),
        {name: tuple(values) for name, values in accuracy.items()},
        tuple(compression),
    )


def papers_compression(removed: float) -> float:
    """Compute LeNet-5's compression as the paper does, in percent.

    The paper counts 810 parameters for each unit and 407,330 in all. A unit has 800 + 1 + 10 = 811
    parameters and the network 431,080: the second convolution has 20 * 25 * 50 + 50, not
    25 * 50 + 50.
    """
    return 100.0 * 810.0 * removed / 407_330.0


def _write(rows: list[Row], experiment: Experiment, name: str, settings: Settings) -> None:
    lenet5 = experiment.net == "lenet5"
    header = ["units removed", *(f"{method} [%]" for method in METHODS), "compression [%]"]
    header += ["paper's accounting [%]"] if lenet5 else []
    header += ["chosen by"]
    lines = []
    for row in rows:
        spread = len(set(row.removed)) > 1
        removed = mean_and_spread(row.removed, 0) if spread else str(row.removed[0])
        line = [removed, *(mean_and_spread(row.accuracy[method]) for method in METHODS)]
        line.append(f"{np.mean(row.compression):.1f}")
        if lenet5:
            line.append(f"{papers_compression(np.mean(row.removed)):.1f}")
        lines.append([*line, row.label or "hand"])
    write_table(settings.output / f"{name}.csv", header, lines)
    write_figure(settings.output / f"{name}.png", _draw(rows, experiment))


def _draw(rows: list[Row], experiment: Experiment) -> Figure:
    figure, (axes,) = new_figure(7.5, 4.2)
    by_hand = [row for row in rows if not row.label]
    x = [row.removed[0] for row in by_hand]
    for method, marker in zip(METHODS, "v^os", strict=True):
        values = np.array([row.accuracy[method] for row in by_hand])
        mean = values.mean(axis=1)
        (line,) = axes.plot(x, mean, marker=marker, markersize=4, label=method)
        if values.shape[1] > 1:
            spread = values.std(axis=1, ddof=1)
            low, high = mean - spread, np.minimum(mean + spread, 100.0)
            axes.fill_between(x, low, high, color=line.get_color(), alpha=0.2)
    for row in rows:
        if row.label:
            removed, scale = np.mean(row.removed), row.label.rsplit("=")[-1]
            axes.axvline(removed, color="0.5", linestyle=":")
            axes.text(removed, 2, f"auto x {scale} ", ha="right", rotation=90, fontsize=8)
    axes.set(xlabel=f"units removed, of {_units(experiment)}", ylabel="test accuracy [%]")
    axes.set(title=f"{experiment.title}: mean and spread of {len(rows[0].removed)}", ylim=(0, 102))
    axes.grid(alpha=0.3)
    axes.legend(loc=(0.02, 0.35))
    return figure


def _units(experiment: Experiment) -> int:
    """Return the total number of units of the pruned layers."""
    widths = {"lenet5": {"fc1": 500}, "lenet300": {"fc1": 300, "fc2": 100}}
    return sum(widths.get(experiment.net, {}).get(layer, 256) for layer in experiment.layers)
