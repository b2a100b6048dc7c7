"""Train a small net on scikit-learn's digits, prune it in several ways, and compare the results.

The net has 64-256-256-10 units. The data are 1,797 images of 8x8 pixels that come with
scikit-learn.
"""

import dataclasses
import pathlib
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

import keras_dfprune as dfprune
from keras_dfprune.report.plot import require_matplotlib
from keras_dfprune.report.table import align

_Data = tuple[np.ndarray, np.ndarray]  # x, y

_TRAINING_ROWS = 1347  # three quarters of 1,797; the others are the test set
_SPARSITIES = (0.5, 0.7, 0.9)


@dataclasses.dataclass(frozen=True)
class Row:
    """Row of the table, for one model.

    Attributes:
        name: How the model was pruned.
        accuracy: Fraction of the test set that the model classifies correctly.
        units: Units of each hidden layer.
        parameters: Number of parameters, biases included.
        keras_bytes: Size of the `.keras` file, without an optimizer.
        litert_bytes: Size of the `.tflite` file.
    """

    name: str
    accuracy: float
    units: tuple[int, ...]
    parameters: int
    keras_bytes: int
    litert_bytes: int


def run(output: pathlib.Path, *, quick: bool = False) -> list[Row]:
    """Train a net, prune it, print a table and write the automatically pruned net.

    Args:
        output: Folder for `pruned.keras`, `saved_model`, `pruned.tflite` and `saliency.png`,
            which is created if it is missing.
        quick: Whether to train for 3 epochs instead of 30, and to prune at one sparsity only.

    Returns:
        The rows of the table.

    Raises:
        ImportError: If scikit-learn or matplotlib is missing.
    """
    start = time.monotonic()
    require_matplotlib()
    train, test = load_digits()
    output.mkdir(parents=True, exist_ok=True)
    print(f"Training 64-256-256-10 on {len(train[0]):,} digits ...", flush=True)
    model = train_digits(train, epochs=3 if quick else 30)
    rows = [_measure("trained", model, test)]
    for name, arguments in _settings(_SPARSITIES[:1] if quick else _SPARSITIES):
        print(f"Pruning: {name} ...", flush=True)
        rows.append(_measure(name, dfprune.apply(model, **arguments), test))
    print()
    print(table(rows))
    print()
    plan = dfprune.plan(model)
    print(plan)
    print()
    _write(plan, model, output)
    print(f"Done in {time.monotonic() - start:.0f} s.")
    return rows


def load_digits() -> tuple[_Data, _Data]:
    """Load the digits that come with scikit-learn, in the same shuffled order every time.

    Returns:
        `(x, y)` for training and `(x, y)` for testing. `x` has shape `(images, 64)` and values in
        [0, 1], `y` has shape `(images,)`.

    Raises:
        ImportError: If scikit-learn is missing.
    """
    try:
        import sklearn.datasets
    except ImportError as error:
        raise ImportError(
            "The digits come with scikit-learn, which isn't installed. Install it with: "
            'pip install "keras_dfprune[demo]"'
        ) from error
    x, y = sklearn.datasets.load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = (x[order] / 16.0).astype(np.float32), y[order]
    end = _TRAINING_ROWS
    return (x[:end], y[:end]), (x[end:], y[end:])


def train_digits(
    data: _Data, *, epochs: int = 30, callbacks: Sequence[keras.callbacks.Callback] = ()
) -> keras.Model:
    """Train the demo's net.

    Args:
        data: `(x, y)` of `load_digits`.
        epochs: Number of epochs.
        callbacks: Callbacks for `Model.fit`.

    Returns:
        The compiled and trained model. It returns logits, shape `(batch, 10)`.
    """
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((64,), name="pixels"),
            keras.layers.Dense(256, activation="relu", name="fc1"),
            keras.layers.Dense(256, activation="relu", name="fc2"),
            keras.layers.Dense(10, name="logits"),
        ],
        name="digits",
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    model.fit(*data, epochs=epochs, batch_size=32, verbose=0, callbacks=list(callbacks))
    return model


def table(rows: Sequence[Row]) -> str:
    """Return the rows as aligned text."""
    headings = ("model", "accuracy", "units", "parameters", ".keras bytes", ".tflite bytes")
    return "\n".join(align([headings, *map(_cells, rows)]))


def _cells(row: Row) -> tuple[str, ...]:
    sizes = (row.parameters, row.keras_bytes, row.litert_bytes)
    units = "-".join(map(str, row.units))
    return (row.name, f"{row.accuracy:.4f}", units, *(f"{size:,}" for size in sizes))


def _settings(sparsities: Sequence[float]) -> list[tuple[str, dict[str, Any]]]:
    """Return what the table compares: a name, and the arguments of `apply`."""
    settings: list[tuple[str, dict[str, Any]]] = [("automatic", {})]
    for method in ("saliency", "moments"):
        for sparsity in sparsities:
            name = f"{method}, {100 * sparsity:.0f} % of units"
            settings.append((name, {"method": method, "sparsity": sparsity}))
    return settings


def _measure(name: str, model: keras.Model, test: _Data) -> Row:
    hidden = [layer.units for layer in model.layers[:-1]]
    with tempfile.TemporaryDirectory() as folder:
        sizes = [
            dfprune.export(_bare(model), pathlib.Path(folder) / f"model{suffix}").bytes
            for suffix in (".keras", ".tflite")
        ]
    accuracy = model.evaluate(*test, verbose=0, return_dict=True)["accuracy"]
    return Row(name, accuracy, tuple(hidden), model.count_params(), *sizes)


def _bare(model: keras.Model) -> keras.Model:
    """Copy a model without its optimizer, whose slots would triple the size of a `.keras` file."""
    bare = keras.Sequential.from_config(model.get_config())
    bare.set_weights(model.get_weights())
    return bare


def _write(plan: dfprune.PruningPlan, model: keras.Model, output: pathlib.Path) -> None:
    """Write the pruned model in three formats, and the plot of the plan."""
    pruned = _bare(plan.apply(model))
    for name in ("pruned.keras", "saved_model", "pruned.tflite"):
        result = dfprune.export(pruned, output / name)
        difference = f"largest difference from the model {result.max_abs_error:.1e}"
        print(f"{result.path}: {result.bytes:,} bytes, {difference}")
    plan.plot(output / "saliency.png")
    print(f"{output / 'saliency.png'}: saliency curves and histograms")
