"""Hold what a search found: the model, its plan and all trials."""

import dataclasses
import os

import keras

from keras_dfprune.api.apply_plan import images_for
from keras_dfprune.api.profile import Profile
from keras_dfprune.api.pruning_plan import PruningPlan
from keras_dfprune.api.trials import Trial
from keras_dfprune.report.html_report import write_report
from keras_dfprune.report.trials_plot import plot_trials
from keras_dfprune.report.trials_table import trials_table


@dataclasses.dataclass(frozen=True, eq=False)
class SearchResult:
    """Smallest model that `search` found, and everything that it tried.

    Attributes:
        model: The narrow model; verified, and compiled as the original was.
        plan: Its `PruningPlan`.
        score: Its score by the user's measure.
        baseline: Score of the original.
        limit: Worst score that was allowed.
        measure: Name of the measure.
        objective: What was made small: `"parameters"`, `"multiply-adds"`, `"bytes"` or `"size"`.
        size: What the original's size is, in that unit of measure.
        trials: A `Trial` for each model that was scored, in order.
        interrupted: Whether Ctrl-C ended the search.
    """

    model: keras.Model
    plan: PruningPlan
    score: float
    baseline: float
    limit: float
    measure: str
    objective: str
    size: float
    trials: tuple[Trial, ...]
    interrupted: bool = False

    def __str__(self) -> str:
        return trials_table(self)

    def __repr__(self) -> str:
        before, after = self.plan.parameters
        return (
            f"<SearchResult: {before:,} -> {after:,} parameters, {self.measure} "
            f"{self.baseline:.5g} -> {self.score:.5g}, {len(self.trials)} trials>"
        )

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw the score against the size of every trial, the chosen one marked.

        Args:
            path: The picture. The ending decides the format.

        Raises:
            ImportError: If matplotlib is not installed.
        """
        plot_trials(self, path)

    def report(
        self,
        path: str | os.PathLike[str],
        *,
        model: keras.Model | None = None,
        profiles: tuple[Profile, Profile] | None = None,
    ) -> None:
        """Write the chosen plan and all trials as one HTML file, as `PruningPlan.report` does.

        Args:
            path: The file.
            model: The original, as in `PruningPlan.report`.
            profiles: As in `PruningPlan.report`.

        Raises:
            ImportError: If the packages of the extra `report` are not installed.
        """
        images = images_for(self.plan, model)
        write_report(self.plan, path, search=self, profiles=profiles, images=images)
