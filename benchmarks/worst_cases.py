"""Weight-sets that are hard on a search for neighbours into planning times beside random ones.

`python -m benchmarks.worst_cases` from the repository root. All cases are timed in turn in one
process, and ratios are medians over the rounds.
"""

import argparse

import keras
import numpy as np

import keras_dfprune as dfprune
from benchmarks.speed import dense, seconds


def kernels(width: int) -> dict[str, np.ndarray]:
    """A square kernel for each case, units along the second axis."""
    noise = np.random.default_rng(0).standard_normal((width, width), np.float32)
    centres = np.where(np.arange(width) % 2, noise[:, :1], noise[:, 1:2])
    hub = np.eye(width, dtype=np.float32)
    hub[0] = 1.0  # unit 0 at 45 degrees from every other, those at 60 from each other
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
    """A model for each case."""
    made = {}
    for name, kernel in kernels(width).items():
        made[name] = dense((width, width, 10))
        made[name].layers[0].kernel.assign(kernel)
    return made


def measure(width: int, rounds: int) -> dict[str, float]:
    """Times each case in turn; a first round warms up and doesn't count.

    Returns:
        The median ratio of each case to the random one.
    """
    times = {name: [] for name in kernels(2)}
    cases = models(width)
    for number in range(rounds + 1):
        for name, model in cases.items():
            taken = seconds(lambda model=model: dfprune.plan(model, sparsity=0.5))
            if number:
                times[name].append(taken)
    return {
        name: float(np.median(np.divide(taken, times["random"]))) for name, taken in times.items()
    }


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args(argv)
    found = measure(arguments.width, arguments.rounds)
    print("| weight-sets | time / random |\n|---|---|")
    for name, ratio in found.items():
        print(f"| {name} | {ratio:.2f} |")
    return found


if __name__ == "__main__":
    main()
