"""Show progress bars for work that takes longer than a second."""

import dataclasses
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import keras

_Item = TypeVar("_Item")

_PATIENCE = 1.0  # Seconds of work before a bar appears.


@dataclasses.dataclass
class _TerminalLine:
    """Last line on the terminal.

    Attributes:
        unfinished: Whether it is a bar that is still drawn.
    """

    unfinished: bool = False


class Progress:
    """Progress bars on standard output, or silence.

    Bars may be nested: a long step of one bar shows its own bar on a new line.

    Args:
        verbose: 0 for silence.
    """

    def __init__(self, verbose: int = 0):
        self.verbose = verbose
        self._line = _TerminalLine()

    def over(self, stage: str, items: Iterable[_Item], unit: str = "layer") -> Iterator[_Item]:
        """Yield `items` and show how many are done.

        Args:
            stage: Name of the work, shown behind the bar.
            items: The items, one for each step of the work.
            unit: Name of one item.
        """
        items = list(items)
        bar = self.bar(stage, len(items), unit)
        for done, item in enumerate(items, start=1):
            yield item
            bar.update(done)

    def bar(self, stage: str, total: int, unit: str) -> "Bar":
        """Return a bar for work that has a result to show beside it; `over` needs none.

        Args:
            stage: Name of the work, shown behind the bar.
            total: Number of steps.
            unit: Name of one step.
        """
        return Bar(f"{unit}, {stage.lower()}", total, self._line, silent=not self.verbose)


class Bar:
    """Progress bar of one stage; `Progress` makes it."""

    def __init__(self, label: str, total: int, line: _TerminalLine, *, silent: bool):
        self._label = label
        self._total = total
        self._line = line
        self._silent = silent
        self._start = time.monotonic()
        self._bar: keras.utils.Progbar | None = None

    def update(self, done: int, difference: float | None = None) -> None:
        """Show the number of steps done, unless the work has taken less than a second.

        Args:
            done: Number of steps done.
            difference: Difference between two models that the work has reached, or None.
        """
        if self._silent or time.monotonic() - self._start <= _PATIENCE:
            return
        if self._bar is None:
            if self._line.unfinished:
                sys.stdout.write("\n")
            self._bar = keras.utils.Progbar(
                self._total, unit_name=self._label, stateful_metrics=["difference"]
            )
        values = [] if difference is None else [("difference", difference)]
        self._bar.update(done, values=values)
        self._line.unfinished = done < self._total


SILENT = Progress()
