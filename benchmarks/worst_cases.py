"""Measure planning times on weight-sets whose nearest neighbours are hard to find.

`python -m benchmarks.worst_cases` from the repository root. It prints the ratio of each case to
random weight-sets. All cases are timed in turn in one process; ratios are medians over the rounds.
"""

import argparse
import functools

import keras
import numpy as np

import keras_dfprune as dfprune
from benchmarks.speed import dense, seconds


def kernels(width: int) -> dict[str, np.ndarray]:
    """Draw a square kernel for each case, units along the second axis."""
    noise = np.random.default_rng(0).standard_normal((width, width), np.float32)
    centres = np.where(np.arange(width) % 2, noise[:, :1], noise[:, 1:2])
    hub = np.eye(width, dtype=np.float32)
    hub[0] = 1.0  # unit 0 is at 45 degrees to every other unit, which are at 60 to each other
    return {
        "random": noise,
        "all equal": np.ones_like(noise),
        "all zero": np.zeros_like(noise),
        "two clusters": centres + 1e-3 * noise,
        "many clusters": noise[:, np.arange(width) % 256] + 1e-3 * noise[:, ::-1],
        "nearly equal": noise[:, :1] + 3e-6 * noise,
        "hub": hub,
        "orthogonal": np.eye(width, dtype=np.float32),
    }


def models(width: int) -> dict[str, keras.Model]:
    """Build a model for each case."""
    cases = {}
    for name, kernel in kernels(width).items():
        cases[name] = dense((width, width, 10))
        cases[name].layers[0].kernel.assign(kernel)
    return cases


def measure(width: int, rounds: int) -> dict[str, float]:
    """Time each case in turn, after a first round that warms up and doesn't count.

    Returns:
        The median ratio of each case to the random one.
    """
    times: dict[str, list[float]] = {name: [] for name in kernels(2)}
    cases = models(width)
    for number in range(rounds + 1):
        for name, model in cases.items():
            plan = functools.partial(dfprune.plan, model, method="saliency", sparsity=0.5)
            elapsed = seconds(plan)
            if number > 0:
                times[name].append(elapsed)
    return {
        name: float(np.median(np.divide(values, times["random"]))) for name, values in times.items()
    }


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Measure, print a table and return the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args(argv)
    ratios = measure(arguments.width, arguments.rounds)
    print("| weight-sets | time / random |\n|---|---|")
    for name, ratio in ratios.items():
        print(f"| {name} | {ratio:.2f} |")
    return ratios


if __name__ == "__main__":
    main()
