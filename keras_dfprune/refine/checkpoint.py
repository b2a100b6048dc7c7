"""Keep the state of a training run in a file, so that an interrupted run can go on."""

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_dfprune.report.archive import opened_archive
from keras_dfprune.report.staging import written

_FORMAT = 1
# Two computations of the same figure differ by rounding. Figures of other models or rows differ
# by more.
_CLOSE = 1e-3


@dataclasses.dataclass
class Seen:
    """Steps done so far, and the best weights among those checked.

    Attributes:
        step: Number of steps done.
        best: Held-out difference of the best weights.
        best_step: The step that they are from; 0 for the start.
        best_values: The weights.
    """

    step: int
    best: float
    best_step: int
    best_values: Sequence[tf.Tensor]


class Checkpoint:
    """File with the state of a run: one `.npz`, written without pickle.

    It stays when the run is finished. A run with the same settings then ends at once.

    Args:
        path: Path of the file, which needn't exist. Its folder must exist.
        settings: What else decides the result, by name: JSON values.

    Raises:
        ValueError: If the folder doesn't exist.
    """

    def __init__(self, path: str | os.PathLike[str], settings: Mapping[str, Any]):
        self._path = pathlib.Path(path)
        self._settings = json.loads(json.dumps(settings))
        if not self._path.absolute().parent.is_dir():
            raise ValueError(
                "Expected `checkpoint` in a folder that exists. "
                f"Received: checkpoint='{self._path}'. Make the folder first."
            )

    def load(self, figures: Mapping[str, float], state: Sequence[tf.Variable], start: Seen) -> Seen:
        """Go on with the run of the file.

        Args:
            figures: Numbers that tell the models and rows of this run from others, by the words for
                what differs if they do.
            state: All variables that a step changes. They get the values of the file.
            start: The state of a new run.

        Returns:
            What the run of the file has seen; `start` if there is no file.

        Raises:
            ValueError: If the file is no checkpoint, or one of another run.
        """
        if not self._path.exists():
            return start
        try:
            with self._path.open("rb") as opened, opened_archive(opened) as file:
                header = json.loads(str(file["header"]))
                saved_state = [file[f"state_{number}"] for number in range(header["variables"])]
                best = [file[f"best_{number}"] for number in range(header["trained"])]
                known = header["format"] == _FORMAT
        except Exception as error:  # whatever zipfile, numpy and json raise
            raise self._not_a_checkpoint() from error
        if not known:
            raise self._not_a_checkpoint()
        self._check(header, figures)
        pairs = zip(state, saved_state, strict=True)
        for variable, array in pairs:
            variable.assign(tf.cast(array, variable.dtype))
        values = [
            tf.cast(array, old.dtype) for array, old in zip(best, start.best_values, strict=True)
        ]
        return Seen(header["step"], header["best"], header["best_step"], values)

    def save(self, figures: Mapping[str, float], state: Sequence[tf.Variable], seen: Seen) -> None:
        """Write the file anew. The old one stays whole until the new one is."""
        header = {
            "format": _FORMAT,
            "settings": self._settings,
            "figures": dict(figures),
            "variables": len(state),
            "trained": len(seen.best_values),
            "step": seen.step,
            "best": seen.best,
            "best_step": seen.best_step,
        }
        arrays = {"header": np.array(json.dumps(header))}
        arrays |= {f"state_{number}": _array(value) for number, value in enumerate(state)}
        arrays.update((f"best_{n}", _array(value)) for n, value in enumerate(seen.best_values))
        with written(self._path) as staged, staged.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    def _check(self, header: Mapping[str, Any], figures: Mapping[str, float]) -> None:
        """Check that the file belongs to this run."""
        saved = header["settings"]
        differences = [
            f"{name}: {saved.get(name)} in the file, {self._settings.get(name)} now"
            for name in dict.fromkeys((*self._settings, *saved))
            if saved.get(name) != self._settings.get(name)
        ]
        if not differences:
            differences = [
                name
                for name, value in figures.items()
                if not _is_close(header["figures"][name], value)
            ]
        if differences:
            raise ValueError(
                f"The checkpoint '{self._path}' belongs to another run. It differs in "
                f"{'; '.join(differences)}. Give another path, or delete the file to begin anew."
            )

    def _not_a_checkpoint(self) -> ValueError:
        return ValueError(
            f"'{self._path}' is no checkpoint that this version can read, or it is damaged. Give "
            "another path, or delete the file to begin anew."
        )


def _is_close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=_CLOSE) or (math.isnan(one) and math.isnan(other))


def _array(value: tf.Tensor | tf.Variable) -> np.ndarray:
    """Return an array that a file can hold without pickle: NumPy doesn't know bfloat16."""
    array = value.numpy()
    return array.astype(np.float32) if array.dtype.kind == "V" else array
