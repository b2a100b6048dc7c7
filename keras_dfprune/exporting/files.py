"""A path into a format, and files written aside into their place, all or nothing.

Everything is made in a temporary folder beside the target, then moved with `os.replace`.
"""

import contextlib
import os
import shutil
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

FORMATS = {".keras": "keras", ".tflite": "tflite", ".onnx": "onnx", "": "saved_model"}

# What TensorFlow writes into a SavedModel folder; a folder with anything else in it isn't ours
# to replace.
_SAVED_MODEL_ENTRIES = {
    "saved_model.pb", "saved_model.pbtxt", "fingerprint.pb", "keras_metadata.pb",
    "variables", "assets", "assets.extra", "debug",
}  # fmt: skip

_QUIET = threading.RLock()


def check_target(path: str | os.PathLike) -> tuple[Path, str]:
    """Finds the format that `path` stands for, and whether it may be written.

    Returns:
        The real path (links followed) and the format.

    Raises:
        TypeError: If `path` is no path.
        ValueError: If the suffix is unknown, the parent folder is missing, or what lies there
            must not be replaced.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"Expected `path` to be a path. Received: path={path!r}.")
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise ValueError(
            "Expected `path` to end in .keras, .tflite or .onnx, or to have no suffix: then it "
            f"is a SavedModel folder. Received: path={os.fspath(path)!r}."
        )
    target = Path(path).resolve()
    if not target.parent.is_dir():
        raise ValueError(
            f"The folder '{target.parent}' doesn't exist. Create it first. "
            f"Received: path={os.fspath(path)!r}."
        )
    if suffix and target.is_dir():
        raise ValueError(
            f"A folder is in the place of the file to write. Received: path={os.fspath(path)!r}."
        )
    if not suffix:
        _check_folder(target, path)
    return target, FORMATS[suffix]


def _check_folder(target: Path, path) -> None:
    if target.exists() and not target.is_dir():
        raise ValueError(
            "A path without suffix is a SavedModel folder, but a file is in its place. Choose "
            "another path, or one that ends in .keras, .tflite or .onnx. "
            f"Received: path={os.fspath(path)!r}."
        )
    present = set(os.listdir(target)) if target.exists() else set()
    if present and not ("saved_model.pb" in present and present <= _SAVED_MODEL_ENTRIES):
        foreign = sorted(present - _SAVED_MODEL_ENTRIES) or sorted(present)
        raise ValueError(
            "Only an empty folder or an old SavedModel is replaced. Choose another path or move "
            f"what is in there. Received: path={os.fspath(path)!r}, which holds {foreign[0]!r}."
        )


@contextlib.contextmanager
def staging(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target` that is gone afterwards, whatever happens."""
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def move_into_place(made: Path, target: Path) -> None:
    """Puts a finished file or folder where it belongs, and drops what was there before.

    A folder can't be replaced in one step, so the old one waits in the staging folder and comes
    back if the new one can't be moved in.
    """
    if not (made.is_dir() and target.is_dir()):
        os.replace(made, target)
        return
    old = made.parent / "replaced"
    os.replace(target, old)
    try:
        os.replace(made, target)
    except BaseException:
        os.replace(old, target)
        raise


def size_on_disk(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing is printed inside, neither by Python nor by the C++ under TensorFlow.

    The converters log to the process's own streams, which only their descriptors can silence;
    the lock keeps two exports in two threads from restoring each other's.
    """
    with _QUIET, warnings.catch_warnings(), open(os.devnull, "w") as nowhere:
        warnings.simplefilter("ignore")
        with _silent_descriptors(nowhere.fileno()):
            with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
                yield


@contextlib.contextmanager
def _silent_descriptors(nowhere: int) -> Iterator[None]:
    saved = []
    for stream, descriptor in ((sys.stdout, 1), (sys.stderr, 2)):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed or None
            stream.flush()
        with contextlib.suppress(OSError):  # a process without standard streams
            saved.append((os.dup(descriptor), descriptor))
    try:
        for _, descriptor in saved:
            os.dup2(nowhere, descriptor)
        yield
    finally:
        for copy, descriptor in saved:
            os.dup2(copy, descriptor)
            os.close(copy)
