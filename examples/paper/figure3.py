"""Draw Figure 3: removal of units by saliency, and of single weights by OBD and OBS.

It shows test error against weights removed for small networks with one hidden layer on tabular
data, and writes the time that each method takes. OBD and OBS use the training set; the paper's
method uses no data (Section 5).
"""

import dataclasses
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

METHODS = ("OBD", "OBS", "ours, raw", "ours, normalised")
_HIDDEN = 20
_POINTS = 30  # points of the curves over single weights

Table = tuple[np.ndarray, np.ndarray]  # inputs and classes


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """Curves and times of a data set, by method.

    Attributes:
        curves: Numbers of weights removed, and test errors in percent, shape `(seeds, counts)`.
        seconds: CPU seconds of choosing all removals, one number for each seed.
    """

    curves: dict[str, tuple[list[int], np.ndarray]]
    seconds: dict[str, list[float]]


def run(settings: Settings) -> dict[str, Comparison]:
    """Draw a panel for each data set; return curves and CPU seconds."""
    data = tables(settings)
    figure, axes = new_figure(5 * len(data), 4, columns=len(data))
    results, rows, times = {}, [], []
    for panel, (name, (train, test)) in zip(axes, data.items(), strict=True):
        comparison = results[name] = _compare(name, train, test, settings)
        for method in METHODS:
            counts, errors = comparison.curves[method]
            panel.plot(counts, errors.mean(axis=0), "-o", markersize=2, label=method)
            rows += [
                (name, method, count, f"{error:.2f}")
                for count, error in zip(counts, errors.mean(axis=0), strict=True)
            ]
            milliseconds = [1000 * seconds for seconds in comparison.seconds[method]]
            times.append((name, method, mean_and_spread(milliseconds, 1)))
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


def tables(settings: Settings) -> dict[str, tuple[Table, Table]]:
    """Load the data sets by name, each split into rows to train and rows to test.

    Inputs are standardised by the mean and deviation of the training rows.
    """
    import sklearn.datasets

    cancer = sklearn.datasets.load_breast_cancer()
    digits = sklearn.datasets.load_digits()
    data = {
        "breast cancer": _split(cancer.data, cancer.target),
        "digits": _split(digits.data, digits.target),
    }
    if settings.spambase is not None:
        data["spambase"] = _split(*read_spambase(settings.spambase))
    return data


def read_spambase(path: pathlib.Path) -> Table:
    """Read the file of the UCI repository: 57 numbers and the class in each line, with commas.

    The numbers are frequencies and lengths with long tails, so `log(1 + x)` is taken of them.

    Raises:
        ValueError: If the file has other columns or values.
    """
    table = np.loadtxt(path, delimiter=",", ndmin=2)
    if table.shape[1] != 58 or not np.isin(table[:, -1], (0, 1)).all() or table[:, :-1].min() < 0:
        raise ValueError(
            "Each line of spambase.data has 57 numbers of at least 0 and a class, 0 or 1. Pass the "
            f"file of the UCI repository. Received: {path} with {table.shape[1]} columns"
        )
    return np.log1p(table[:, :-1]), table[:, -1].astype(int)


def _split(x: np.ndarray, y: np.ndarray) -> tuple[Table, Table]:
    order = np.random.default_rng(0).permutation(len(y))
    x, y, cut = x[order], y[order], len(y) * 2 // 3
    mean, spread = x[:cut].mean(axis=0), x[:cut].std(axis=0)
    x = (x - mean) / np.where(spread > 0, spread, 1.0)
    return (x[:cut], y[:cut]), (x[cut:], y[cut:])


def _compare(name: str, train: Table, test: Table, settings: Settings) -> Comparison:
    """Train a network for each seed and prune it by every method."""
    errors: dict[str, list[list[float]]] = {method: [] for method in METHODS}
    seconds: dict[str, list[float]] = {method: [] for method in METHODS}
    counts: dict[str, list[int]] = {}
    for seed in progress(f"figure3, {name}", settings.seeds):
        model = _train(train, seed, settings.quick)
        net = SmallNet.of(model.get_weights())
        grid = _grid(len(net.weights), 5 if settings.quick else _POINTS)
        # TensorFlow's first call takes longer.
        dfprune.plan(model, method="saliency", sparsity=0.5)
        for method in METHODS:
            if method in ("OBD", "OBS"):
                prune = brain_damage if method == "OBD" else brain_surgeon
                start = time.process_time()
                counts[method], nets = grid, prune(net, train[0], grid)
                spent = time.process_time() - start
            else:
                normalize = "auto" if method == "ours, normalised" else False
                saliency = dfprune.Saliency(normalize=normalize)
                counts[method], nets, spent = _remove_units(model, net, saliency)
            seconds[method].append(spent)
            errors[method].append([sparse.error(*test) for sparse in nets])
    curves = {method: (counts[method], np.array(errors[method])) for method in METHODS}
    return Comparison(curves, seconds)


def _grid(weights: int, points: int) -> list[int]:
    """Return evenly spaced numbers of weights to remove."""
    return np.unique(np.linspace(0, weights * 0.98, points).astype(int)).tolist()


def _remove_units(
    model: keras.Model, net: SmallNet, method: dfprune.Saliency
) -> tuple[list[int], list[SmallNet], float]:
    """Remove 0, 1, 2, ... units, each with all its weights.

    Returns:
        Numbers of weights removed, the networks, and the CPU seconds of one plan, since a plan
        orders all removals whatever their number.
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


def _train(data: Table, seed: int, quick: bool) -> keras.Model:
    x, y = data
    keras.utils.set_random_seed(seed)
    hidden = keras.layers.Dense(6 if quick else _HIDDEN, activation="relu", name="hidden")
    head = keras.layers.Dense(int(y.max()) + 1, name="outputs")
    model = keras.Sequential([keras.Input((x.shape[1],)), hidden, head], name="small")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss)
    model.fit(x, y, batch_size=64, epochs=2 if quick else 60, verbose=0)
    return model
