"""Read the rows that a user gives, of any accepted kind, into one array for each model input."""

from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_dfprune.inputs.model_inputs import InputSpec, Samples, numpy_dtype, read_inputs

# More rows don't change the ranges of a quantized file: LiteRT's guide to post-training
# quantization advises a few hundred. There must be a limit, for a generator may never end.
CALIBRATION_ROWS = 512


def read_rows(
    model: keras.Model, data: Any, argument: str, most: int = CALIBRATION_ROWS
) -> Samples:
    """Read a limited number of rows of every input.

    Args:
        model: A built Keras model.
        data: An array; a dict of arrays by input name; a list or tuple of arrays, one for each
            input; a `tf.data.Dataset`, a generator or a function without arguments that returns
            one, of batches or single samples, where `(x, y)` tuples lose their `y`.
        argument: Name of the user's argument, for the messages.
        most: The largest number of rows.

    Returns:
        The rows by input name: spread evenly over arrays, the first ones of iterables.

    Raises:
        ValueError: If there is no data, it doesn't fit the model's inputs, or it has values that
            are not finite.
    """
    return read_rows_of(read_inputs(model), data, argument, most)


def read_rows_of(specs: list[InputSpec], data: Any, argument: str, most: int) -> Samples:
    """Read rows as `read_rows` does, for the inputs of a model or of a file.

    Args:
        specs: The inputs.
        data: As in `read_rows`, and so are the others.
        argument: As in `read_rows`.
        most: As in `read_rows`.
    """
    reader = _Reader(specs, argument)
    if callable(data) and not isinstance(data, tf.data.Dataset):
        data = data()
    if comes_in_batches(data):
        rows = reader.read_batches(data, most)
    else:
        rows = reader.read_arrays(data, most)
    for name, array in rows.items():
        _check_finite(name, array, argument)
    return rows


def comes_in_batches(data: Any) -> bool:
    """Return whether data come batch by batch, perhaps without end, not as arrays of all rows."""
    return callable(data) or isinstance(data, tf.data.Dataset | Iterator)


def holds_labels(specs: list[InputSpec], element: tuple) -> bool:
    """Return whether a tuple is `(x, y)`, not one array for each input.

    Two bare arrays for a model of two inputs are the inputs: x alone would not fit it.
    """
    several = len(specs) > 1 and not isinstance(element[0], list | tuple | dict)
    return not (several and len(element) == len(specs))


def _check_finite(name: str, array: np.ndarray, argument: str) -> None:
    if array.dtype.kind not in "fV" or array.size == 0:
        return
    finite = np.isfinite(array.astype(np.float32) if array.dtype.kind == "V" else array)
    if np.all(finite):
        return
    first = tuple(map(int, np.argwhere(~finite)[0]))
    place = first[1:]
    value = "NaN" if np.isnan(array[first]) else "an infinity"
    where = f"column {place[0]}" if len(place) == 1 else f"position {place}"
    raise ValueError(
        f"`{argument}` has {value} in {where} of input '{name}'. Leave such rows out, or fill the "
        f"gaps as for training. Received: {int(np.sum(~finite)):,} of {array.size:,} values that "
        "are not finite"
    )


class _Reader:
    """Reader of rows for given inputs.

    Args:
        specs: The model's inputs.
        argument: Name of the user's argument, for the messages.
    """

    def __init__(self, specs: list[InputSpec], argument: str):
        self._specs = specs
        self._argument = argument

    def read_arrays(self, data: Any, most: int) -> Samples:
        """Return at most `most` rows, spread evenly over arrays that hold all rows."""
        if isinstance(data, list | tuple) and not self._is_array_of_each_input(data):
            data = np.asarray(data)
        rows = self._match(data)
        counts = {name: len(array) for name, array in rows.items()}
        count = next(iter(counts.values()))
        if count == 0 or any(other != count for other in counts.values()):
            raise ValueError(
                f"Expected `{self._argument}` with the same positive number of rows for every "
                f"input. Received: rows={counts}."
            )
        chosen = np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))
        return {name: array[chosen] for name, array in rows.items()}

    def read_batches(self, data: Iterable, most: int) -> Samples:
        """Return the first `most` rows of batches or single samples."""
        batches: list[Samples] = []
        count = 0
        for element in data:
            batches.append(self._match(self._without_labels(element)))
            count += len(next(iter(batches[-1].values())))
            if count >= most:
                break
        if not count:
            raise ValueError(f"Expected `{self._argument}` with at least one row. Received: none.")
        names = [spec.name for spec in self._specs]
        return {name: np.concatenate([batch[name] for batch in batches])[:most] for name in names}

    def _is_array_of_each_input(self, data: list | tuple) -> bool:
        """Return whether a list holds an array of each input, not the rows of a single input."""
        specs = self._specs
        if len(data) != len(specs):
            return False
        return len(specs) > 1 or np.ndim(data[0]) == len(specs[0].shape)

    def _without_labels(self, element: Any) -> Any:
        if not isinstance(element, tuple):
            return element
        return element[0] if holds_labels(self._specs, element) else element

    def _match(self, element: Any) -> Samples:
        """Return one batch or one sample by input name, always with a batch axis."""
        arrays = self._by_input(element)
        if len(arrays) != len(self._specs):
            raise ValueError(
                f"Expected `{self._argument}` for {len(self._specs)} input(s), "
                f"{[spec.name for spec in self._specs]}. Received: {len(arrays)} array(s)."
            )
        pairs = zip(self._specs, arrays, strict=True)
        return {spec.name: self._fit(spec, array) for spec, array in pairs}

    def _by_input(self, element: Any) -> list:
        """Return the arrays of a dict in the order of the inputs, or those of a list."""
        if not isinstance(element, dict):
            return list(element) if isinstance(element, list | tuple) else [element]
        keys = [spec.key if spec.key in element else spec.name for spec in self._specs]
        missing = sorted(set(keys) - set(element))
        if missing:
            raise ValueError(
                f"`{self._argument}` lacks the model's input {missing}. "
                f"Received: keys={sorted(map(str, element))}."
            )
        return [element[key] for key in keys]

    def _cast(self, spec: InputSpec, array: np.ndarray) -> np.ndarray:
        """Return an array in the input's dtype: numbers for numbers, strings for strings."""
        if spec.dtype != "string" and array.dtype.kind in "OSU":
            try:
                return array.astype(numpy_dtype(spec.dtype))
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"`{self._argument}` must hold numbers for input '{spec.name}', which takes "
                    f"{spec.dtype}. Received: dtype={array.dtype}, {str(error)}"
                ) from error
        return array.astype(numpy_dtype(spec.dtype))

    def _fit(self, spec: InputSpec, value: Any) -> np.ndarray:
        """Return an array of the input's dtype; a single sample gets a batch axis."""
        array = self._cast(spec, np.asarray(value))
        if array.ndim == len(spec.shape) - 1:
            array = array[None]
        if array.ndim != len(spec.shape) or any(
            expected not in (None, length)
            for expected, length in zip(spec.shape[1:], array.shape[1:], strict=True)
        ):
            raise ValueError(
                f"`{self._argument}` doesn't fit input '{spec.name}'. Expected shape "
                f"{spec.shape}. Received: shape={np.shape(value)}."
            )
        return array
