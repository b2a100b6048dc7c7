"""Hold rows of a model's inputs, split into those to fit to and those to measure on."""

import dataclasses
import math
from typing import Any

import keras
import numpy as np

from keras_dfprune.inputs.model_inputs import Samples, adapt_samples
from keras_dfprune.inputs.sample_inputs import draw_rows
from keras_dfprune.inputs.user_rows import read_rows

# Rows of `data` that are read. Moments, recovery and measurement gain little from more.
MOST_ROWS = 8192
# Share of the rows that is held out, and the most rows that a measurement needs.
_HELD_OUT = 0.25
_MOST_HELD_OUT = 512
# Rows that are drawn where none are given.
_DRAWN_ROWS = 2048
# A variance needs two rows, and one of them is held out where there are few.
_FEWEST = 2


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """Rows of every input of a model.

    Attributes:
        fit: Rows on which units are measured and the narrow model is trained.
        held_out: Other rows, on which the result is measured.
        source: Where they come from, as the report says it.
        synthetic: Whether they were made for the model, not measured.
    """

    fit: Samples
    held_out: Samples
    source: str
    synthetic: bool = False

    @property
    def count(self) -> int:
        """Number of rows to fit to."""
        return len(next(iter(self.fit.values())))

    def adapted(self, model: keras.Model) -> "Rows":
        """Return the same rows under the names that a copy of the model gives its inputs."""
        fit, held_out = adapt_samples(self.fit, model), adapt_samples(self.held_out, model)
        return dataclasses.replace(self, fit=fit, held_out=held_out)


def rows_of_data(model: keras.Model, data: Any, seed: int = 0) -> Rows:
    """Read the argument `data`.

    Args:
        model: A built Keras model.
        data: As in `read_data`.
        seed: For the choice of the rows that are held out.

    Raises:
        ValueError: As `read_data`.
    """
    samples = read_data(model, data)
    count = len(next(iter(samples.values())))
    return split_rows(samples, f"{count:,} rows of `data`", seed)


def read_data(model: keras.Model, data: Any) -> Samples:
    """Read the argument `data` into arrays. These can be read again, which a generator can't.

    Args:
        model: A built Keras model.
        data: Unlabelled rows, as `read_rows` takes them.

    Raises:
        ValueError: If it doesn't fit the model, has values that are not finite, or has fewer than
            two rows.
    """
    samples = read_rows(model, data, "data", MOST_ROWS)
    count = len(next(iter(samples.values())))
    if count < _FEWEST:
        raise ValueError(
            f"`data` must have at least {_FEWEST} rows; a few dozen help, a few hundred are "
            f"plenty. Received: {count} row"
        )
    return samples


def drawn_rows(model: keras.Model, seed: int = 0) -> Rows:
    """Draw rows, standard normal for floats, where nothing better is known."""
    return split_rows(draw_rows(model, _DRAWN_ROWS, seed), "draws", seed, synthetic=True)


def split_rows(samples: Samples, source: str, seed: int = 0, *, synthetic: bool = False) -> Rows:
    """Hold some rows out, chosen at random.

    Args:
        samples: At least two rows of every input.
        source: Where they come from.
        seed: For the choice.
        synthetic: Whether they were made for the model.
    """
    count = len(next(iter(samples.values())))
    held_out = min(_MOST_HELD_OUT, max(1, math.floor(_HELD_OUT * count)))
    order = np.random.default_rng(seed).permutation(count)
    fit, rest = np.sort(order[held_out:]), np.sort(order[:held_out])
    return Rows(
        fit={name: array[fit] for name, array in samples.items()},
        held_out={name: array[rest] for name, array in samples.items()},
        source=source,
        synthetic=synthetic,
    )
