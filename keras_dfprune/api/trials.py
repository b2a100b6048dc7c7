"""Make narrow models of a network at many sizes, score each, and remember what was tried."""

import dataclasses
import hashlib
import json
import os
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import keras

from keras_dfprune.api.evaluation import Evaluation
from keras_dfprune.api.narrow_model import narrow_model
from keras_dfprune.graph.fingerprint import layer_digests
from keras_dfprune.locate.locate import LocatedModel
from keras_dfprune.planning.planner import Planned, Planner
from keras_dfprune.planning.request import Request
from keras_dfprune.report.progress import Progress

_FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Trial:
    """Narrow model that was scored.

    Attributes:
        kept: Number of units that each group keeps, by the path of its first producer.
        parameters: Parameters of the narrow model.
        multiply_adds: Multiply-adds of one row; None where a length is unknown.
        size: What the search makes small, in its own unit of measure.
        score: Score by the user's measure.
        within: Whether the score is within the limit.
        seconds: Seconds for making and scoring the model.
        method: Name of the method.
    """

    kept: dict[str, int]
    parameters: int
    multiply_adds: int | None
    size: float
    score: float
    within: bool
    seconds: float
    method: str = "moments"


class TrialFile:
    """File that remembers trials, so that an interrupted search goes on where it was.

    Args:
        path: The file, which needn't exist; None to remember nothing.
        settings: What decides the trials, by name: JSON values.

    Raises:
        ValueError: If the folder doesn't exist, or the file is one of another search. The message
            says what differs.
    """

    def __init__(self, path: str | os.PathLike[str] | None, settings: Mapping[str, Any]):
        self._path = None if path is None else pathlib.Path(path)
        self._settings = json.loads(json.dumps(settings))
        self._known: dict[str, dict[str, Any]] = {}
        if self._path is None:
            return
        if not self._path.absolute().parent.is_dir():
            raise ValueError(
                f"Expected `checkpoint` in a folder that exists. Received: '{self._path}'. Make "
                "the folder first."
            )
        if self._path.exists():
            self._known = self._read(self._path)

    def _read(self, path: pathlib.Path) -> dict[str, dict[str, Any]]:
        try:
            content = json.loads(path.read_text())
            found, known = content["settings"], content["trials"]
            if content["format"] != _FORMAT:
                raise ValueError(f"it has format {content['format']} and not {_FORMAT}")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"'{path}' is no checkpoint of a search: {error}") from error
        names = {*found, *self._settings}
        other = sorted(name for name in names if found.get(name) != self._settings.get(name))
        if other:
            differences = "; ".join(
                f"{name} is {found.get(name)!r} there and {self._settings.get(name)!r} here"
                if name != "model"
                else "the model's weights are others"
                for name in other
            )
            raise ValueError(
                f"The checkpoint '{path}' is of another search: {differences}. Delete the "
                "file to begin anew, or name another one."
            )
        return known

    def get(self, key: str) -> dict[str, Any] | None:
        """Return what was remembered under a key, or None."""
        return self._known.get(key)

    def put(self, key: str, entry: Mapping[str, Any]) -> None:
        """Remember an entry. The file is replaced in one step."""
        self._known[key] = dict(entry)
        if self._path is None:
            return
        content = {"format": _FORMAT, "settings": self._settings, "trials": self._known}
        staged = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            staged.write_text(json.dumps(content))
            os.replace(staged, self._path)
        finally:
            staged.unlink(missing_ok=True)


class Trials:
    """Narrow models of one network by one method, scored.

    Args:
        located: The network with its groups.
        request: The arguments of `apply`.
        evaluation: The user's measure; None if only models are made.
        limit: Worst score that is within the limit.
        size: Function from a narrow model and its multiply-adds (or None) to what is to be small.
        file: Remembers the trials.
        progress: Shows how many layers are done.

    Attributes:
        planner: Plans and cuts.
        done: All trials, in the order in which they were made.
    """

    def __init__(
        self,
        located: LocatedModel,
        request: Request,
        evaluation: Evaluation | None,
        limit: float,
        size: Callable[[keras.Model, int | None], float],
        file: TrialFile,
        progress: Progress,
    ):
        self._located, self._request, self._evaluation = located, request, evaluation
        self._limit, self._size, self._file, self._progress = limit, size, file, progress
        self.planner = Planner(located, request, progress)
        self.curves = self.planner.cutter.curves(self.planner.chosen.sparsity)
        self.done: list[Trial] = []

    def run(self, counts: Mapping[str, int]) -> Trial:
        """Score the narrow model that has lost these numbers of units, unless it is known.

        Args:
            counts: Number of units to remove, by group.
        """
        method = self._request.method.name
        key = json.dumps([method, sorted(counts.items())])
        known = self._file.get(key)
        if known is not None and self._evaluation is not None:
            entry = {**known, "within": self._evaluation.is_as_good(known["score"], self._limit)}
            trial = Trial(**entry)
        else:
            trial = self._make(counts)
            self._file.put(key, dataclasses.asdict(trial))
        self.done.append(trial)
        return trial

    def _make(self, counts: Mapping[str, int]) -> Trial:
        if self._evaluation is None:
            raise ValueError("There is no measure to score models by.")
        start = time.perf_counter()
        planned, model = self.model(counts, verify=False)
        plan, adds = planned.plan, planned.plan.multiply_adds
        score = self._evaluation.score(model)
        return Trial(
            kept={group.layer: len(group.kept) for group in plan.groups},
            parameters=model.count_params(),
            multiply_adds=None if adds is None else adds[1],
            size=float(self._size(model, adds and adds[1])),
            score=score,
            within=self._evaluation.is_as_good(score, self._limit),
            seconds=time.perf_counter() - start,
            method=self._request.method.name,
        )

    def model(self, counts: Mapping[str, int], verify: bool) -> tuple[Planned, keras.Model]:
        """Make the narrow model that has lost these numbers of units.

        Args:
            counts: Number of units to remove, by group.
            verify: Whether to compare it with the wide twin.
        """
        planned = self.planner.planned(self.planner.cutter.cut_by_curves(self.curves, counts))
        made = narrow_model(
            self._located,
            planned.plan,
            planned.rebuilt,
            planned.rows,
            verify=verify,
            progress=self._progress,
        )
        return planned, made.model


def settings_of(located: LocatedModel, request: Request, **further: Any) -> dict[str, Any]:
    """Return what decides the trials of a search, for its checkpoint."""
    digests = layer_digests(located.graph)
    model = hashlib.sha256(json.dumps(digests, default=str, sort_keys=True).encode()).hexdigest()
    return {
        "model": model,
        "method": {"name": request.method.name, **request.method.get_config()},
        "seed": request.seed,
        "refine_steps": request.refine_steps,
        "layers": None if request.layers is None else list(map(str, request.layers)),
        "exclude": list(map(str, request.exclude or ())),
        "trainable_only": request.trainable_only,
        "multiple_of": str(request.multiple_of),
        "data": request.has_data,
        **further,
    }
