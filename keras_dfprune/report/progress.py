"""A progress bar for work that takes a while, and silence otherwise."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import keras

_Item = TypeVar("_Item")

_PATIENCE = 1.0  # seconds of work after which a bar is worth its line


class Progress:
    """Shows how far a stage of the work is: so many layers, or so many steps within one.

    Args:
        verbose: 0 for silence.
    """

    def __init__(self, verbose: int = 0):
        self.verbose = verbose
        self._unfinished = False  # the last line shown is that of a bar which goes on

    def over(self, stage: str, items: Iterable[_Item], unit: str = "layer") -> Iterator[_Item]:
        """Yields `items`; once a second has passed, a bar shows how many are done.

        Stages may be nested: a long step of one then shows its own bar.

        Args:
            stage: What is being done, shown behind the bar.
            items: The steps.
            unit: What a step is.
        """
        items = list(items)
        start, bar = time.monotonic(), None
        for done, item in enumerate(items, start=1):
            yield item
            if self.verbose and bar is None and time.monotonic() - start > _PATIENCE:
                if self._unfinished:
                    sys.stdout.write("\n")
                bar = keras.utils.Progbar(len(items), unit_name=f"{unit}, {stage.lower()}")
            if bar is not None:
                bar.update(done)
                self._unfinished = done < len(items)


SILENT = Progress()


class Steps:
    """A bar over the steps of an optimisation, after a second of silence.

    Args:
        stage: What is being done.
        steps: How many steps there are.
        verbose: 0 for silence.
    """

    def __init__(self, stage: str, steps: int, verbose: int = 0):
        self._stage = stage
        self._steps = steps
        self._verbose = verbose
        self._start = time.monotonic()
        self._bar: keras.utils.Progbar | None = None

    def __call__(self, step: int, objective: float) -> None:
        """Shows the step that is done and the objective reached."""
        if self._verbose and time.monotonic() - self._start > _PATIENCE:
            if self._bar is None:
                self._bar = keras.utils.Progbar(self._steps, unit_name=self._stage.lower())
            self._bar.update(step, values=[("difference", objective)])
