"""Figure 3: whole units by the paper's saliency against single weights by OBD and OBS.

Small nets with one hidden layer on tabular data: test error against weights removed, and the time
that each way takes. OBD and OBS see the training set, the paper's method sees no data (Section 5).
"""

import pathlib
import time

import keras
import numpy as np

import keras_dfprune as dfprune
from examples.paper.results import (
    mean_and_spread,
    new_figure,
    progress,
    write_csv,
    write_figure,
    write_table,
)
from examples.paper.second_order import SmallNet, brain_damage, brain_surgeon
from examples.paper.settings import Settings

WAYS = ("OBD", "OBS", "ours, raw", "ours, normalised")
_HIDDEN = 20
_POINTS = 30  # of the curves over single weights


def run(settings: Settings) -> dict[str, dict]:
    """One panel for each data set; returns curves and CPU seconds."""
    data = tables(settings)
    figure, axes = new_figure(5 * len(data), 4, columns=len(data))
    results, rows, times = {}, [], []
    for panel, (name, (train, test)) in zip(axes, data.items(), strict=True):
        curves, seconds = _compare(name, train, test, settings)
        results[name] = {"curves": curves, "seconds": seconds}
        for way in WAYS:
            counts, errors = curves[way]
            panel.plot(counts, errors.mean(axis=0), "-o", markersize=2, label=way)
            rows += [
                (name, way, count, f"{error:.2f}")
                for count, error in zip(counts, errors.mean(axis=0), strict=True)
            ]
            times.append((name, way, mean_and_spread(1000 * np.array(seconds[way]), 1)))
        panel.set(title=f"{name}: mean of {len(settings.seeds)} nets", xlabel="weights removed")
        panel.set(ylabel="test error [%]")
        panel.grid(alpha=0.3)
        panel.legend()
    write_figure(settings.output / "figure3.png", figure)
    header = ("data", "method", "weights removed", "test error [%]")
    write_csv(settings.output / "figure3.csv", header, rows)
    header = ("data", "method", "CPU time to choose all removals [ms]")
    write_table(settings.output / "figure3-time.csv", header, times)
    return results


def tables(settings: Settings) -> dict[str, tuple]:
    """Name to `((x, y) to train, (x, y) to test)`, standardised by the training rows."""
    import sklearn.datasets

    cancer = sklearn.datasets.load_breast_cancer()
    digits = sklearn.datasets.load_digits()
    found = {
        "breast cancer": _split(cancer.data, cancer.target),
        "digits": _split(digits.data, digits.target),
    }
    if settings.spambase is not None:
        found["spambase"] = _split(*read_spambase(settings.spambase))
    return found


def read_spambase(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    """The file of the UCI repository: 57 numbers and the class in each line, commas between.

    The numbers are frequencies and lengths with long tails: `log(1 + x)` of them.

    Raises:
        ValueError: If the file has another form.
    """
    table = np.loadtxt(path, delimiter=",", ndmin=2)
    if table.shape[1] != 58 or not np.isin(table[:, -1], (0, 1)).all() or table[:, :-1].min() < 0:
        raise ValueError(
            "Spambase has 57 numbers that aren't negative and a class, 0 or 1, in each line. "
            f"Received: {path} with {table.shape[1]} columns"
        )
    return np.log1p(table[:, :-1]), table[:, -1].astype(int)


def _split(x: np.ndarray, y: np.ndarray) -> tuple:
    order = np.random.default_rng(0).permutation(len(y))
    x, y, cut = x[order], y[order], len(y) * 2 // 3
    mean, spread = x[:cut].mean(axis=0), x[:cut].std(axis=0)
    x = (x - mean) / np.where(spread > 0, spread, 1.0)
    return (x[:cut], y[:cut]), (x[cut:], y[cut:])


def _compare(name: str, train, test, settings: Settings):
    """Curves, `way -> (counts, errors of shape (seeds, counts))`, and seconds for each way."""
    errors, seconds = {way: [] for way in WAYS}, {way: [] for way in WAYS}
    grid = {}
    for seed in progress(f"figure3, {name}", settings.seeds):
        model = _train(train, seed, settings.quick)
        net = SmallNet.of(model.get_weights())
        grid["OBD"] = _grid(len(net.weights), 5 if settings.quick else _POINTS)
        grid["OBS"] = grid["OBD"]
        dfprune.plan(model, sparsity=0.5)  # the first call also warms TensorFlow up
        for way in WAYS:
            if way in ("OBD", "OBS"):
                function = brain_damage if way == "OBD" else brain_surgeon
                start = time.process_time()
                nets = function(net, train[0], grid[way])
                seconds[way].append(time.process_time() - start)
            else:
                method = dfprune.Saliency(normalize="auto" if "norm" in way else False)
                grid[way], nets, spent = _ours(model, net, method)
                seconds[way].append(spent)
            errors[way].append([sparse.error(*test) for sparse in nets])
    return {way: (grid[way], np.array(errors[way])) for way in WAYS}, seconds


def _grid(weights: int, points: int) -> list[int]:
    return np.unique(np.linspace(0, weights * 0.98, points).astype(int)).tolist()


def _ours(model: keras.Model, net: SmallNet, method) -> tuple[list[int], list[SmallNet], float]:
    """The nets with 0, 1, 2, ... of their units gone; a unit takes all its weights along.

    The CPU time is that of one plan: it orders all removals, whatever their number.
    """
    inputs, hidden, outputs = net.sizes
    kernel, bias, outgoing, offset = net.arrays()
    nets, spent = [net], 0.0
    for removed in range(1, hidden):
        start = time.process_time()
        plan = dfprune.plan(model, method=method, sparsity={"hidden": removed / hidden})
        spent = time.process_time() - start
        merge = plan.groups[0].merge
        arrays = (kernel[:, merge.kept], bias[merge.kept], merge.absorb(outgoing), offset)
        nets.append(SmallNet.of(arrays))
    return [removed * (inputs + 1 + outputs) for removed in range(hidden)], nets, spent


def _train(data, seed: int, quick: bool) -> keras.Model:
    x, y = data
    keras.utils.set_random_seed(seed)
    hidden = keras.layers.Dense(6 if quick else _HIDDEN, activation="relu", name="hidden")
    head = keras.layers.Dense(int(y.max()) + 1, name="outputs")
    model = keras.Sequential([keras.Input((x.shape[1],)), hidden, head], name="small")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss)
    model.fit(x, y, batch_size=64, epochs=2 if quick else 60, verbose=0)
    return model
