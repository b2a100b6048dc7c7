"""Prune architectures of `keras.applications` that hold planted copies, and export the results.

`python -m benchmarks.applications` prints a table: what was removed, the relative difference
between the pruned model and the original, and the relative difference between each exported file,
read back, and the pruned model.
"""

import argparse
import os
import pathlib
import tempfile
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import keras_dfprune as dfprune
from tests.support.random_graphs import plant_copies

_SMALL = {"weights": None, "input_shape": (32, 32, 3)}
_WHOLE = {**_SMALL, "classes": 10, "classifier_activation": None}
ARCHITECTURES: dict[str, Callable[[], keras.Model]] = {
    "ResNet50": lambda: keras.applications.ResNet50(**_WHOLE),
    "MobileNetV2": lambda: keras.applications.MobileNetV2(alpha=0.35, **_WHOLE),
    "MobileNetV3Small": lambda: keras.applications.MobileNetV3Small(**_WHOLE),
    "VGG16": lambda: keras.applications.VGG16(**_SMALL, include_top=False, pooling="avg"),
    "EfficientNetB0": lambda: keras.applications.EfficientNetB0(**_WHOLE),
}
FILES = {".keras": "m.keras", "SavedModel": "m", ".tflite": "m.tflite", ".onnx": "m.onnx"}


def prepared(name: str) -> tuple[keras.Model, list[str]]:
    """Build a model with random weights and planted copies; return it with its groups' names."""
    keras.utils.set_random_seed(0)
    model = ARCHITECTURES[name]()
    random = np.random.default_rng(0)
    adapted = [layer for layer in model.layers if isinstance(layer, keras.layers.Normalization)]
    constant = {id(variable) for layer in adapted for variable in layer.weights}
    for variable in model.weights:
        if id(variable) in constant:
            continue
        if "moving_variance" in variable.path:
            variable.assign(random.uniform(0.5, 2.0, variable.shape))
        elif len(variable.shape) == 1:
            base = 1.0 if variable.path.endswith("gamma") else 0.0
            variable.assign(base + random.normal(0, 0.1, variable.shape))
    return model, plant_copies(model)


def measure(
    model: keras.Model, folder: str | os.PathLike, files: dict[str, str] = FILES
) -> dict[str, int | str]:
    """Prune and export a model; return one line of the table.

    Args:
        model: A model with planted copies.
        folder: Where the files are written.
        files: File name for each format, by the title of its column.
    """
    images = np.random.default_rng(0).uniform(0, 1, (2, *model.input_shape[1:])).astype("float32")
    before = np.asarray(model(images, training=False))
    plan = dfprune.plan(model, tolerance=0)
    pruned = plan.apply(model)
    difference = np.abs(np.asarray(pruned(images, training=False)) - before).max()
    line: dict[str, int | str] = {
        "groups": len(plan.groups),
        "units removed": sum(len(group.removed) for group in plan.groups),
        "parameters": f"{plan.parameters[0]:,} → {plan.parameters[1]:,}",
        "pruned": f"{difference / np.abs(before).max():.0e}",
    }
    for title, file in files.items():
        try:
            result = dfprune.export(pruned, pathlib.Path(folder) / file)
            line[title] = f"{result.max_relative_error:.0e}"
        except (dfprune.ExportError, ImportError) as error:
            line[title] = "fails"
            print(f"{model.name}, {title}: {error}", flush=True)
    return line


def table(lines: dict[str, dict[str, int | str]]) -> str:
    """Return the Markdown table of the lines, by architecture."""
    titles = ["architecture", *next(iter(lines.values()))]
    rows = [titles, ["---"] * len(titles)]
    rows += [[name, *map(str, line.values())] for name, line in lines.items()]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main(argv: list[str] | None = None) -> dict[str, dict[str, int | str]]:
    """Measure the named architectures, print the table and return its lines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"default: {' '.join(ARCHITECTURES)}")
    arguments = parser.parse_args(argv)
    lines = {}
    for name in arguments.names or ARCHITECTURES:
        start = time.monotonic()
        model, _ = prepared(name)
        with tempfile.TemporaryDirectory() as folder:
            lines[name] = measure(model, folder)
        print(f"{name}: {time.monotonic() - start:.0f} s", flush=True)
        keras.backend.clear_session()
    print(table(lines))
    return lines


if __name__ == "__main__":
    main()
