"""Open `.npz` and `.keras` files that may be damaged or come from a stranger."""

import contextlib
import os
import zipfile
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from keras_dfprune.report.cause import cause

# An archive of this size, unpacked, is refused if it is also this many times its packed size.
_MOST_BYTES, _MOST_TIMES = 2**30, 100


class UnpacksToFarMore(ValueError):
    """Error for an archive that is small and would fill the memory."""


@contextlib.contextmanager
def opened_archive(file: BinaryIO) -> Iterator[np.lib.npyio.NpzFile]:
    """Open an `.npz` file without unpickling anything.

    Args:
        file: The file, open for reading in binary mode.

    Raises:
        ValueError: If it is no `.npz` file, is cut short, or unpacks to far more than it holds.
    """
    if not zipfile.is_zipfile(file):  # NumPy's own message would advise to unpickle the file
        raise ValueError("it is no .npz file, or is cut short")
    with zipfile.ZipFile(file) as archive:
        _check_size(archive, file)
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        yield arrays


def check_archive(path: str | os.PathLike[str]) -> None:
    """Check a zip archive that another reader opens: its size, and that no entry is damaged.

    Args:
        path: The file, a `.keras` file say.

    Raises:
        OSError: If it can't be opened.
        ValueError: If it is no zip archive, is damaged, or unpacks to far more than it holds.
    """
    with open(path, "rb") as file:
        if not zipfile.is_zipfile(file):
            raise ValueError("it is not a zip archive, or is cut short")
        try:
            with zipfile.ZipFile(file) as archive:
                _check_size(archive, file)
                damaged = archive.testzip()
        except ValueError:
            raise
        except Exception as error:  # zipfile raises errors of half a dozen types
            raise ValueError(f"it is damaged: {cause(error)}") from error
    if damaged is not None:
        raise ValueError(f"its entry {damaged!r} is damaged")


def _check_size(archive: zipfile.ZipFile, file: BinaryIO) -> None:
    unpacked = sum(entry.file_size for entry in archive.infolist())
    packed = os.fstat(file.fileno()).st_size
    if unpacked > max(_MOST_BYTES, _MOST_TIMES * packed):
        raise UnpacksToFarMore(f"it unpacks from {packed:,} to {unpacked:,} bytes")
