"""Measure outputs against labels: accuracy for classes, mean squared error for other targets."""

import re
from typing import Any

import numpy as np

from keras_dfprune.graph.compare_outputs import is_number

ACCURACY, SQUARED_ERROR = "accuracy", "mean squared error"
_NUMBERED = re.compile(r"output_(\d+)")


def labels_by_output(labels: Any, outputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the labels of each output that has any.

    Args:
        labels: One array for a model of one output; for several a dict by the names of the outputs,
            or a list in their order where they are only numbered.
        outputs: The model's outputs by name, all rows.

    Raises:
        ValueError: If the labels don't fit the outputs, or hold anything but finite numbers.
    """
    found = {name: np.asarray(array) for name, array in _by_name(labels, list(outputs)).items()}
    for name, array in found.items():
        rows = len(outputs[name])
        if array.ndim == 0 or len(array) != rows:
            raise ValueError(
                f"Expected one label for each row of `data`. Received: {rows} row(s), and labels "
                f"of shape {array.shape} for '{name}'."
            )
        if not is_number(array) or not np.all(np.isfinite(array.astype(np.float64))):
            raise ValueError(
                f"The labels of '{name}' must be finite numbers. Received: dtype={array.dtype}."
            )
    return found


def _by_name(labels: Any, names: list[str]) -> dict[str, Any]:
    if isinstance(labels, dict):
        unknown = sorted(set(map(str, labels)) - set(names))
        if unknown:
            raise ValueError(f"Expected labels for the outputs {names}. Received: keys={unknown}.")
        return labels
    if len(names) == 1:
        is_list_of_one = isinstance(labels, list | tuple) and len(labels) == 1
        inner = is_list_of_one and np.ndim(labels[0]) > 0
        return {names[0]: labels[0] if inner else labels}
    numbers = [_NUMBERED.fullmatch(name) for name in names]
    given = isinstance(labels, list | tuple) and len(labels) == len(names)
    if not given or None in numbers:
        raise ValueError(
            f"Expected labels in a dict by the names of the outputs, {names}. "
            f"Received: labels of type {type(labels).__name__}."
        )
    return {
        name: labels[int(match[1])] for name, match in zip(names, numbers, strict=True) if match
    }


def measure_against(name: str, output: np.ndarray, labels: np.ndarray) -> tuple[str, float]:
    """Return the name of the measure that fits the labels, and its value.

    Args:
        name: Name of the output, for the messages.
        output: The output, shape `(rows, ..., entries)` or `(rows,)`.
        labels: Its labels: class numbers in the shape of the output without its last axis, classes
            one-hot, or other targets in the shape of the output.

    Raises:
        ValueError: If the shape of the labels is another, or a class number is out of range.
    """
    entries = output.shape[-1] if output.ndim > 1 else 1
    classes = _class_numbers(output, labels)
    if classes is not None:
        if classes.min() < 0 or classes.max() >= entries:
            raise ValueError(
                f"Expected class numbers in 0 to {entries - 1} for output '{name}'. "
                f"Received: {classes.min()} to {classes.max()}."
            )
        return ACCURACY, float(np.mean(np.argmax(output, axis=-1) == classes))
    if labels.shape not in (output.shape, output.shape[:-1]) or labels.size != output.size:
        raise ValueError(
            f"The labels don't fit output '{name}' of shape {output.shape}. Give class numbers, "
            f"one-hot classes or targets of that shape. Received: shape={labels.shape}."
        )
    difference = output.astype(np.float64) - labels.reshape(output.shape)
    return SQUARED_ERROR, float(np.mean(np.square(difference)))


def _class_numbers(output: np.ndarray, labels: np.ndarray) -> np.ndarray | None:
    """Return labels as class numbers if they are class numbers or one-hot, else None."""
    if output.ndim < 2 or output.shape[-1] < 2:
        return None
    positions = output.shape[:-1]
    if labels.dtype.kind in "iub" and labels.shape in (positions, (*positions, 1)):
        return labels.reshape(positions).astype(np.int64)
    if labels.shape != output.shape:
        return None
    is_one_hot = np.all((labels == 0) | (labels == 1)) and np.all(labels.sum(axis=-1) == 1)
    return np.argmax(labels, axis=-1) if is_one_hot else None
