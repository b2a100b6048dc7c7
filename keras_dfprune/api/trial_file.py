"""Remember what was tried in a file, and notice where another run would use it."""

import hashlib
import json
import os
import pathlib
import types
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from keras_dfprune.graph.fingerprint import layer_digests
from keras_dfprune.locate.locate import LocatedModel
from keras_dfprune.planning.request import Request
from keras_dfprune.report.sealed_json import read_sealed, write_sealed

_FORMAT = 3
# What differs is named in these words, where its value says nothing to a reader.
_DIFFERENCES = {
    "model": "the model's weights are others",
    "data": "`data` has other rows",
    "evaluate": "`evaluate` has other rows",
}


class TrialFile:
    """File that remembers trials, so that an interrupted search goes on where it was.

    Args:
        path: The file, which needn't exist; None to remember nothing.

    Raises:
        ValueError: If the folder doesn't exist, or the file can't be read.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None):
        self._path = None if path is None else pathlib.Path(path)
        self._settings: dict[str, Any] | None = None
        self._known: dict[str, dict[str, Any]] = {}
        if self._path is None:
            return
        if not self._path.absolute().parent.is_dir():
            raise ValueError(
                f"Expected `checkpoint` in a folder that exists. Received: '{self._path}'. Make "
                "the folder first."
            )
        if self._path.exists():
            self._read(self._path)

    def _read(self, path: pathlib.Path) -> None:
        try:
            content = read_sealed(path)
            if content["format"] != _FORMAT:
                raise ValueError(f"it has format {content['format']} and not {_FORMAT}")
            self._settings, self._known = dict(content["settings"]), dict(content["trials"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"'{path}' is no checkpoint of a search: {error}") from error

    def use_for(self, settings: Mapping[str, Any]) -> None:
        """Check that the file is of this search, and go on with it.

        Args:
            settings: What decides the trials, by name: JSON values.

        Raises:
            ValueError: If the file is of another search. The message says what differs.
        """
        now: dict[str, Any] = json.loads(json.dumps(settings))
        if self._settings is not None:
            check_same(self._settings, now, f"The checkpoint '{self._path}'", "search")
        self._settings = now

    def get(self, key: str) -> dict[str, Any] | None:
        """Return what was remembered under a key, or None."""
        return self._known.get(key)

    def put(self, key: str, entry: Mapping[str, Any]) -> None:
        """Remember an entry. The file is replaced in one step."""
        self._known[key] = dict(entry)
        if self._path is None:
            return
        content = {"format": _FORMAT, "settings": self._settings, "trials": self._known}
        write_sealed(self._path, content)


def check_same(
    found: Mapping[str, Any], settings: Mapping[str, Any], checkpoint: str, work: str
) -> None:
    """Check that a checkpoint was written with the same settings.

    Args:
        found: The settings in the checkpoint.
        settings: The settings now.
        checkpoint: The checkpoint, for the message.
        work: Noun for what is gone on with.

    Raises:
        ValueError: If any setting differs.
    """
    other = [name for name in {**settings, **found} if found.get(name) != settings.get(name)]
    if not other:
        return
    differences = "; ".join(
        _DIFFERENCES.get(name)
        or f"{name} is {found.get(name)!r} there and {settings.get(name)!r} here"
        for name in sorted(other)
    )
    raise ValueError(
        f"{checkpoint} is of another {work}: {differences}. Delete it to begin anew, or name "
        "another one."
    )


def settings_of(located: LocatedModel, request: Request, **further: Any) -> dict[str, Any]:
    """Return what decides the results of a request, for a checkpoint.

    Args:
        located: The model.
        request: The arguments of `apply`; its data are read.
        **further: Other settings: JSON values.
    """
    digests = layer_digests(located.graph)
    model = hashlib.sha256(json.dumps(digests, default=str, sort_keys=True).encode()).hexdigest()
    return {
        "model": model,
        "method": {"name": request.method.name, **request.method.get_config()},
        "seed": request.seed,
        "refine_steps": request.refine_steps,
        "layers": None if request.layers is None else list(map(_name, request.layers)),
        "exclude": list(map(_name, request.exclude or ())),
        "trainable_only": request.trainable_only,
        "multiple_of": str(request.multiple_of),
        "data": None if request.data is None else digest(request.data),
        **further,
    }


def _name(layer: Any) -> str:
    return layer if isinstance(layer, str) else str(getattr(layer, "path", None) or layer.name)


def digest(value: Any) -> str:
    """Digest arrays, functions and what is made of them, to tell whether they are the same.

    Args:
        value: Anything. Of a function its code counts, and the arrays that it captured. Of objects
            other than arrays, numbers, text, functions and their collections only the type counts.
    """
    hashed = hashlib.sha256()
    _add(hashed.update, value)
    return hashed.hexdigest()


def _add(update: Any, value: Any) -> None:
    if isinstance(value, Mapping):
        value = sorted(value.items(), key=lambda item: str(item[0]))
    if isinstance(value, types.FunctionType):
        captured = (cell.cell_contents for cell in value.__closure__ or ())
        arrays = [item for item in captured if isinstance(item, np.ndarray | tf.Tensor)]
        value = value.__code__, arrays
    if isinstance(value, types.CodeType):
        value = value.co_code, value.co_consts, value.co_names
    if isinstance(value, tuple | list):
        update(f"{len(value)} of".encode())
        for item in value:
            _add(update, item)
    elif isinstance(value, np.ndarray | np.generic | tf.Tensor):
        array = np.asarray(value)
        update(f"{array.shape} {array.dtype}".encode())
        update(repr(array.tolist()).encode() if array.dtype == object else array.tobytes())
    elif isinstance(value, bytes | str | int | float | complex | None):
        update(repr(value).encode())
    else:
        update(type(value).__name__.encode())
