"""Print trials as a table: sizes, scores and seconds."""

from collections.abc import Sequence
from typing import Protocol

from keras_dfprune.report.table import align


class ReadableTrial(Protocol):
    """Trial; see `Trial` for the attributes."""

    @property
    def parameters(self) -> int: ...
    @property
    def multiply_adds(self) -> int | None: ...
    @property
    def size(self) -> float: ...
    @property
    def score(self) -> float: ...
    @property
    def within(self) -> bool: ...
    @property
    def seconds(self) -> float: ...
    @property
    def method(self) -> str: ...


class ReadableTrials(Protocol):
    """Result of a search; see `SearchResult` for the attributes."""

    @property
    def score(self) -> float: ...
    @property
    def baseline(self) -> float: ...
    @property
    def limit(self) -> float: ...
    @property
    def measure(self) -> str: ...
    @property
    def objective(self) -> str: ...
    @property
    def size(self) -> float: ...
    @property
    def trials(self) -> Sequence[ReadableTrial]: ...


def trials_table(result: ReadableTrials) -> str:
    """Return the text of `print(result)` for a search.

    Args:
        result: A `SearchResult`.
    """
    heading = (
        f"Search for the fewest {result.objective}: {result.measure} {result.baseline:.5g} -> "
        f"{result.score:.5g} (limit {result.limit:.5g})"
    )
    return "\n".join([heading, "", *align(trial_rows(result))])


def trial_rows(result: ReadableTrials) -> list[tuple[str, ...]]:
    """Return the heading and the rows of the table of trials.

    Args:
        result: A `SearchResult`.
    """
    rows: list[tuple[str, ...]] = [
        ("Trial", "Of the size", "Parameters", "Multiply-adds", result.measure, "", "Seconds")
    ]
    chosen = chosen_trial(result)
    for number, trial in enumerate(result.trials, 1):
        mark = "chosen" if trial is chosen else "" if trial.within else "beyond"
        adds = "-" if trial.multiply_adds is None else f"{trial.multiply_adds:,}"
        rows.append(
            (
                str(number),
                f"{100 * trial.size / result.size:.1f} %",
                f"{trial.parameters:,}",
                adds,
                f"{trial.score:.5g}",
                mark,
                f"{trial.seconds:.1f}",
            )
        )
    return rows


def chosen_trial(result: ReadableTrials) -> ReadableTrial | None:
    """Return the smallest trial within the limit, the first of several; None without any."""
    within = [trial for trial in result.trials if trial.within]
    return min(within, key=lambda trial: trial.size, default=None)
