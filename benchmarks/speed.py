"""Measure how long each stage takes relative to the bare matrix products, and the peak memory.

`python -m benchmarks.speed` from the repository root. `--quick` runs three small models;
`--memory UNITS INPUTS` measures the peak of one layer under Saliency; `--report` writes the table
and the plot into `docs/research/speed.md`. Each case runs in its own process, or in several with
`--processes`, and times all stages in turn. Ratios are medians over all rounds. On a GPU it runs
unchanged: TensorFlow places the products.
"""

import argparse
import itertools
import json
import multiprocessing
import os
import pathlib
import resource
import subprocess
import sys
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import keras_dfprune as dfprune
from benchmarks import speed_report

ROOT = pathlib.Path(__file__).resolve().parent.parent
HEAD = (9216, 4096, 4096, 1000)  # AlexNet's fc6, fc7 and fc8
WIDTHS = [512, 1024, 2048, 4096, 8192, 16384]
QUICK_CASES = [(32, 32, 10), (64, 64, 10), (96, 64, 64, 10)]
SLOW_WIDTH = 8192  # a round takes minutes for layers of this many units or more
# The stage whose seconds divide those of each other stage.
DIVISORS = {
    "saliency": "gram",
    "rebuild": "gram",
    "keras": "gram",
    "apply": "gram",
    "torch-pruning": "gram",
    "moments": "gram64+inv",
}


def dense(widths: tuple[int, ...]) -> keras.Model:
    """Build dense layers with random weights, all with relu except the last."""
    hidden = [keras.layers.Dense(width, "relu") for width in widths[1:-1]]
    return keras.Sequential([keras.Input(widths[:1]), *hidden, keras.layers.Dense(widths[-1])])


def planned_weight_sets(widths: tuple[int, ...], sparsity: float) -> list[np.ndarray]:
    """Draw arrays of the shapes that planning multiplies, without the inputs already removed."""
    random, kept, arrays = np.random.default_rng(0), widths[0], []
    for units in widths[1:-1]:
        arrays.append(random.standard_normal((units, kept + 1), np.float32))
        kept = units - round(sparsity * units)
    return arrays


def products(arrays: list[np.ndarray]) -> None:
    """Compute the bare Gram products."""
    for sets in arrays:
        tensor = tf.convert_to_tensor(sets)
        float(tf.matmul(tensor, tensor, transpose_b=True)[0, 0])  # waits for the device


def products_and_inverses(arrays: list[np.ndarray]) -> None:
    """Compute float64 Gram products, and a float64 inverse of the size of each."""
    for sets in arrays:
        tensor = tf.constant(sets, tf.float64)
        gram = tf.matmul(tensor, tensor, transpose_b=True).numpy()
        np.linalg.inv(gram + len(sets[0]) * np.eye(len(gram)))


def seconds(work: Callable[[], object]) -> float:
    """Measure the seconds that a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(widths: tuple[int, ...], rounds: int, moments: bool, peers: bool) -> dict:
    """Time every stage in turn.

    Args:
        widths: Inputs and units of the dense layers.
        rounds: How often every stage is timed, after one round that warms up and doesn't count.
            Slow cases run one round, which counts.
        moments: Whether to time `method="moments"`.
        peers: Whether to time torch-pruning.

    Returns:
        `"times"`, a list of seconds for each stage, and `"peak"`, bytes of memory.
    """
    rounds, warm = (1, 0) if is_slow(widths) else (rounds, 1)
    model, arrays = dense(widths), planned_weight_sets(widths, 0.5)
    plan = dfprune.plan(model, method="saliency", sparsity=0.5)
    work: dict[str, Callable[[], object]] = {
        "gram": lambda: products(arrays),
        "saliency": lambda: dfprune.plan(model, method="saliency", sparsity=0.5),
        "rebuild": lambda: plan.apply(model, verify=False),
        "rebuild and verify": lambda: plan.apply(model),
        "apply": lambda: dfprune.apply(model, method="saliency", sparsity=0.5),
    }
    narrow = plan.apply(model)
    config, weights = narrow.get_config(), narrow.get_weights()
    work["keras"] = lambda: type(narrow).from_config(config).set_weights(weights)
    if moments:
        work["gram64+inv"] = lambda: products_and_inverses(arrays)
        work["moments"] = lambda: dfprune.plan(model, sparsity=0.5, method="moments")
    if peers:
        work["torch-pruning"] = torch_pruning(widths, rounds + warm)
    times: dict[str, list[float]] = {stage: [] for stage in work}
    for number in range(rounds + warm):
        for stage, run in work.items():
            elapsed = seconds(run)
            if number >= warm:
                times[stage].append(elapsed)
    return {"times": times, "peak": peak()}


def measure_in_processes(
    processes: int, widths: tuple[int, ...], rounds: int, moments: bool, peers: bool
) -> list[dict]:
    """Run `measure` in new processes, one after the other, so that each starts with fresh memory.

    Slow cases run in one process, whatever `processes` is.
    """
    runs = []
    for _ in range(1 if is_slow(widths) else processes):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            runs.append(pool.apply(measure, (widths, rounds, moments, peers)))
    return runs


def is_slow(widths: tuple[int, ...]) -> bool:
    """Return whether a round takes minutes."""
    return max(widths[1:]) >= SLOW_WIDTH


def ratios(times: dict[str, list[float]]) -> dict[str, np.ndarray]:
    """Divide the seconds of each stage by those of its products, round by round."""
    elapsed = {stage: np.array(values) for stage, values in times.items()}
    quotients = {
        stage: elapsed[stage] / elapsed[divisor]
        for stage, divisor in DIVISORS.items()
        if stage in elapsed
    }
    verify = elapsed["rebuild and verify"] - elapsed["rebuild"]
    return {**quotients, "verify": verify / elapsed["gram"]}


def summary(widths: tuple[int, ...], runs: list[dict]) -> dict:
    """Summarize the runs of a case: medians of the seconds and of the ratios over all rounds."""
    times = {
        stage: list(itertools.chain.from_iterable(run["times"][stage] for run in runs))
        for stage in runs[0]["times"]
    }
    by_process = [float(np.median(ratios(run["times"])["saliency"])) for run in runs]
    return {
        "widths": list(widths),
        "seconds": {stage: float(np.median(values)) for stage, values in times.items()},
        **{stage: float(np.median(values)) for stage, values in ratios(times).items()},
        "saliency in each process": by_process,
        "peak": max(run["peak"] for run in runs),
    }


def torch_pruning(widths: tuple[int, ...], times: int) -> Callable[[], None]:
    """Return a function that halves the same layers with torch-pruning, by the units' norms.

    torch-pruning has no surgery. The function can be called `times` times.

    Raises:
        RuntimeError: By the function, if the first layer isn't halved.
    """
    import torch
    import torch_pruning

    def net() -> torch.nn.Sequential:
        pairs = itertools.pairwise(widths)
        layers = [layer for pair in pairs for layer in (torch.nn.Linear(*pair), torch.nn.ReLU())]
        return torch.nn.Sequential(*layers[:-1])

    nets = [net() for _ in range(times)]

    def run() -> None:
        model = nets.pop()
        torch_pruning.pruner.MetaPruner(
            model,
            torch.zeros(1, widths[0]),
            importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=0.5,
            ignored_layers=[model[-1]],
        ).step()
        if model[0].out_features != widths[1] // 2:
            raise RuntimeError(f"torch-pruning kept {model[0].out_features} of {widths[1]} units")

    return run


def peak() -> int:
    """Return the largest memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def memory(units: int, inputs: int, similar: bool) -> dict:
    """Measure the peak memory of planning one layer with Saliency, above that of the model.

    Args:
        units: Units of the layer.
        inputs: Inputs of the layer.
        similar: Whether all weight-sets are within 0.1 % of each other.
    """
    model = dense((inputs, units, 10))
    if similar:
        kernel = model.layers[0].kernel
        kernel.assign(tf.ones((inputs, 1)) + 1e-3 * kernel)
    dfprune.plan(
        dense((8, 16, 3)), method="saliency", sparsity=0.5
    )  # TensorFlow takes its own memory
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])  # resident now
    before = pages * resource.getpagesize()
    elapsed = seconds(lambda: dfprune.plan(model, method="saliency", sparsity=0.5))
    return {"units": units, "inputs": inputs, "extra": peak() - before, "seconds": elapsed}


