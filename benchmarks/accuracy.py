"""Trained networks and pruning methods into test accuracies: the tables of `docs/methods.md`.

`python -m benchmarks.accuracy --data-dir DIR` from the repository root. Each finished cell is a
line of `benchmarks/accuracy.csv` and isn't measured again; `--nets`, `--methods`, `--seeds` and
`--fractions` run a part; `--report` writes the tables and the plot into the documentation. No cell
is fine-tuned.
"""

import argparse
import csv
import pathlib
import time
from collections.abc import Callable, Iterator

import keras
import numpy as np

import keras_dfprune as dfprune
from benchmarks import nets
from benchmarks.baselines import Drop, Ward, folded

ROOT = pathlib.Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "accuracy.csv"
FIELDS = ("net", "dataset", "seed", "method", "fraction", "accuracy", "parameters", "seconds")
# LeNet-5: of the 500 units of its dense layer, the paper's experiment. Else of every hidden layer.
LENET5 = (0.6, 0.8, 0.88, 0.92, 0.96, 0.98)
OTHERS = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9)
CASES = [
    ("digits", "digits"),
    ("lenet300", "mnist"),
    ("lenet300", "fashion_mnist"),
    ("gelu", "mnist"),
    ("batchnorm", "fashion_mnist"),
    ("lenet5", "mnist"),
    ("lenet5", "fashion_mnist"),
]
CALIBRATION_IMAGES = 5000
REFINE_STEPS = 1500


def _prune(method: Callable[[np.ndarray, int], dfprune.Method]):
    def run(model, sparsity, images, seed):
        return dfprune.apply(model, method=method(images, seed), sparsity=sparsity)

    return run


def _share_out(method: Callable[[np.ndarray, int], dfprune.Method]):
    """As many parameters as equal fractions leave, shared out over the layers."""

    def run(model, sparsity, images, seed):
        size = dfprune.plan(model, sparsity=sparsity).parameters[1]
        return dfprune.apply(model, method=method(images, seed), max_params=size)

    return run


def _ward(model, sparsity, images, seed):
    return folded(model, dfprune.plan(model, method=Ward(), sparsity=sparsity))


# From a model, the sparsity, unlabelled images (for the calibrated one alone) and a seed to the
# pruned model. Two of a kind are the same method at its two settings; the better one counts.
METHODS = {
    "random": _prune(lambda images, seed: Drop("random", seed)),
    "smallest weights": _prune(lambda images, seed: Drop("weights")),
    "smallest products": _prune(lambda images, seed: Drop("product")),
    "paper, raw": _prune(lambda images, seed: dfprune.Saliency(normalize=False)),
    "paper": _prune(lambda images, seed: dfprune.Saliency()),
    "Ward": _ward,
    "moments": _prune(lambda images, seed: dfprune.Moments()),
    "calibrated": _prune(lambda images, seed: dfprune.Moments(calibration_data=images)),
    "shared out": _share_out(lambda images, seed: dfprune.Moments()),
    "refined": _prune(lambda images, seed: dfprune.Moments(refine_steps=REFINE_STEPS, seed=seed)),
}


def cells(arguments: argparse.Namespace) -> Iterator[tuple]:
    """Net, data set, seed, method and fraction of all that is asked for, the quick ones first."""
    slow = [name for name in arguments.methods if name == "refined"]
    quick = ["base", *(name for name in arguments.methods if name not in slow)]
    for seed in arguments.seeds:
        for methods in (quick, slow):
            for net, dataset in CASES:
                if arguments.nets and f"{net}-{dataset}" not in arguments.nets:
                    continue
                for method in methods:
                    if net == "lenet5" and method == "shared out":
                        continue  # one layer
                    fractions = LENET5 if net == "lenet5" else OTHERS
                    fractions = arguments.fractions or fractions
                    for fraction in (0.0,) if method == "base" else fractions:
                        yield net, dataset, seed, method, fraction


def measure(model: keras.Model, cell: tuple, train: nets.Split, test: nets.Split) -> dict:
    """Prunes one model and tests it."""
    net, dataset, seed, method, fraction = cell
    images = train.shaped_for(model).x[:CALIBRATION_IMAGES]
    start, pruned = time.monotonic(), model
    if method != "base":
        sparsity = {"fc1": fraction} if net == "lenet5" else fraction
        pruned = METHODS[method](model, sparsity, images, seed)
    seconds = time.monotonic() - start
    return dict(
        zip(FIELDS[:5], cell, strict=True),
        accuracy=round(nets.accuracy(pruned, test), 2),
        parameters=pruned.count_params(),
        seconds=round(seconds, 1),
    )


def read(file: pathlib.Path) -> list[dict]:
    """The finished cells."""
    if not file.exists():
        return []
    kinds = (str, str, int, str, float, float, int, float)
    with open(file, newline="") as rows:
        return [
            {name: kind(row[name]) for name, kind in zip(FIELDS, kinds, strict=True)}
            for row in csv.DictReader(rows)
        ]


def run(arguments: argparse.Namespace) -> None:
    """Measures the cells that are not in the file yet, and appends each as it is done."""
    done = {tuple(row[name] for name in FIELDS[:5]) for row in read(arguments.results)}
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    loaded, model, data = None, None, {}
    for cell in cells(arguments):
        if cell in done:
            continue
        net, dataset, seed = cell[:3]
        if dataset not in data:
            data = {dataset: nets.load_data(dataset, arguments.data_dir)}
        if loaded != cell[:3]:
            model = nets.trained(
                net,
                dataset,
                seed,
                arguments.cache,
                data_dir=arguments.data_dir,
                quick=arguments.quick,
            )
            loaded = cell[:3]
        row = measure(model, cell, *data[dataset])
        fresh = not arguments.results.exists()
        with open(arguments.results, "a", newline="") as file:
            writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
            if fresh:
                writer.writeheader()
            writer.writerow(row)
        print(*row.values(), flush=True)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    nets.add_arguments(parser)
    names = [f"{net}-{dataset}" for net, dataset in CASES]
    parser.add_argument("--nets", nargs="*", choices=names, help="default: all")
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--fractions", nargs="*", type=float, help="default: six for each net")
    parser.add_argument("--results", type=pathlib.Path, default=RESULTS)
    parser.add_argument("--report", action="store_true", help="write the documentation and stop")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Runs what the command line says."""
    arguments = parse(argv)
    if arguments.report:
        from benchmarks.accuracy_report import write

        write(read(arguments.results), ROOT / "docs")
        return
    run(arguments)


if __name__ == "__main__":
    main()
