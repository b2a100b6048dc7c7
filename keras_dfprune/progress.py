"""A progress bar for work that takes a while, and silence otherwise."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import keras

_Item = TypeVar("_Item")

_PATIENCE = 1.0  # seconds of work after which a bar is worth its line


class Progress:
    """Shows how many layers a stage of the work has done.

    Args:
        verbose: 0 for silence.
    """

    def __init__(self, verbose: int = 0):
        self.verbose = verbose

    def over(self, stage: str, items: Iterable[_Item]) -> Iterator[_Item]:
        """Yields `items`; once a second has passed, a bar shows how many are done.

        Args:
            stage: What is being done, shown behind the bar.
            items: One for each layer.
        """
        items = list(items)
        start, bar = time.monotonic(), None
        for done, item in enumerate(items, start=1):
            yield item
            if self.verbose and bar is None and time.monotonic() - start > _PATIENCE:
                bar = keras.utils.Progbar(len(items), unit_name=f"layer, {stage.lower()}")
            if bar is not None:
                bar.update(done)


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
