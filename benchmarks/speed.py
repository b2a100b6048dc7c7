"""Layer widths into times beside the bare matrix products, and the peak memory of each stage.

`python benchmarks/speed.py` from the repository root; `--quick` for a small form of it,
`--memory UNITS INPUTS` for the peak of one Saliency layer, `--report` to write the table and the
plot into `docs/performance.md`. All stages of a case are timed in turn in one process, its own, or
in several with `--processes`; ratios are medians over all rounds. It runs on a GPU unchanged:
TensorFlow places the products.
"""
# ruff: noqa: T201

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
ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

import keras_dfprune as dfprune  # noqa: E402
from benchmarks import speed_report  # noqa: E402

HEAD = (9216, 4096, 4096, 1000)  # AlexNet's fc6, fc7 and fc8
WIDTHS = [512, 1024, 2048, 4096, 8192, 16384]
LONG = 8192  # units of a layer from which one round has to do
# What the seconds of a stage are divided by.
BESIDE = {
    "saliency": "gram",
    "rebuild": "gram",
    "keras": "gram",
    "apply": "gram",
    "torch-pruning": "gram",
    "moments": "gram64+inv",
}


def dense(widths: tuple[int, ...]) -> keras.Model:
    """Dense layers of random weights; relu but for the last."""
    hidden = [keras.layers.Dense(width, "relu") for width in widths[1:-1]]
    return keras.Sequential([keras.Input(widths[:1]), *hidden, keras.layers.Dense(widths[-1])])


def seen_sets(widths: tuple[int, ...], sparsity: float) -> list[np.ndarray]:
    """Random arrays of the shapes that planning multiplies: inputs already removed are gone."""
    random, kept, arrays = np.random.default_rng(0), widths[0], []
    for units in widths[1:-1]:
        arrays.append(random.standard_normal((units, kept + 1), np.float32))
        kept = units - round(sparsity * units)
    return arrays


def products(arrays: list[np.ndarray]) -> None:
    """The bare Gram products."""
    for sets in arrays:
        tensor = tf.convert_to_tensor(sets)
        float(tf.matmul(tensor, tensor, transpose_b=True)[0, 0])  # waits for the device


def products_and_inverses(arrays: list[np.ndarray]) -> None:
    """A float64 Gram product and a float64 inverse of the same number of units."""
    for sets in arrays:
        tensor = tf.constant(sets, tf.float64)
        gram = tf.matmul(tensor, tensor, transpose_b=True).numpy()
        np.linalg.inv(gram + len(sets[0]) * np.eye(len(gram)))


def seconds(work: Callable[[], object]) -> float:
    """How long something takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(widths: tuple[int, ...], rounds: int, moments: bool, peers: bool) -> dict:
    """Times every stage in turn, `rounds` times.

    A first round warms up and doesn't count, but for layers that take minutes: of those the only
    round does.
    """
    rounds, warm = (1, 0) if is_long(widths) else (rounds, 1)
    model, arrays = dense(widths), seen_sets(widths, 0.5)
    plan = dfprune.plan(model, sparsity=0.5)
    work = {
        "gram": lambda: products(arrays),
        "saliency": lambda: dfprune.plan(model, sparsity=0.5),
        "rebuild": lambda: plan.apply(model, verify=False),
        "rebuild and verify": lambda: plan.apply(model),
        "apply": lambda: dfprune.apply(model, sparsity=0.5),
    }
    narrow = plan.apply(model)
    config, weights = narrow.get_config(), narrow.get_weights()
    work["keras"] = lambda: type(narrow).from_config(config).set_weights(weights)
    if moments:
        work["gram64+inv"] = lambda: products_and_inverses(arrays)
        work["moments"] = lambda: dfprune.plan(model, sparsity=0.5, method="moments")
    if peers:
        work["torch-pruning"] = torch_pruning(widths, rounds + warm)
    times = {stage: [] for stage in work}
    for number in range(rounds + warm):
        for stage, run in work.items():
            taken = seconds(run)
            if number >= warm:
                times[stage].append(taken)
    return {"times": times, "peak": peak()}


def measure_alone(processes: int, widths: tuple[int, ...], *arguments) -> list[dict]:
    """`measure` in new processes: what an earlier case did to the memory doesn't count.

    One process for layers that take minutes.
    """
    found = []
    for _ in range(1 if is_long(widths) else processes):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found.append(pool.apply(measure, (widths, *arguments)))
    return found


def is_long(widths: tuple[int, ...]) -> bool:
    """Whether a round takes minutes."""
    return max(widths[1:]) >= LONG


def ratios(times: dict[str, list[float]]) -> dict[str, np.ndarray]:
    """What each stage takes beside the bare products, in every round."""
    taken = {stage: np.array(some) for stage, some in times.items()}
    found = {stage: taken[stage] / taken[base] for stage, base in BESIDE.items() if stage in taken}
    return {**found, "verify": (taken["rebuild and verify"] - taken["rebuild"]) / taken["gram"]}


def summary(widths: tuple[int, ...], runs: list[dict]) -> dict:
    """Medians over the rounds of all processes: of seconds, and of the ratios in each round."""
    times = {stage: sum((run["times"][stage] for run in runs), []) for stage in runs[0]["times"]}
    alone = [float(np.median(ratios(run["times"])["saliency"])) for run in runs]
    return {
        "widths": list(widths),
        "seconds": {stage: float(np.median(taken)) for stage, taken in times.items()},
        **{stage: float(np.median(found)) for stage, found in ratios(times).items()},
        "saliency in each process": alone,
        "peak": max(run["peak"] for run in runs),
    }


def torch_pruning(widths: tuple[int, ...], times: int) -> Callable[[], None]:
    """Cuts the same layers in half with torch-pruning, by their norms; nothing takes over there."""
    import torch
    import torch_pruning

    def net() -> torch.nn.Sequential:
        pairs = itertools.pairwise(widths)
        layers = [one for pair in pairs for one in (torch.nn.Linear(*pair), torch.nn.ReLU())]
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
            raise RuntimeError(f"{model[0].out_features} of {widths[1]} units were left")

    return run


def peak() -> int:
    """Largest memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def memory(units: int, inputs: int, crowded: bool) -> dict:
    """Peak of a Saliency plan of one layer above the process that holds the model.

    Where it is crowded, all weight-sets are within 0.1 % of each other.
    """
    model = dense((inputs, units, 10))
    if crowded:
        kernel = model.layers[0].kernel
        kernel.assign(tf.ones((inputs, 1)) + 1e-3 * kernel)
    dfprune.plan(dense((8, 16, 3)), sparsity=0.5)  # TensorFlow's own memory
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])  # what is held now
    before, start = pages * resource.getpagesize(), time.perf_counter()
    dfprune.plan(model, sparsity=0.5)
    taken = time.perf_counter() - start
    return {"units": units, "inputs": inputs, "extra": peak() - before, "seconds": taken}


