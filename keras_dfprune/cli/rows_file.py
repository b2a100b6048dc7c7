"""Read rows of numbers from a file that a command names."""

import pathlib
from typing import Any

import numpy as np

from keras_dfprune.cli.messages import CommandError
from keras_dfprune.report.archive import UnpacksToFarMore, opened_archive

_SUFFIXES = (".npy", ".npz", ".csv")
_LABELS = ("y", "labels")  # names of the array of labels in an .npz file


def read_rows_file(path: str | pathlib.Path) -> Any:
    """Read an array, or a dict of arrays by input name. No code in the file is run.

    Args:
        path: A `.npy` file, an `.npz` file with an array for each input by its name, or a `.csv`
            file of numbers, one row in each line; a first line of column names is skipped.

    Raises:
        CommandError: If there are no rows that can be read.
    """
    file = pathlib.Path(path)
    if not file.is_file():
        raise CommandError(f"no such file: {path}")
    suffix = file.suffix.lower()
    if suffix not in _SUFFIXES:
        raise CommandError(f"not a file of rows: {path} (expected {', '.join(_SUFFIXES)})")
    if suffix == ".csv":
        return _read_csv(path)
    try:
        with file.open("rb") as opened:
            if suffix == ".npy":
                return np.lib.format.read_array(opened, allow_pickle=False)
            with opened_archive(opened) as arrays:
                return dict(arrays)
    except UnpacksToFarMore as error:
        raise CommandError(f"{path} is refused: {error}") from error
    except Exception as error:  # NumPy advises to unpickle what it can't read
        raise CommandError(f"{path} is no {suffix} file of numbers") from error


def read_labelled_rows_file(path: str | pathlib.Path) -> Any:
    """Read rows as `read_rows_file` does, and labels where an `.npz` file has any.

    Args:
        path: As in `read_rows_file`. An array `y` or `labels` in an `.npz` file holds the labels.

    Returns:
        The rows, or a tuple of the rows and their labels.

    Raises:
        CommandError: As `read_rows_file`, or if there is nothing but labels.
    """
    rows = read_rows_file(path)
    if not isinstance(rows, dict):
        return rows
    name = next((name for name in _LABELS if name in rows), None)
    if name is None:
        return rows
    labels = rows.pop(name)
    if not rows:
        raise CommandError(f"{path} holds the labels '{name}' only, and no array of an input")
    # The name of a single input doesn't matter: a model that was loaded may have another.
    return (next(iter(rows.values())) if len(rows) == 1 else rows), labels


def _read_csv(path: str | pathlib.Path) -> np.ndarray:
    lines = pathlib.Path(path).read_text("utf-8-sig", errors="replace").splitlines()
    if lines and not all(_is_number(cell) for cell in lines[0].split(",")):
        del lines[0]
    if not any(map(str.strip, lines)):
        raise CommandError(f"{path} has no rows of numbers")
    try:
        return np.loadtxt(lines, np.float32, delimiter=",", ndmin=2)
    except ValueError as error:
        raise CommandError(f"{path} must hold numbers between commas: {error}") from error


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
