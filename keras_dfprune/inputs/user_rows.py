"""Representative data of any accepted kind into rows of each of a model's inputs.

A dict from the name of an input to an array with the batch axis first, as in `samples.py`.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_dfprune.inputs.sample_inputs import InputSpec, Samples, numpy_dtype, read_inputs

# Calibration beyond a few hundred rows moves no range any more (the advice in LiteRT's guide to
# post-training quantization), and a generator may never end.
CALIBRATION_ROWS = 512


def read_representative(model: keras.Model, data: Any, most: int = CALIBRATION_ROWS) -> Samples:
    """Turns representative data of any accepted kind into a limited number of rows of every input.

    Args:
        model: A built Keras model.
        data: An array; a dict of arrays by input name; a list or tuple of arrays, one for each
            input; a `tf.data.Dataset`, a generator or a function without arguments that returns
            one, of batches or single samples, where `(x, y)` tuples lose their `y`.
        most: The largest number of rows.

    Returns:
        The rows by input name: of arrays spread evenly, of iterables the first ones.

    Raises:
        ValueError: If there is no data, or it doesn't fit the model's inputs.
    """
    specs = read_inputs(model)
    if callable(data) and not isinstance(data, tf.data.Dataset):
        data = data()
    if isinstance(data, tf.data.Dataset | Iterator):
        return _from_iterable(specs, data, most)
    if isinstance(data, list | tuple) and not _one_for_each(specs, data):
        data = np.asarray(data)
    rows = _match(specs, data)
    count = len(next(iter(rows.values())))
    if not count or any(len(array) != count for array in rows.values()):
        counts = {name: len(array) for name, array in rows.items()}
        raise ValueError(
            "Expected `representative_data` with the same positive number of rows for every "
            f"input. Received: rows={counts}."
        )
    chosen = np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))
    return {name: array[chosen] for name, array in rows.items()}


def _one_for_each(specs: list[InputSpec], data: list | tuple) -> bool:
    """Whether a list holds one array for each input, and not the rows of a single input."""
    return len(data) == len(specs) and (len(specs) > 1 or np.ndim(data[0]) == len(specs[0].shape))


def _from_iterable(specs: list[InputSpec], data, most: int) -> Samples:
    batches: list[Samples] = []
    count = 0
    for element in data:
        batches.append(_match(specs, _without_labels(specs, element)))
        count += len(next(iter(batches[-1].values())))
        if count >= most:
            break
    if not count:
        raise ValueError("Expected `representative_data` with at least one row. Received: none.")
    return {
        spec.name: np.concatenate([batch[spec.name] for batch in batches])[:most] for spec in specs
    }


def _without_labels(specs: list[InputSpec], element: Any) -> Any:
    if not isinstance(element, tuple):
        return element
    several = len(specs) > 1 and not isinstance(element[0], list | tuple | dict)
    # Two bare tensors for a model of two inputs are the inputs: x alone would not fit it.
    return element if several and len(element) == len(specs) else element[0]


def _match(specs: list[InputSpec], element: Any) -> Samples:
    """One batch or one sample by input name, with the batch axis added where it is missing."""
    if isinstance(element, dict):
        named = {spec.key if spec.key in element else spec.name for spec in specs}
        if not named <= set(element):
            raise ValueError(
                f"`representative_data` lacks the model's input {sorted(named - set(element))}. "
                f"Received: keys={sorted(map(str, element))}."
            )
        arrays = [element.get(spec.key, element.get(spec.name)) for spec in specs]
    else:
        arrays = list(element) if isinstance(element, list | tuple) else [element]
    if len(arrays) != len(specs):
        raise ValueError(
            f"Expected `representative_data` for {len(specs)} input(s), "
            f"{[spec.name for spec in specs]}. Received: {len(arrays)} array(s)."
        )
    return {spec.name: _fit(spec, array) for spec, array in zip(specs, arrays, strict=True)}


def _fit(spec: InputSpec, value: Any) -> np.ndarray:
    array = np.asarray(value).astype(numpy_dtype(spec.dtype))
    if array.ndim == len(spec.shape) - 1:
        array = array[None]
    fits = array.ndim == len(spec.shape) and all(
        wanted in (None, got)
        for wanted, got in itertools.islice(zip(spec.shape, array.shape, strict=True), 1, None)
    )
    if not fits:
        raise ValueError(
            f"`representative_data` doesn't fit input '{spec.name}'. Expected shape "
            f"{spec.shape}. Received: shape={np.shape(value)}."
        )
    return array
