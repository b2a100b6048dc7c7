"""Load the model that a command is about, or say why it can't be loaded and how to go on."""

import contextlib
import importlib
import json
import os
import pathlib
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Mapping
from typing import Any

import h5py
import keras

from keras_dfprune.cli.messages import CommandError
from keras_dfprune.report.archive import check_archive
from keras_dfprune.report.cause import cause

_SUFFIXES = (".keras", ".h5", ".hdf5")
# The ways in which Keras says that a file needs something that Keras doesn't have.
_MISSING = re.compile(
    r"Could not locate (?:class|function) '([^']*)'|Unknown [\w ]+: '([^']*)'"
    r"|Cannot deserialize object of type `([^`]*)`"
    r"|Could not interpret .* identifier: (?:\{.*'class_name': '([^']*)'|(\w+)$)"
)
# Classes of Keras 2 that Keras 3 doesn't have.
_OF_KERAS_2 = ("Functional", "TFOpLambda", "SlicingOpLambda", "ClassMethod", "InstanceProperty")
# A lambda is stored as its code: {'value': ['4wEAAA...
_LAMBDA = re.compile(r"is a Python lambda|identifier: \{'value': \[")
# Names, attributes and the shapes of arrays: what is read before any array is.
_READ_HDF5 = """
import sys
try:
    import h5py
except ImportError:
    sys.exit()
def read(name, item):
    dict(item.attrs)
with h5py.File(sys.argv[1], "r") as file:
    read("", file)
    file.visititems(read)
"""
_PATIENCE = 60  # Seconds. What is read has some kB for each layer.
_IN_PYTHON = "use keras_dfprune.apply and keras_dfprune.export in Python"


def load_model(
    path: str, custom_objects: Iterable[str] = (), compiled: bool = False
) -> keras.Model:
    """Read a model file in Keras' safe mode, which runs no code from the file.

    Args:
        path: A `.keras` or `.h5` file.
        custom_objects: Classes and functions that the file needs, as `"module:name"`.
        compiled: Whether its optimizer, loss and metrics are read, too.

    Raises:
        CommandError: If there is no model that can be read.
    """
    file = pathlib.Path(path)
    _check_file(file)
    objects = import_objects(custom_objects)
    try:
        return keras.saving.load_model(
            path, custom_objects=objects, compile=compiled, safe_mode=True
        )
    except Exception as error:  # Keras, zipfile and h5py raise errors of a dozen types
        raise CommandError(f"can't read a Keras model from {path}: {_why(file, error)}") from error


def import_objects(names: Iterable[str]) -> dict[str, Any]:
    """Import classes and functions, and return them by their own names.

    Args:
        names: Each `"module:name"`. Modules in the current folder can be imported, too.

    Raises:
        CommandError: If one of them can't be imported.
    """
    objects = {}
    for name in names:
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())  # as `python` itself does
        module, _, attribute = name.partition(":")
        if not (module and attribute):
            raise CommandError(
                "--custom-objects takes MODULE:NAME, such as layers:MyLayer for the class MyLayer "
                f"in layers.py. Received: {name}"
            )
        try:
            objects[attribute] = getattr(importlib.import_module(module), attribute)
        except Exception as error:  # whatever the user's module raises
            raise CommandError(f"can't import {name}: {cause(error)}") from error
    return objects


def _check_file(file: pathlib.Path) -> None:
    """Check that a file looks as if it held a model.

    Raises:
        CommandError: If it doesn't.
    """
    suffix = file.suffix.lower()
    if not file.exists():
        raise CommandError(f"no such file: {file}")
    if file.is_dir():
        raise CommandError(_about_folder(file))
    if suffix not in _SUFFIXES:
        raise CommandError(f"not a model file: {file} (expected .keras or .h5)")
    if suffix == ".keras":
        try:
            check_archive(file)
        except ValueError as error:
            raise CommandError(f"can't read a Keras model from {file}: {error}") from error
    if suffix != ".keras" and not h5py.is_hdf5(file):
        raise CommandError(f"can't read a Keras model from {file}: it is not an HDF5 file")
    if suffix != ".keras" and not _survives_reading(file):
        raise CommandError(f"can't read a Keras model from {file}: it is damaged")


def _survives_reading(file: pathlib.Path) -> bool:
    """Return whether a process that reads an HDF5 file ends, and without an error.

    The library has no check sums to go by, and loops for ever on some damaged files.
    """
    command = [sys.executable, "-I", "-c", _READ_HDF5, os.fspath(file)]
    try:
        return subprocess.run(command, capture_output=True, timeout=_PATIENCE).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _about_folder(folder: pathlib.Path) -> str:
    version = _saved_by(folder)
    if version is not None and version.startswith("2."):
        return (
            f"{folder} is a SavedModel of Keras {version}, which Keras 3 can't read. Load it with "
            "tf_keras.models.load_model (pip install tf_keras), save it as .h5 and pass that file"
        )
    return (
        f"{folder} is a folder, and a SavedModel doesn't hold the layers of its model. Pass the "
        ".keras or .h5 file that the model was saved to"
    )


def _why(file: pathlib.Path, error: Exception) -> str:
    """Return why Keras can't load a model, in sentences that say how to go on."""
    reason, version = cause(error).rstrip("."), _saved_by(file)
    missing = _MISSING.search(reason)
    name = None if missing is None else next(filter(None, missing.groups()))
    if "No model config found" in reason:
        return (
            "it holds weights only, without the layers. Build the model in Python, call "
            f"model.load_weights('{file}'), and save the model as .keras, or {_IN_PYTHON}"
        )
    if version is not None and version.startswith("2.") and name in (None, *_OF_KERAS_2):
        return (
            f"it was saved by Keras {version}, and Keras {keras.__version__} can't read it. Build "
            f"the model in Keras 3, call model.load_weights('{file}'), and save the model as "
            f".keras. Keras' message: {reason}"
        )
    if name is not None:
        return (
            f"it needs '{name}', which Keras doesn't have. Add --custom-objects MODULE:{name}, "
            f"with the module that defines it, or {_IN_PYTHON}"
        )
    if _LAMBDA.search(reason):
        return (
            "it holds a Python lambda, and this command runs no code from a file. If you trust "
            f"the file, load it with keras.saving.load_model('{file}', safe_mode=False), and "
            f"{_IN_PYTHON}. Or save the model with a layer or a named function in place of the "
            "lambda, and add --custom-objects MODULE:NAME"
        )
    if version is not None and _numbers(version) > _numbers(keras.__version__):
        reason += (
            f". It was saved by Keras {version}, and this is Keras {keras.__version__}. Install "
            "the newer one"
        )
    return reason


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)[:2]]


def _saved_by(file: pathlib.Path) -> str | None:
    """Return the version of Keras that wrote a file or a SavedModel folder; None if unknown."""
    with contextlib.suppress(Exception):  # the file may be damaged in any way
        if file.is_dir():
            content = (file / "keras_metadata.pb").read_bytes()  # Keras 3 writes no such file
            found = re.search(rb'"keras_version": "([^"]+)"', content)
            return found[1].decode() if found else "2.x"
        if file.suffix.lower() == ".keras":
            with zipfile.ZipFile(file) as archive:
                header: Mapping[str, Any] = json.loads(archive.read("metadata.json"))
            return str(header["keras_version"])
        with h5py.File(file) as content:
            return str(content.attrs["keras_version"])
    return None
