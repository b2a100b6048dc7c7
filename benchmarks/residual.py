"""Measure the accuracy of a pruned ResNet on Fashion-MNIST by filters removed and method.

`python -m benchmarks.residual --data-dir DIR` trains the models that are not in the cache and
prints two tables: one for pruning the filters inside the blocks, one for pruning those of the
residual groups as well.
"""

import argparse
import collections
import os
import typing
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import keras_dfprune as dfprune
from benchmarks import nets
from benchmarks.baselines import Drop

FRACTIONS = (0.1, 0.2, 0.3, 0.5)
INSIDE, ALL = "inside the blocks", "all"  # which filters are pruned
METHODS: dict[str, Callable[[int], dfprune.Method]] = {  # from a seed
    "random": lambda seed: Drop("random", seed),
    "smallest norm": lambda seed: Drop("weights"),
    "paper, raw": lambda seed: dfprune.Saliency(normalize=False),
    "paper, normalised": lambda seed: dfprune.Saliency(),
    "moments": lambda seed: dfprune.Moments(),
}


class Cell(typing.NamedTuple):
    """Cell of a table."""

    filters: str  # INSIDE or ALL
    method: str
    fraction: float


class Result(typing.NamedTuple):
    """Test accuracy in percent and parameters of one pruned model."""

    accuracy: float
    parameters: int


Results = dict[Cell, list[Result]]  # one result for each trained model


def main(argv: list[str] | None = None) -> Results:
    """Measure every method at every fraction, print the tables and return the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    nets.add_arguments(parser)
    parser.add_argument("--seeds", type=int, default=3, help="trained models; default: 3")
    arguments = parser.parse_args(argv)
    _, test = nets.load_data("fashion_mnist", arguments.data_dir)
    if arguments.quick:
        test = nets.Split(test.x[:500], test.y[:500])
    results: Results = collections.defaultdict(list)
    base = []
    for seed in range(arguments.seeds):
        model = nets.trained(
            "resnet",
            "fashion_mnist",
            seed,
            arguments.cache,
            data_dir=arguments.data_dir,
            quick=arguments.quick,
        )
        base.append(nets.accuracy(model, test))
        for cell, result in measure(model, seed, test).items():
            results[cell].append(result)
    for filters in (INSIDE, ALL):
        print(table(results, filters, base, model.count_params()))
    return results


def measure(model: keras.Model, seed: int, test: nets.Split) -> dict[Cell, Result]:
    """Prune a trained model by every method at every fraction."""
    groups = [group.layers for group in dfprune.plan(model, tolerance=0).groups]
    pruned_layers = {
        INSIDE: [layers[0] for layers in groups if len(layers) == 1],
        ALL: [layers[0] for layers in groups],
    }
    results = {}
    for filters, layers in pruned_layers.items():
        for name, make_method in METHODS.items():
            for fraction in FRACTIONS:
                pruned = dfprune.apply(
                    model, method=make_method(seed), sparsity=dict.fromkeys(layers, fraction)
                )
                result = Result(nets.accuracy(pruned, test), pruned.count_params())
                results[Cell(filters, name, fraction)] = result
            row = [results[Cell(filters, name, fraction)].accuracy for fraction in FRACTIONS]
            print(f"seed {seed}, {filters}, {name}: {row}", flush=True)
    return results


def table(results: Results, filters: str, base: list[float], parameters: int) -> str:
    """Return a Markdown table: mean ± standard deviation of the accuracy over the models."""
    sizes = [
        np.mean([result.parameters for result in results[Cell(filters, "moments", fraction)]])
        for fraction in FRACTIONS
    ]
    lines = [
        f"Filters: {filters}; base {np.mean(base):.1f} % of the test images, {parameters:,} "
        f"parameters, {len(base)} model{'s' if len(base) > 1 else ''}",
        "",
        "| filters removed | " + " | ".join(f"{100 * f:.0f} %" for f in FRACTIONS) + " |",
        "|---" * (len(FRACTIONS) + 1) + "|",
        "| parameters left | " + " | ".join(f"{100 * s / parameters:.0f} %" for s in sizes) + " |",
    ]
    for name in METHODS:
        cells = [
            _mean_and_deviation([result.accuracy for result in results[Cell(filters, name, f)]])
            for f in FRACTIONS
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _mean_and_deviation(values: list[float]) -> str:
    return f"{np.mean(values):.1f}" + (f" ± {np.std(values):.1f}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
