"""A small ResNet on Fashion-MNIST into accuracy against filters removed, for several methods.

`python -m benchmarks.residual --data-dir DIR` trains what isn't in the cache yet and prints two
tables: the filters inside the blocks alone, and those of the residual groups along with them.
"""
# ruff: noqa: T201

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

import keras_dfprune as dfprune
from benchmarks import nets
from benchmarks.baselines import Drop

FRACTIONS = (0.1, 0.2, 0.3, 0.5)
METHODS = {
    "random": lambda seed: Drop("random", seed),
    "smallest norm": lambda seed: Drop("weights"),
    "paper, raw": lambda seed: dfprune.Saliency(normalize=False),
    "paper, normalised": lambda seed: dfprune.Saliency(),
    "moments": lambda seed: dfprune.Moments(),
}


def main(argv=None):
    """Measures every method at every fraction, prints the table and returns the cells."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    nets.add_arguments(parser)
    parser.add_argument("--seeds", type=int, default=3, help="trained models; default: 3")
    arguments = parser.parse_args(argv)
    _, test = nets.load_data("fashion_mnist", arguments.data_dir)
    if arguments.quick:
        test = nets.Split(test.x[:500], test.y[:500])
    found, base = {}, []
    for seed in range(arguments.seeds):
        model = nets.trained(
            "resnet", "fashion_mnist", seed, arguments.cache,
            data_dir=arguments.data_dir, quick=arguments.quick,
        )  # fmt: skip
        base.append(nets.accuracy(model, test))
        names = [group.layers for group in dfprune.plan(model, tolerance=0).groups]
        wholes = {
            "inside the blocks": [layers[0] for layers in names if len(layers) == 1],
            "all": [layers[0] for layers in names],
        }
        for what, layers in wholes.items():
            for name, method in METHODS.items():
                row = []
                for fraction in FRACTIONS:
                    pruned = dfprune.apply(
                        model, method=method(seed), sparsity=dict.fromkeys(layers, fraction)
                    )
                    row.append(nets.accuracy(pruned, test))
                    cell = found.setdefault((what, name, fraction), [])
                    cell.append((row[-1], pruned.count_params()))
                print(f"seed {seed}, {what}, {name}: {row}", flush=True)
    for what in wholes:
        print(table({key[1:]: cell for key, cell in found.items() if key[0] == what},
                    f"Filters: {what}", base, model.count_params()))  # fmt: skip
    return found


def table(found, title, base, parameters):
    """Markdown: mean and, behind it, standard deviation over the trained models."""
    sizes = [np.mean([size for _, size in found["moments", f]]) for f in FRACTIONS]
    lines = [
        f"{title}; base {np.mean(base):.1f} % of the test images, {parameters:,} parameters, "
        f"{len(base)} model{'s' * (len(base) > 1)}",
        "",
        "| filters removed | " + " | ".join(f"{100 * f:.0f} %" for f in FRACTIONS) + " |",
        "|---" * (len(FRACTIONS) + 1) + "|",
        "| parameters left | " + " | ".join(f"{100 * s / parameters:.0f} %" for s in sizes) + " |",
    ]
    for name in METHODS:
        cells = [[score for score, _ in found[name, f]] for f in FRACTIONS]
        text = " | ".join(_spread(cell) for cell in cells)
        lines.append(f"| {name} | {text} |")
    return "\n".join(lines) + "\n"


def _spread(values):
    return f"{np.mean(values):.1f}" + (f" ± {np.std(values):.1f}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
