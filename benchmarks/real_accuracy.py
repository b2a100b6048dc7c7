"""Measure how pruning changes the outputs of trained networks that packages ship.

`python -m benchmarks.real_accuracy [NAME ...]` prints a row for each network, cut and source of
rows: parameters left, correlation of the outputs with the original's, squared change over the
variance, and what the plan had measured. `python -m benchmarks.real_networks download` fetches the
networks first.
"""

import argparse
import os
import time
import warnings
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import keras_dfprune as dfprune
from benchmarks import real_networks
from keras_dfprune.graph.before_activation import before_activation

# Constants were chosen on these networks, beside those of `benchmarks/nets.py`. The others are for
# reporting only.
TUNED_ON = (
    "wall-acceleration",
    "spectrum",
    "colours",
    "emotions",
    "mobility",
    "landmarks",
    "waves",
)
# The inputs of the test don't occur among the rows that are given.
_TEST_SEED, _ROWS_SEED = 1, 2
CUTS: dict[str, dict[str, Any]] = {
    "no budget": {},
    "10 % of the units": {"sparsity": 0.1},
    "30 % of the units": {"sparsity": 0.3},
    "50 % of the units": {"sparsity": 0.5},
    "half of the parameters": {"max_params": 0.5},
}


def outputs(model: keras.Model, inputs: Any) -> np.ndarray:
    """Return a model's outputs in front of its last activations, shape `(rows, entries)`."""
    values = before_activation(model).model.predict(inputs, batch_size=64, verbose=0)
    flat = [np.asarray(value) for value in keras.tree.flatten(values)]
    return np.concatenate([value.reshape(len(value), -1) for value in flat], axis=1)


def correlation(wide: np.ndarray, narrow: np.ndarray) -> float:
    """Return the mean correlation of the entries that vary."""
    varying = np.flatnonzero(wide.std(axis=0) > 1e-9)
    deviations = narrow.std(axis=0)
    return float(
        np.mean(
            [
                np.corrcoef(wide[:, k], narrow[:, k])[0, 1] if deviations[k] > 0 else 0.0
                for k in varying
            ]
        )
    )


def change(wide: np.ndarray, narrow: np.ndarray) -> float:
    """Return the squared change over the variance."""
    return float(np.sum((wide - narrow) ** 2) / np.sum((wide - wide.mean(axis=0)) ** 2))


def measure(name: str, cut: str, rows: int, steps: int, cache: str, count: int = 256) -> str:
    """Prune one network and return its row of the table.

    Args:
        name: Name of the network.
        cut: A key of `CUTS`.
        rows: Rows of data to give; 0 for none.
        steps: Steps of recovery.
        cache: Folder of the downloaded archives.
        count: Inputs on which both models are compared.
    """
    model = real_networks.load(name, cache=cache)
    test = real_networks.inputs(name, count, _TEST_SEED, cache=cache)
    data = real_networks.inputs(name, rows, _ROWS_SEED, cache=cache) if rows else None
    start = time.perf_counter()
    plan = dfprune.plan(model, data=data, refine_steps=steps, **CUTS[cut])
    pruned = plan.apply(model)
    seconds = time.perf_counter() - start
    wide, narrow = outputs(model, test), outputs(pruned, test)
    measured = max((output.change for output in plan.measured), default=0.0)
    left = pruned.count_params() / model.count_params()
    return (
        f"| {name} | {cut} | {rows or '-'} | {steps or '-'} | {100 * left:.0f} % | "
        f"{correlation(wide, narrow):.3f} | {change(wide, narrow):.2g} | {measured:.2g} | "
        f"{seconds:.0f} |"
    )


def main(argv: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="networks; default: all")
    parser.add_argument("--cache", default="realnets", help="folder of the archives")
    parser.add_argument("--cuts", nargs="*", choices=list(CUTS), default=list(CUTS))
    parser.add_argument("--rows", nargs="*", type=int, default=[0, 32, 256])
    parser.add_argument("--steps", nargs="*", type=int, default=[0])
    parser.add_argument("--count", type=int, default=256, help="inputs to compare on")
    options = parser.parse_args(argv)
    warnings.simplefilter("ignore", UserWarning)
    print("| network | cut | rows | steps | left | r | change | measured | seconds |")
    print("|---" * 9 + "|")
    for name in options.names or real_networks.NETWORKS:
        for cut in options.cuts:
            for rows in options.rows:
                for steps in options.steps:
                    row = measure(name, cut, rows, steps, options.cache, options.count)
                    print(row, flush=True)


if __name__ == "__main__":
    main()
