"""Compare `search` with the best uniform sparsity of a grid: the smallest model within a drop.

    python -m benchmarks.search --cache ~/.cache/dfprune --seeds 0 1 2

Both look at one half of the test images (`evaluate`), at most 20 models each. Both results are
scored on the other half. The table has one row for each network, worst first.
"""

import argparse
import warnings

import keras
import numpy as np

import keras_dfprune as dfprune
from benchmarks import nets

CASES = (
    ("digits", "digits"),
    ("lenet300", "mnist"),
    ("lenet300", "fashion_mnist"),
    ("lenet5", "mnist"),
    ("batchnorm", "fashion_mnist"),
)
GRID = 20
MAX_DROP = 0.5  # percentage points: 0.005 of all images


def halves(split: nets.Split) -> tuple[nets.Split, nets.Split]:
    """Split test images into those that `evaluate` sees and those that it doesn't."""
    return nets.Split(split.x[::2], split.y[::2]), nets.Split(split.x[1::2], split.y[1::2])


def best_uniform(model: keras.Model, seen: nets.Split, limit: float) -> keras.Model:
    """Return the smallest model within the limit on a grid of uniform sparsities."""
    best = model
    for number in range(1, GRID + 1):
        narrow = dfprune.apply(model, sparsity=number / (GRID + 1), verify=False)
        if nets.accuracy(narrow, seen) >= limit:
            best = min(best, narrow, key=lambda candidate: candidate.count_params())
    return best


def row(name: str, dataset: str, seed: int, arguments: argparse.Namespace) -> list[float]:
    """Measure one training: parameters and accuracies of both results."""
    _, test = nets.load_data(dataset, arguments.data_dir)
    model = nets.trained(
        name, dataset, seed, arguments.cache, data_dir=arguments.data_dir, quick=arguments.quick
    )
    seen, unseen = halves(test)
    base = nets.accuracy(model, seen)
    uniform = best_uniform(model, seen, base - MAX_DROP)
    result = dfprune.search(
        model, lambda narrow: nets.accuracy(narrow, seen), max_drop=MAX_DROP, steps=GRID
    )
    return [
        model.count_params(),
        uniform.count_params(),
        result.model.count_params(),
        result.model.count_params() / uniform.count_params(),
        nets.accuracy(model, unseen),
        nets.accuracy(uniform, unseen),
        nets.accuracy(result.model, unseen),
        len(result.trials),
    ]


def main(argv: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--nets", nargs="+", help="only networks whose names contain one of these")
    nets.add_arguments(parser)
    arguments = parser.parse_args(argv)
    warnings.filterwarnings("ignore", "The outputs of model")
    rows = []
    for name, dataset in CASES:
        if arguments.nets and not any(part in name for part in arguments.nets):
            continue
        runs = [row(name, dataset, seed, arguments) for seed in arguments.seeds]
        rows.append((f"{name}, {dataset}", np.mean(runs, axis=0)))
        print(*rows[-1], flush=True)
    heading = ("network", "parameters", "uniform", "search", "ratio", "accuracy, %", "uniform, %",
               "search, %", "trials")  # fmt: skip
    print("| " + " | ".join(heading) + " |")
    print("|---" * len(heading) + "|")
    for name, values in sorted(rows, key=lambda entry: -entry[1][3]):
        cells = [f"{value:,.0f}" for value in values[:3]]
        cells += [f"{values[3]:.2f}", *(f"{value:.2f}" for value in values[4:7])]
        print("| " + " | ".join([name, *cells, f"{values[7]:.0f}"]) + " |")


if __name__ == "__main__":
    main()
