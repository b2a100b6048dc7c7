"""Find the format of a path, and check that a file may be written there or read from it."""

import os
from pathlib import Path

FORMATS = {".keras": "keras", ".tflite": "tflite", ".onnx": "onnx", "": "saved_model"}

# The names that TensorFlow writes into a SavedModel folder. A folder with any other name in it is
# not replaced.
_SAVED_MODEL_ENTRIES = {
    "saved_model.pb", "saved_model.pbtxt", "fingerprint.pb", "keras_metadata.pb",
    "variables", "assets", "assets.extra", "debug",
}  # fmt: skip

_PATTERNS = "*?[\\"


def check_target(path: str | os.PathLike) -> tuple[Path, str]:
    """Find the format of `path`, and check that a file may be written there.

    Returns:
        The real path (links followed) and the name of the format.

    Raises:
        TypeError: If `path` is not a path.
        ValueError: If the suffix is unknown, if the parent folder is missing, or if `path` exists
            and must not be replaced.
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
            "A folder has the name of the file to write. Choose another path or move the folder. "
            f"Received: path={os.fspath(path)!r}."
        )
    if not suffix:
        _check_folder(target, path)
        if set(os.fspath(target)) & set(_PATTERNS):
            raise ValueError(
                f"TensorFlow takes {', '.join(_PATTERNS)} in the path of a SavedModel for a "
                "pattern of several files. Choose a path without them. "
                f"Received: path={os.fspath(path)!r}, which is '{target}'."
            )
    return target, FORMATS[suffix]


def check_source(path: str | os.PathLike) -> tuple[Path, str]:
    """Find the format of a file or folder that is to be read and run.

    Returns:
        The path, and `"keras"`, `"tflite"` or `"saved_model"`.

    Raises:
        FileNotFoundError: If there is nothing at `path`.
        ValueError: If it is neither a `.keras` nor a `.tflite` file nor a SavedModel folder.
    """
    source = Path(path)
    if not source.exists():
        raise FileNotFoundError(f"No such file or folder. Received: path='{source}'.")
    if source.is_dir():
        if not any((source / name).is_file() for name in ("saved_model.pb", "saved_model.pbtxt")):
            raise ValueError(
                "Expected a folder with a SavedModel, but it has no saved_model.pb. "
                f"Received: path='{source}'."
            )
        return source, "saved_model"
    suffix = source.suffix.lower()
    if suffix not in (".keras", ".tflite"):
        raise ValueError(
            "Expected a file that ends in .keras or .tflite, or a SavedModel folder. "
            f"Received: path='{source}'."
        )
    return source, FORMATS[suffix]


def _check_folder(target: Path, path: str | os.PathLike) -> None:
    if target.exists() and not target.is_dir():
        raise ValueError(
            "A path without a suffix is a SavedModel folder, but it is a file. Choose another "
            "path, or one that ends in .keras, .tflite or .onnx. "
            f"Received: path={os.fspath(path)!r}."
        )
    present = set(os.listdir(target)) if target.exists() else set()
    if present and not ("saved_model.pb" in present and present <= _SAVED_MODEL_ENTRIES):
        foreign = sorted(present - _SAVED_MODEL_ENTRIES) or sorted(present)
        raise ValueError(
            "Only an empty folder or an old SavedModel is replaced. Choose another path or move "
            f"the contents. Received: path={os.fspath(path)!r}, which holds {foreign[0]!r}."
        )


def size_on_disk(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
