"""Write files whole or not at all: in a folder beside the target, then moved in one step."""

import contextlib
import errno
import os
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from typing import IO

from keras_dfprune.report.exchange import exchange

if sys.platform != "win32":
    import fcntl

_ENDING = ".unfinished"
_LOCK = ".lock"
_REPLACED = "replaced"
# A file name has at most 255 bytes, and tempfile adds letters to it.
_LONGEST_START = 200
_TRIES = 10
_MOVED_BY_ANOTHER = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT)


@contextlib.contextmanager
def staging(target: pathlib.Path) -> Iterator[pathlib.Path]:
    """Make a temporary folder beside `target`, and remove it at the end, also after an error.

    The folder holds a lock while it is in use. What has no lock was left by a process that was
    killed, and is removed first.

    Args:
        target: The file or folder that is to be written.
    """
    _remove_abandoned(target)
    folder, lock = _locked_folder(target)
    try:
        yield folder
    finally:
        _remove(folder, target)
        if lock is not None:
            lock.close()


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
        move_into_place(staged, target)


def move_into_place(staged: pathlib.Path, target: pathlib.Path) -> None:
    """Move a finished file or folder to `target`, in place of an old one.

    Its content is on the disk before that. Folders are exchanged in one step where the system can.
    Elsewhere the old one is moved to the staging folder first. It is moved back at the end of
    `staging` if the new one can't be moved, or by the next writer if the process is killed.

    Args:
        staged: The new file or folder, in a folder that `staging` made.
        target: Its place.
    """
    for part in [staged] if staged.is_file() else staged.rglob("*"):
        if part.is_file():
            _sync(part)
    for left in reversed(range(_TRIES)):
        try:
            _move(staged, target, staged.parent / f"{_REPLACED}{left}")
            return
        except OSError as error:
            if error.errno not in _MOVED_BY_ANOTHER or not left or not staged.exists():
                raise


def _move(staged: pathlib.Path, target: pathlib.Path, old: pathlib.Path) -> None:
    if not (staged.is_dir() and target.is_dir()):
        os.replace(staged, target)
    elif not exchange(staged, target):
        os.replace(target, old)
        os.replace(staged, target)


def _sync(file: pathlib.Path) -> None:
    """Wait until the content of a file is on the disk."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())


def _start(target: pathlib.Path) -> str:
    name = os.fsencode(target.name)[:_LONGEST_START].decode(errors="ignore")
    return f".{name}-"


def _locked_folder(target: pathlib.Path) -> tuple[pathlib.Path, IO[str] | None]:
    """Make a folder with a lock; None for the lock where the file system has none."""
    lock = None
    for _ in range(_TRIES):
        folder = pathlib.Path(tempfile.mkdtemp(_ENDING, _start(target), target.parent))
        try:
            lock = _lock(folder)
        except BlockingIOError:  # Another process took it for abandoned, and removes it.
            continue
        if lock is not None or folder.exists():
            break
    return folder, lock


def _lock(folder: pathlib.Path) -> IO[str] | None:
    """Lock a staging folder; return None if it is gone, or can't be locked here.

    Raises:
        BlockingIOError: If another process holds the lock.
    """
    if sys.platform == "win32":
        return None
    try:
        lock = (folder / _LOCK).open("a")
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise
    except OSError:
        lock.close()
        return None
    if (folder / _LOCK).exists():
        return lock
    lock.close()
    return None


def _remove_abandoned(target: pathlib.Path) -> None:
    """Remove the temporary folders of processes that are no longer alive."""
    start = _start(target)
    for folder in target.parent.glob(f".*-*{_ENDING}"):
        if folder.name.startswith(start):
            with contextlib.suppress(BlockingIOError):
                lock = _lock(folder)
                if lock is not None:
                    with lock:
                        _remove(folder, target)


def _remove(folder: pathlib.Path, target: pathlib.Path) -> None:
    _bring_back(folder, target)
    shutil.rmtree(folder, ignore_errors=True)


def _bring_back(folder: pathlib.Path, target: pathlib.Path) -> None:
    """Move the old folder back to `target`, if it was moved away and nothing came after it."""
    for old in folder.glob(f"{_REPLACED}?"):
        if not target.exists():
            os.replace(old, target)