def import_times(rounds: int) -> float:
    """Median seconds that importing keras_dfprune takes once keras is there."""
    code = (
        "import time, keras; start = time.perf_counter(); import keras_dfprune; "
        "print(time.perf_counter() - start)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    found = [
        float(subprocess.check_output([sys.executable, "-c", code], env=environment))
        for _ in range(rounds)
    ]
    return float(np.median(found))


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two small layers, one round")
    parser.add_argument("--widths", type=int, nargs="*", default=WIDTHS)
    parser.add_argument("--moments-up-to", type=int, default=4096, help="width; default: 4096")
    parser.add_argument(
        "--peers", action="store_true", help="torch-pruning beside `apply`, if it is installed"
    )
    parser.add_argument("--no-head", action="store_true", help="without AlexNet's dense layers")
    parser.add_argument("--rounds", type=int, default=5, help="in each process; default: 5")
    parser.add_argument(
        "--processes", type=int, default=1, help="for each case, one after the other; default: 1"
    )
    parser.add_argument("--memory", type=int, nargs=2, metavar=("UNITS", "INPUTS"))
    parser.add_argument("--crowded", action="store_true", help="weight-sets alike, for --memory")
    parser.add_argument("--results", type=pathlib.Path, help="JSON file to keep the cases in")
    parser.add_argument("--report", action="store_true", help="write docs/performance.md")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> list[dict]:
    """Measures and prints."""
    arguments = parse(argv)
    if arguments.memory:
        found = memory(*arguments.memory, arguments.crowded)
        print(json.dumps(found))
        return [found]
    cases = [(width, width, 10) for width in arguments.widths]
    cases += [] if arguments.no_head else [HEAD]
    rounds = arguments.rounds
    if arguments.quick:
        cases, rounds = [(32, 32, 10), (64, 64, 10), (96, 64, 64, 10)], 1
    results = []
    for widths in cases:
        asked = (widths, rounds, max(widths[1:]) <= arguments.moments_up_to, arguments.peers)
        runs = [measure(*asked)] if arguments.quick else measure_alone(arguments.processes, *asked)
        results.append(summary(widths, runs))
        print(json.dumps(results[-1]), flush=True)
        if arguments.results:
            arguments.results.write_text(json.dumps(results, indent=1))
    text = f"{speed_report.table(results)}\n\n{speed_report.slopes(results)}"
    if not arguments.quick:
        text += f"\n\nImporting keras_dfprune adds {import_times(3):.2f} s to importing keras."
    print(text)
    if arguments.report:
        speed_report.write(text, results, ROOT / "docs")
    return results


if __name__ == "__main__":
    main()
