"""Train a small net on scikit-learn's digits, prune it in several ways, and compare the results.

The net has 64-256-256-10 units. The data are 1,797 images of 8x8 pixels that come with
scikit-learn.
"""

import dataclasses
import pathlib
import tempfile
import time
import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

import keras_dfprune as dfprune
from keras_dfprune.report.plot import require_matplotlib
from keras_dfprune.report.table import align

_Data = tuple[np.ndarray, np.ndarray]  # x, y

_TRAINING_ROWS = 1347  # three quarters of 1,797; the others are the test set
_SMALL = 0.05  # of the parameters: the methods differ most where little is left
_ROWS = 64  # unlabelled images
_HALF = "max_params=0.5"
_CUTOFF = "saliency, no budget"
_EXPLANATION = """\
saliency: the paper's method; in the other rows: moments, the default.
measured: change of the outputs in `plan.measured`, squared, over their variance. Without rows of
  data it is the largest over several kinds of draws.
true: the same on the test set."""


@dataclasses.dataclass(frozen=True)
class Row:
    """Row of the table, for one model.

    Attributes:
        name: How the model was pruned.
        accuracy: Fraction of the test set that the model classifies correctly.
        units: Units of each hidden layer.
        parameters: Number of parameters, biases included.
        measured: Change of the outputs as the plan measured it: squared, over the variance. None
            for the trained model.
        true_change: The same on the test set.
        litert_bytes: Size of the `.tflite` file.
    """

    name: str
    accuracy: float
    units: tuple[int, ...]
    parameters: int
    measured: float | None
    true_change: float | None
    litert_bytes: int


def run(output: pathlib.Path, *, quick: bool = False) -> list[Row]:
    """Train a net, prune it, print a table and write the net of half the size.

    Args:
        output: Folder for `pruned.keras`, `saved_model`, `pruned.tflite` and `saliency.png`,
            which is created if it is missing.
        quick: Whether to train for 3 epochs instead of 30, for a lower accuracy.

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
    rows, plans = [_measure("trained", model, test)], {}
    for name, arguments in _settings(train[0][:_ROWS]).items():
        print(f"Pruning: {name} ...", flush=True)
        plans[name] = _plan(model, arguments)
        rows.append(_measure(name, plans[name].apply(model), test, plans[name], model))
    print()
    print(table(rows))
    print(_EXPLANATION)
    print()
    print(plans[_HALF])
    print()
    _write(plans[_HALF].apply(model), output)
    plans[_CUTOFF].plot(output / "saliency.png")
    print(f"{output / 'saliency.png'}: saliency curves and histograms of the paper's method")
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
    headings = ("model", "accuracy", "units", "parameters", "measured", "true", ".tflite bytes")
    return "\n".join(align([headings, *map(_cells, rows)]))


def _cells(row: Row) -> tuple[str, ...]:
    changes = [
        "" if change is None else f"{100 * change:.2g} %"
        for change in (row.measured, row.true_change)
    ]
    units = "-".join(map(str, row.units))
    sizes = (f"{row.parameters:,}", *changes, f"{row.litert_bytes:,}")
    return (row.name, f"{row.accuracy:.4f}", units, *sizes)


def _settings(images: np.ndarray) -> dict[str, dict[str, Any]]:
    """Return what the table compares: the arguments of `plan`, by the name of the row."""
    return {
        _HALF: {"max_params": 0.5},
        "no budget": {},
        f"max_params={_SMALL}": {"max_params": _SMALL},
        f"max_params={_SMALL}, {len(images)} rows": {"max_params": _SMALL, "data": images},
        f"saliency, {_HALF}": {"method": "saliency", "max_params": 0.5},
        _CUTOFF: {"method": "saliency"},
        f"saliency, max_params={_SMALL}": {"method": "saliency", "max_params": _SMALL},
    }


def _plan(model: keras.Model, arguments: dict[str, Any]) -> dfprune.PruningPlan:
    """Make a plan without a warning of large changes: the table shows them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return dfprune.plan(model, **arguments)


def _measure(
    name: str,
    model: keras.Model,
    test: _Data,
    plan: dfprune.PruningPlan | None = None,
    original: keras.Model | None = None,
) -> Row:
    """Measure a model on the test set, and a pruned one against the original, too."""
    hidden = [layer.units for layer in model.layers[:-1]]
    with tempfile.TemporaryDirectory() as folder:
        size = dfprune.export(_bare(model), pathlib.Path(folder) / "model.tflite").bytes
    accuracy = model.evaluate(*test, verbose=0, return_dict=True)["accuracy"]
    measured = true_change = None
    if plan is not None and original is not None:
        measured = max((output.change for output in plan.measured), default=0.0)
        wide, narrow = (each.predict(test[0], verbose=0) for each in (original, model))
        true_change = float(np.mean((wide - narrow) ** 2) / np.mean(np.var(wide, axis=0)))
    return Row(name, accuracy, tuple(hidden), model.count_params(), measured, true_change, size)


def _bare(model: keras.Model) -> keras.Model:
    """Copy a model without its optimizer, whose slots would triple the size of a `.keras` file."""
    bare = keras.Sequential.from_config(model.get_config())
    bare.set_weights(model.get_weights())
    return bare


def _write(pruned: keras.Model, output: pathlib.Path) -> None:
    """Write a pruned model in three formats."""
    for name in ("pruned.keras", "saved_model", "pruned.tflite"):
        result = dfprune.export(_bare(pruned), output / name)
        difference = f"largest difference from the model {result.max_abs_error:.1e}"
        print(f"{result.path}: {result.bytes:,} bytes, {difference}")
