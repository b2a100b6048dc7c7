"""Trains a small net on scikit-learn's digits and prunes it in several ways: a table and files.

The net is 64-256-256-10; the data are 1,797 images of 8x8 pixels that come with scikit-learn.
"""

import dataclasses
import pathlib
import tempfile
import time
from typing import Any

import keras
import numpy as np

import keras_dfprune as dfprune

_TRAINING_ROWS = 1347  # three quarters of 1,797; the others are the test set
_SPARSITIES = (0.5, 0.7, 0.9)


@dataclasses.dataclass(frozen=True)
class Row:
    """One model of the table.

    Attributes:
        name: How it was pruned.
        accuracy: Fraction of the test set that it gets right.
        units: Units of its hidden layers.
        parameters: All of them, biases included.
        keras_bytes: Size of its `.keras` file, without an optimizer.
        litert_bytes: Size of its `.tflite` file.
    """

    name: str
    accuracy: float
    units: tuple[int, ...]
    parameters: int
    keras_bytes: int
    litert_bytes: int


def run(output: pathlib.Path, *, quick: bool = False) -> list[Row]:
    """Trains, prunes, prints a table and writes the automatically pruned net.

    Args:
        output: Folder for `pruned.keras`, `saved_model`, `pruned.tflite` and `saliency.png`; it
            is made if it is missing.
        quick: Whether to train for 3 epochs instead of 30 and to prune at one sparsity only.

    Returns:
        The rows of the table.

    Raises:
        ImportError: If scikit-learn or matplotlib is missing.
    """
    start = time.monotonic()
    output.mkdir(parents=True, exist_ok=True)
    train, test = load_digits()
    print(f"Training 64-256-256-10 on {len(train[0]):,} digits ...", flush=True)
    model = train_digits(train, epochs=3 if quick else 30)
    rows = [_measure("trained", model, test)]
    for name, arguments in _ways(_SPARSITIES[:1] if quick else _SPARSITIES):
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


def load_digits() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Reads the digits that come with scikit-learn, shuffled the same way every time.

    Returns:
        `(x, y)` for training and `(x, y)` for testing; `x` has shape `(images, 64)` and values in
        [0, 1], `y` shape `(images,)`.

    Raises:
        ImportError: If scikit-learn is missing.
    """
    try:
        import sklearn.datasets
    except ImportError as error:
        raise ImportError(
            "The digits come with scikit-learn, which isn't installed: "
            'pip install "keras_dfprune[demo]"'
        ) from error
    x, y = sklearn.datasets.load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = (x[order] / 16.0).astype(np.float32), y[order]
    cut = _TRAINING_ROWS
    return (x[:cut], y[:cut]), (x[cut:], y[cut:])


def train_digits(
    data: tuple[np.ndarray, np.ndarray], *, epochs: int = 30, callbacks: Any = None
) -> keras.Model:
    """Trains the demo's net.

    Args:
        data: `(x, y)` as from `load_digits`.
        epochs: How often it sees all of them.
        callbacks: What `Model.fit` takes.

    Returns:
        The compiled and trained model; its output are logits, shape `(batch, 10)`.
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
    model.fit(*data, epochs=epochs, batch_size=32, verbose=0, callbacks=callbacks)
    return model


def table(rows: list[Row]) -> str:
    """The rows as aligned text."""
    cells = [("model", "accuracy", "units", "parameters", ".keras bytes", ".tflite bytes")]
    for row in rows:
        numbers = (row.parameters, row.keras_bytes, row.litert_bytes)
        units = "-".join(map(str, row.units))
        cells.append((row.name, f"{row.accuracy:.4f}", units, *(f"{n:,}" for n in numbers)))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])
        for line in cells
    ]
    lines.insert(1, "-" * len(lines[0]))
    return "\n".join(lines)


def _ways(sparsities: tuple[float, ...]) -> list[tuple[str, dict[str, Any]]]:
    """What the table compares: a name, and the arguments of `apply`."""
    ways: list[tuple[str, dict[str, Any]]] = [("automatic", {})]
    for method in ("saliency", "moments"):
        for sparsity in sparsities:
            name = f"{method}, {100 * sparsity:.0f} % of units"
            ways.append((name, {"method": method, "sparsity": sparsity}))
    return ways


def _measure(name: str, model: keras.Model, test: tuple[np.ndarray, np.ndarray]) -> Row:
    hidden = [layer.units for layer in model.layers[:-1]]
    with tempfile.TemporaryDirectory() as folder:
        sizes = [
            dfprune.export(_bare(model), pathlib.Path(folder) / f"model{suffix}").bytes
            for suffix in (".keras", ".tflite")
        ]
    accuracy = model.evaluate(*test, verbose=0, return_dict=True)["accuracy"]
    return Row(name, accuracy, tuple(hidden), model.count_params(), *sizes)


def _bare(model: keras.Model) -> keras.Model:
    """The same model without its optimizer, whose slots would triple a `.keras` file."""
    bare = keras.Sequential.from_config(model.get_config())
    bare.set_weights(model.get_weights())
    return bare


def _write(plan: dfprune.PruningPlan, model: keras.Model, output: pathlib.Path) -> None:
    """Writes the model that `plan` makes in three formats, and the plan's picture."""
    pruned = _bare(plan.apply(model))
    for name in ("pruned.keras", "saved_model", "pruned.tflite"):
        result = dfprune.export(pruned, output / name)
        error = f"largest difference {result.max_abs_error:.1e}"
        print(f"{result.path}: {result.bytes:,} bytes, read back, {error}")
    plan.plot(output / "saliency.png")
    print(f"{output / 'saliency.png'}: saliency against units removed, and its histogram")
