"""Write files whole or not at all: in a folder beside the target, then moved in one step."""

import contextlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

_ENDING = ".unfinished"


@contextlib.contextmanager
def staging(target: pathlib.Path) -> Iterator[pathlib.Path]:
    """Make a temporary folder beside `target`, and remove it at the end, also after an error.

    What earlier processes left there, because they were killed, is removed, too.

    Args:
        target: The file or folder that is to be written.
    """
    _remove_abandoned(target)
    folder = tempfile.mkdtemp(f"-{os.getpid()}{_ENDING}", f".{target.name}-", target.parent)
    try:
        yield pathlib.Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def written(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Provide a path to write a file to, and move the file to `path` if nothing fails.

    Args:
        path: The file. An old one stays whole until the new one is, and so does the file that a
            link leads to.
    """
    target = pathlib.Path(path).resolve()
    with staging(target) as folder:
        staged = folder / target.name
        yield staged
        os.replace(staged, target)


def _remove_abandoned(target: pathlib.Path) -> None:
    """Remove the temporary folders of processes that are no longer alive."""
    start = f".{target.name}-"
    for entry in target.parent.glob(f".*-*{_ENDING}"):
        if not entry.name.startswith(start):
            continue
        process = entry.name.removesuffix(_ENDING).rpartition("-")[2]
        if process.isdigit() and not _is_alive(int(process)):
            shutil.rmtree(entry, ignore_errors=True)


def _is_alive(process: int) -> bool:
    if os.name != "posix":  # Elsewhere a signal 0 isn't a question.
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # It belongs to somebody else.
        return True
    return True
