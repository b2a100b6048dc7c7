"""Draw the picture of the start page: accuracy against size, LeNet-300-100 on MNIST.

`python -m benchmarks.size_curve --data-dir DIR` from the repository root trains three networks,
prunes each to six sizes in five ways, and writes `docs/images/size.csv` and `size.png`. No labels
are used after the training. `--seeds` and `--quick` select a part; `--report` draws only.
"""

import argparse
import csv
import pathlib
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

import keras_dfprune as dfprune
from benchmarks import nets
from benchmarks.baselines import Drop

IMAGES = pathlib.Path(__file__).parent.parent / "docs" / "images"
FRACTIONS = (0.5, 0.3, 0.2, 0.1, 0.05, 0.03)
ROWS, STEPS = 200, 1000
# The ways to prune, with the arguments of `apply`; "data" stands for the rows.
WAYS: dict[str, dict[str, Any]] = {
    "smallest weights dropped": {"method": Drop("weights")},
    "the paper's method": {"method": "saliency"},
    "no data": {},
    f"{ROWS} unlabelled rows": {"data": True},
    f"{ROWS} rows, recovery": {"data": True, "refine_steps": STEPS},
}


def measure(model: keras.Model, train: nets.Split, test: nets.Split) -> list[dict[str, Any]]:
    """Return the accuracy and the size of a model before pruning, and of each pruned form."""
    rows = [{"way": "trained", "fraction": 1.0, "accuracy": nets.accuracy(model, test)}]
    images = train.shaped_for(model).x[:ROWS]
    for way, arguments in WAYS.items():
        if "data" in arguments:
            arguments = {**arguments, "data": images}
        for fraction in FRACTIONS:
            pruned = dfprune.apply(model, max_params=fraction, **arguments)
            size = pruned.count_params() / model.count_params()
            accuracy = nets.accuracy(pruned, test)
            rows.append({"way": way, "fraction": round(size, 4), "accuracy": round(accuracy, 2)})
            print(*rows[-1].values(), flush=True)
    return rows


def read(file: pathlib.Path) -> list[dict[str, Any]]:
    """Return the rows of the table."""
    with open(file, newline="") as lines:
        return [
            {**row, "fraction": float(row["fraction"]), "accuracy": float(row["accuracy"])}
            for row in csv.DictReader(lines)
        ]


def mean_curve(rows: Sequence[dict[str, Any]], way: str) -> tuple[list[float], list[float]]:
    """Return the parameters left, in percent, and the mean accuracies of one way to prune."""
    seeds = sorted({row["seed"] for row in rows})
    by_seed = [[row for row in rows if row["seed"] == s and row["way"] == way] for s in seeds]
    sizes = np.mean([[100 * row["fraction"] for row in part] for part in by_seed], axis=0)
    accuracies = np.mean([[row["accuracy"] for row in part] for part in by_seed], axis=0)
    return sizes.tolist(), accuracies.tolist()


def draw(rows: Sequence[dict[str, Any]], path: pathlib.Path) -> None:
    """Draw mean accuracy against the parameters left, a line for each way to prune."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7.2, 4.2))
    colours = ("#9aa0a6", "#d98032", "#3d6fb6", "#2a9d6f", "#8a4fb0")
    for way, colour in zip(WAYS, colours, strict=True):
        sizes, accuracies = mean_curve(rows, way)
        axes.plot(sizes, accuracies, marker="o", markersize=4, color=colour, label=way)
    _, (trained,) = mean_curve(rows, "trained")
    axes.axhline(trained, color="black", linewidth=0.8, linestyle=":")
    axes.annotate("trained", (50, trained), (0, 3), textcoords="offset points", ha="center")
    axes.set_xscale("log")
    ticks = [100 * fraction for fraction in FRACTIONS]
    axes.set_xticks(ticks, [f"{tick:g} %" for tick in ticks], minor=False)
    axes.minorticks_off()
    axes.set(xlabel="parameters left", ylabel="accuracy on the test images, %", ylim=(35, 101))
    axes.grid(alpha=0.3)
    axes.legend(*(part[::-1] for part in axes.get_legend_handles_labels()), loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, write the table and draw it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    nets.add_arguments(parser)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--output", type=pathlib.Path, default=IMAGES)
    parser.add_argument("--net", default="lenet300-mnist", help="default: lenet300-mnist")
    parser.add_argument("--report", action="store_true", help="draw the table and stop")
    options = parser.parse_args(argv)
    if options.report:
        draw(read(options.output / "size.csv"), options.output / "size.png")
        return
    net, dataset = options.net.split("-")
    train, test = nets.load_data(dataset, options.data_dir)
    rows = []
    for seed in options.seeds:
        model = nets.trained(
            net, dataset, seed, options.cache, data_dir=options.data_dir, quick=options.quick
        )
        rows += [{"seed": seed, **row} for row in measure(model, train, test)]
    options.output.mkdir(parents=True, exist_ok=True)
    with open(options.output / "size.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    draw(rows, options.output / "size.png")


if __name__ == "__main__":
    main()
