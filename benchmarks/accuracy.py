"""Measure the test accuracy of pruned networks: the tables of `docs/research/accuracy.md`.

`python -m benchmarks.accuracy --data-dir DIR` from the repository root. Each finished measurement
is a line of `benchmarks/accuracy.csv` and isn't repeated. `--nets`, `--methods`, `--seeds` and
`--fractions` select a part; `--report` writes the tables and the plot into the documentation. No
pruned network is fine-tuned, except by the method "refined", which distills it without data.
"""

import argparse
import csv
import pathlib
import time
import typing
from collections.abc import Callable, Iterator

import keras
import numpy as np

import keras_dfprune as dfprune
from benchmarks import nets
from benchmarks.baselines import Drop, Ward, folded

ROOT = pathlib.Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "accuracy.csv"
# Of LeNet-5 only the dense layer of 500 units is pruned, as in the paper; of the other networks
# every hidden layer.
LENET5_FRACTIONS = (0.6, 0.8, 0.88, 0.92, 0.96, 0.98)
FRACTIONS = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9)
CASES = [
    ("digits", "digits"),
    ("lenet300", "mnist"),
    ("lenet300", "fashion_mnist"),
    ("gelu", "mnist"),
    ("batchnorm", "fashion_mnist"),
    ("lenet5", "mnist"),
    ("lenet5", "fashion_mnist"),
]
BASE = "base"  # the network before pruning
CALIBRATION_IMAGES = 5000
REFINE_STEPS = 1500

Sparsity = float | dict[str, float]
MakeMethod = Callable[[int], dfprune.Method]  # from a seed
Prune = Callable[[keras.Model, Sparsity, np.ndarray, int], keras.Model]


class Cell(typing.NamedTuple):
    """Cell of a table: a trained network, a method and the fraction of the units to remove."""

    net: str
    dataset: str
    seed: int
    method: str
    fraction: float


FIELDS = (*Cell._fields, "accuracy", "parameters", "seconds")


def _prune(make_method: MakeMethod, *, data: bool = False, refine_steps: int = 0) -> Prune:
    """Return a function that removes the same fraction of the units of every layer."""

    def run(model: keras.Model, sparsity: Sparsity, images: np.ndarray, seed: int) -> keras.Model:
        return dfprune.apply(
            model,
            method=make_method(seed),
            sparsity=sparsity,
            data=images if data else None,
            refine_steps=refine_steps,
            seed=seed,
        )

    return run


def _share_out(make_method: MakeMethod) -> Prune:
    """Return a function that keeps as many parameters, shared out over the layers by their cost."""

    def run(model: keras.Model, sparsity: Sparsity, images: np.ndarray, seed: int) -> keras.Model:
        size = dfprune.plan(model, sparsity=sparsity).parameters[1]
        return dfprune.apply(model, method=make_method(seed), max_params=size)

    return run


def _ward(model: keras.Model, sparsity: Sparsity, images: np.ndarray, seed: int) -> keras.Model:
    return folded(model, dfprune.plan(model, method=Ward(), sparsity=sparsity))


# Only "calibrated" sees the images, which are unlabelled. "smallest weights" and "smallest
# products" are two settings of the same method: the tables show the better one.
METHODS: dict[str, Prune] = {
    "random": _prune(lambda seed: Drop("random", seed)),
    "smallest weights": _prune(lambda seed: Drop("weights")),
    "smallest products": _prune(lambda seed: Drop("product")),
    "paper, raw": _prune(lambda seed: dfprune.Saliency(normalize=False)),
    "paper": _prune(lambda seed: dfprune.Saliency()),
    "Ward": _ward,
    "moments": _prune(lambda seed: dfprune.Moments()),
    "calibrated": _prune(lambda seed: dfprune.Moments(), data=True),
    "shared out": _share_out(lambda seed: dfprune.Moments()),
    "refined": _prune(lambda seed: dfprune.Moments(), refine_steps=REFINE_STEPS),
}


def cells(arguments: argparse.Namespace) -> Iterator[Cell]:
    """Yield every cell that the command line selects, the fast methods first."""
    slow = [name for name in arguments.methods if name == "refined"]
    fast = [BASE, *(name for name in arguments.methods if name not in slow)]
    for seed in arguments.seeds:
        for methods in (fast, slow):
            for net, dataset in CASES:
                if arguments.nets and f"{net}-{dataset}" not in arguments.nets:
                    continue
                for method in methods:
                    if net == "lenet5" and method == "shared out":
                        continue  # a single pruned layer has nothing to share
                    fractions = LENET5_FRACTIONS if net == "lenet5" else FRACTIONS
                    fractions = arguments.fractions or fractions
                    for fraction in (0.0,) if method == BASE else fractions:
                        yield Cell(net, dataset, seed, method, fraction)


def measure(model: keras.Model, cell: Cell, train: nets.Split, test: nets.Split) -> dict:
    """Prune a model and return its test accuracy in percent, its size and the seconds spent."""
    images = train.shaped_for(model).x[:CALIBRATION_IMAGES]
    start, pruned = time.monotonic(), model
    if cell.method != BASE:
        sparsity = {"fc1": cell.fraction} if cell.net == "lenet5" else cell.fraction
        pruned = METHODS[cell.method](model, sparsity, images, cell.seed)
    seconds = time.monotonic() - start
    return {
        **cell._asdict(),
        "accuracy": round(nets.accuracy(pruned, test), 2),
        "parameters": pruned.count_params(),
        "seconds": round(seconds, 1),
    }


def read(file: pathlib.Path) -> list[dict]:
    """Return the finished measurements, one dict for each line of the file."""
    if not file.exists():
        return []
    types = (str, str, int, str, float, float, int, float)
    with open(file, newline="") as rows:
        return [
            {name: convert(row[name]) for name, convert in zip(FIELDS, types, strict=True)}
            for row in csv.DictReader(rows)
        ]


def append(file: pathlib.Path, row: dict) -> None:
    """Add a line to the file, and the header to a new file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    is_new = not file.exists()
    with open(file, "a", newline="") as lines:
        writer = csv.DictWriter(lines, FIELDS, lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow(row)


def run(arguments: argparse.Namespace) -> None:
    """Measure the cells that are not in the file yet, and append each to it."""
    done = {tuple(row[name] for name in Cell._fields) for row in read(arguments.results)}
    loaded, model, data = None, None, {}
    for cell in cells(arguments):
        if cell in done:
            continue
        if cell.dataset not in data:
            data = {cell.dataset: nets.load_data(cell.dataset, arguments.data_dir)}
        if loaded != cell[:3]:
            model = nets.trained(
                *cell[:3], arguments.cache, data_dir=arguments.data_dir, quick=arguments.quick
            )
            loaded = cell[:3]
        row = measure(model, cell, *data[cell.dataset])
        append(arguments.results, row)
        print(*row.values(), flush=True)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    nets.add_arguments(parser)
    names = [f"{net}-{dataset}" for net, dataset in CASES]
    parser.add_argument("--nets", nargs="*", choices=names, help="default: all")
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--fractions", nargs="*", type=float, help="default: six for each network")
    parser.add_argument("--results", type=pathlib.Path, default=RESULTS)
    parser.add_argument("--report", action="store_true", help="write the documentation and stop")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Measure, or write the documentation with `--report`."""
    arguments = parse(argv)
    if arguments.report:
        from benchmarks.accuracy_report import write

        write(read(arguments.results), ROOT / "docs")
        return
    run(arguments)


if __name__ == "__main__":
    main()
