"""Read rows of numbers from a file that a command names."""

import pathlib
from typing import Any

import numpy as np

from keras_dfprune.cli.messages import CommandError

_SUFFIXES = (".npy", ".npz", ".csv")


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
        rows = np.load(path, allow_pickle=False)
        return dict(rows) if isinstance(rows, np.lib.npyio.NpzFile) else rows
    except Exception as error:  # NumPy advises to unpickle what it can't read
        raise CommandError(f"{path} is no {suffix} file of numbers") from error


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
