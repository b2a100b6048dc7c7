"""Make small batches on which a model runs: at random, or of the first of given rows.

They serve to compare a model with a copy of it or with its file, not to measure it.
"""

from collections.abc import Sequence

import keras
import numpy as np

from keras_dfprune.graph.compare_outputs import is_number
from keras_dfprune.inputs.model_inputs import (
    InputSpec,
    Samples,
    numpy_dtype,
    read_inputs,
    run_model,
)

BATCH = 2  # More than one row, so that mixing up the rows of a batch shows.
# Lengths tried for axes of unknown length, until the model runs and its outputs are finite: 64
# serves sequences and images that are pooled up to six times.
FREE_LENGTHS = (64, 256, 16, 1)


def draw_samples(model: keras.Model, batch_size: int | None = None) -> Samples:
    """Draw small random inputs (seed 0) on which `model` runs.

    Floats are standard normal, integers and booleans 0 or 1, strings "a" or "b".

    Args:
        model: A built model.
        batch_size: Number of rows. None: the model's own batch size, or two rows.

    Raises:
        ValueError: If the model runs at none of the lengths tried for axes of unknown length.
    """
    specs = read_inputs(model)
    has_free_length = any(length is None for spec in specs for length in spec.shape[1:])
    without_result: list[Samples] = []
    failure: Exception | None = None
    for length in FREE_LENGTHS if has_free_length else FREE_LENGTHS[:1]:
        generator = np.random.default_rng(0)
        samples = {spec.name: _draw_spec(spec, length, generator, batch_size) for spec in specs}
        try:
            outputs = run_model(model, samples)
        except Exception as error:  # whatever a layer raises for a shape that doesn't suit it
            failure = error
            continue
        if all(_has_result(output) for output in outputs.values()):
            return samples
        without_result.append(samples)
    if without_result:
        return without_result[0]
    shapes = {spec.name: spec.shape for spec in specs}
    raise ValueError(
        "The model itself fails on small random inputs, so nothing made from it can be checked. "
        f"Received: inputs={shapes}. If an axis of unknown length is the cause, give the model's "
        f"Input a fixed shape. The model said: {failure}"
    ) from failure


def _has_result(output: np.ndarray) -> bool:
    """Return whether an output is finite and not empty: pooling may leave nothing of an input."""
    finite = not is_number(output) or bool(np.isfinite(output.astype(np.float64)).all())
    return output.size > 0 and finite


def draw_rows(model: keras.Model, rows: int, seed: int) -> Samples:
    """Draw a number of rows as `draw_samples` does, with the lengths on which the model runs.

    Args:
        model: A built model.
        rows: Number of rows, 1 or more.
        seed: Int, 0 or more.

    Raises:
        ValueError: As `draw_samples`.
    """
    generator = np.random.default_rng(seed)
    return {
        name: _draw(array.dtype, (rows, *array.shape[1:]), generator)
        for name, array in draw_samples(model).items()
    }


def _draw_spec(
    spec: InputSpec, free_length: int, generator: np.random.Generator, batch_size: int | None
) -> np.ndarray:
    shape = [free_length if length is None else length for length in spec.shape]
    if shape:
        shape[0] = batch_size or spec.shape[0] or BATCH
    is_text = spec.dtype == "string"
    return _draw(np.dtype("U1" if is_text else numpy_dtype(spec.dtype)), shape, generator)


def _draw(dtype: np.dtype, shape: Sequence[int], generator: np.random.Generator) -> np.ndarray:
    if dtype.kind == "U":
        return generator.choice(np.array(["a", "b"]), shape)
    if dtype.kind in "fV":  # NumPy's kind of bfloat16 is "V"
        return generator.standard_normal(shape).astype(dtype)
    return generator.integers(0, 2, shape).astype(dtype)


def first_rows(model: keras.Model, rows: Samples, batch_size: int | None = None) -> Samples:
    """Return a batch of the first rows, repeated if there are fewer than the batch needs.

    Args:
        model: A built model.
        rows: Rows of each input by name.
        batch_size: Number of rows. None: the model's own batch size, or two rows.
    """
    batch = batch_size or max(spec.shape[0] or BATCH for spec in read_inputs(model))
    return {name: array[np.arange(batch) % len(array)] for name, array in rows.items()}