def import_seconds(rounds: int) -> float:
    """Measure the median seconds of importing keras_dfprune after keras."""
    code = (
        "import time, keras; start = time.perf_counter(); import keras_dfprune; "
        "keras_dfprune.apply; "  # public names are loaded when they are first used
        "print(time.perf_counter() - start)"
    )
    command, environment = [sys.executable, "-c", code], {**os.environ, "PYTHONPATH": str(ROOT)}
    times = [float(subprocess.check_output(command, env=environment)) for _ in range(rounds)]
    return float(np.median(times))


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--quick", action="store_true", help="three small models, one round")
    add("--widths", type=int, nargs="*", default=WIDTHS)
    add("--moments-up-to", type=int, default=4096, help="largest width; default: 4096")
    add("--peers", action="store_true", help="time torch-pruning too; it must be installed")
    add("--no-head", action="store_true", help="leave out AlexNet's dense layers")
    add("--rounds", type=int, default=5, help="in each process; default: 5")
    add("--processes", type=int, default=1, help="for each case, in turn; default: 1")
    add("--memory", type=int, nargs=2, metavar=("UNITS", "INPUTS"))
    add("--similar", action="store_true", help="with --memory: make all weight-sets similar")
    add("--results", type=pathlib.Path, help="JSON file for the cases")
    add("--report", action="store_true", help="write docs/research/speed.md")
    return parser.parse_args(argv)


def measure_cases(arguments: argparse.Namespace) -> list[dict]:
    """Measure and print every case; write them to the file of `--results`."""
    cases: list[tuple[int, ...]] = [(width, width, 10) for width in arguments.widths]
    cases += [] if arguments.no_head else [HEAD]
    results = []
    for widths in QUICK_CASES if arguments.quick else cases:
        moments = max(widths[1:]) <= arguments.moments_up_to
        if arguments.quick:
            runs = [measure(widths, 1, moments, arguments.peers)]
        else:
            runs = measure_in_processes(
                arguments.processes, widths, arguments.rounds, moments, arguments.peers
            )
        results.append(summary(widths, runs))
        print(json.dumps(results[-1]), flush=True)
        if arguments.results:
            arguments.results.write_text(json.dumps(results, indent=1))
    return results


def main(argv: list[str] | None = None) -> list[dict]:
    """Measure, print the table and return the results."""
    arguments = parse(argv)
    if arguments.memory:
        units, inputs = arguments.memory
        result = memory(units, inputs, arguments.similar)
        print(json.dumps(result))
        return [result]
    results = measure_cases(arguments)
    text = f"{speed_report.table(results)}\n\n{speed_report.slopes(results)}"
    if not arguments.quick:
        text += f"\n\nImporting keras_dfprune adds {import_seconds(3):.2f} s to importing keras."
    print(text)
    if arguments.report:
        speed_report.write(text, results, ROOT / "docs")
    return results


if __name__ == "__main__":
    main()
