"""Open `.npz` files that may be damaged or come from a stranger."""

import contextlib
import os
import zipfile
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

# An archive of this size, unpacked, is refused if it is also this many times its packed size.
_MOST_BYTES, _MOST_TIMES = 2**30, 100


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
        unpacked = sum(entry.file_size for entry in archive.infolist())
    packed = os.fstat(file.fileno()).st_size
    if unpacked > max(_MOST_BYTES, _MOST_TIMES * packed):
        raise ValueError(f"it unpacks from {packed:,} to {unpacked:,} bytes")
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        yield arrays
