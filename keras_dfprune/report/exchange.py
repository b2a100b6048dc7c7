"""Exchange two folders in one step."""

import ctypes
import os
import pathlib
import sys

_HERE = -100  # AT_FDCWD: paths start at the current folder
_EXCHANGE = 2  # RENAME_EXCHANGE


def exchange(one: pathlib.Path, other: pathlib.Path) -> bool:
    """Exchange two files or folders in one step, if the system can.

    Args:
        one: A file or folder.
        other: Another one on the same file system.

    Returns:
        Whether it was done. Only Linux can, and not on each file system.
    """
    if sys.platform != "linux":
        return False
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    if rename is None:
        return False
    return bool(rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0)
