"""A small ResNet on Fashion-MNIST into accuracy against filters removed, for several methods.

`python -m benchmarks.residual --data-dir DIR` trains what isn't in the cache yet and prints a
table: half a minute for each method and model behind the training.
"""
# ruff: noqa: T201

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

import keras_dfprune as dfprune
from benchmarks import nets
from benchmarks.baselines import Drop

FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5)
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
        for name, method in METHODS.items():
            for fraction in FRACTIONS:
                pruned = dfprune.apply(model, method=method(seed), sparsity=fraction)
                cell = found.setdefault((name, fraction), [])
                cell.append((nets.accuracy(pruned, test), pruned.count_params()))
            print(f"seed {seed}, {name}", [found[name, f][-1][0] for f in FRACTIONS], flush=True)
    print(table(found, base, model.count_params()))
    return found


def table(found, base, parameters):
    """Markdown: mean and, behind it, standard deviation over the trained models."""
    sizes = [np.mean([size for _, size in found["moments", f]]) for f in FRACTIONS]
    lines = [
        f"base {np.mean(base):.1f} % of the test images, {parameters:,} parameters, "
        f"{len(base)} models",
        "",
        "| filters removed | " + " | ".join(f"{100 * f:.0f} %" for f in FRACTIONS) + " |",
        "|---" * (len(FRACTIONS) + 1) + "|",
        "| parameters left | " + " | ".join(f"{100 * s / parameters:.0f} %" for s in sizes) + " |",
    ]
    for name in METHODS:
        cells = [[score for score, _ in found[name, f]] for f in FRACTIONS]
        text = " | ".join(f"{np.mean(cell):.1f} ± {np.std(cell):.1f}" for cell in cells)
        lines.append(f"| {name} | {text} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
