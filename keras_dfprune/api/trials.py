"""Make narrow models of a network at many sizes, and score each."""

import dataclasses
import json
import time
from collections.abc import Callable, Mapping

import keras

from keras_dfprune.api.evaluation import Evaluation
from keras_dfprune.api.narrow_model import narrow_model
from keras_dfprune.api.trial_file import TrialFile
from keras_dfprune.locate.locate import LocatedModel
from keras_dfprune.planning.planner import Planned, Planner
from keras_dfprune.planning.request import Request
from keras_dfprune.report.progress import Progress


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
