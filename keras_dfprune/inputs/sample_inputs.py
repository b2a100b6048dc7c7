"""Make small batches on which a model runs: at random, or of the first of given rows.

They serve to compare a model with a copy of it or with its file, not to measure it.
"""

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_dfprune.graph.before_activation import with_fronts
from keras_dfprune.graph.compare_outputs import compare_output, is_float, is_number
from keras_dfprune.graph.keras_private import functional_core
from keras_dfprune.inputs.model_inputs import (
    InputSpec,
    Samples,
    model_runner,
    numpy_dtype,
    read_inputs,
    structure_of,
)

GivenRows = Mapping[str, Any] | Sequence[Any]  # arrays by input name, or in order
BATCH = 2  # More than one row, so that mixing up the rows of a batch shows.
# Lengths tried for axes of unknown length, until the model runs and its outputs are finite: 64
# serves sequences and images that are pooled up to six times.
FREE_LENGTHS = (64, 256, 16, 1)
# Lengths tried if the shapes of the layers rule out all of those: a model that crops 10,000
# samples of sound at each end, say.
_LONG = tuple(4**power for power in range(5, 10))
_MOST_LONG = 2  # so many of the long ones
_MOST_VALUES = 2**24  # of one input
# Scales of the inputs tried until no last activation is saturated, and what counts as saturated:
# an output that changes 100 times less than what stands in front of it, or that is all but 0.
_SCALES = (1.0, 0.1, 0.01, 1e-3)
_LEAST_RESPONSE, _SMALLEST = 1e-2, 1e-30


def draw_samples(
    model: keras.Model, rows: GivenRows | None = None, batch_size: int | None = None
) -> Samples:
    """Draw small random inputs (seed 0) on which `model` runs.

    Floats are standard normal, integers and booleans 0 or 1, strings "a" or "b".

    Args:
        model: A built Keras model.
        rows: Arrays to take the first rows of instead, by the name of the input or in the order
            of the inputs.
        batch_size: Number of rows. None: the model's own batch size, or two rows.

    Raises:
        ValueError: If the model fails on the rows, or at all lengths tried for axes of unknown
            length.
    """
    return draw_and_run(model, rows, batch_size)[0]


def draw_and_run(
    model: keras.Model, rows: GivenRows | None = None, batch_size: int | None = None
) -> tuple[Samples, dict[str, np.ndarray]]:
    """Draw inputs as `draw_samples` does, and return them with the model's outputs."""
    specs = read_inputs(model)
    run = model_runner(model)
    without_result: list[tuple[Samples, dict[str, np.ndarray]]] = []
    failure: Exception | None = None
    candidates = _candidates(model, specs, batch_size)
    for samples in candidates if rows is None else [first_rows(model, rows, batch_size)]:
        try:
            outputs = run(samples)
        except Exception as error:  # whatever a layer raises for a shape that doesn't suit it
            failure = error
            continue
        if all(_has_result(output) for output in outputs.values()):
            return samples, outputs
        without_result.append((samples, outputs))
    if without_result:
        return without_result[0]
    shapes = {spec.name: spec.shape for spec in specs}
    drawn = "small random inputs" if rows is None else "the rows given"
    raise ValueError(
        f"The model itself fails on {drawn}, so nothing made from it can be checked. "
        f"Received: inputs={shapes}. If an axis of unknown length is the cause, give the model's "
        f"Input a fixed shape. The model said: {_reason(failure)}"
    ) from failure


def _reason(failure: Exception | None) -> str:
    """Return an error of a layer in one line, without Keras's bold type and list of arguments."""
    text = re.sub(r"\x1b\[\d+m", "", str(failure)).split("Arguments received by")[0]
    return " ".join(text.split())


def draw_unsaturated(model: keras.Model, batch_size: int | None = None) -> Samples:
    """Draw inputs as `draw_samples` does, smaller ones if a last activation is saturated on them.

    A saturated softmax or sigmoid hides what is computed in front of it, and of a file only the
    outputs can be seen. If all inputs tried saturate it, those of `draw_samples` are returned.
    """
    samples = draw_samples(model, batch_size=batch_size)
    if functional_core(model) is None:
        return samples
    run = model_runner(with_fronts(model))
    for scale in _SCALES:
        scaled = _scaled(samples, scale)
        if not _is_saturated(run(scaled), run(_scaled(scaled, 0.5))):
            return scaled
    return samples


def _scaled(samples: Samples, scale: float) -> Samples:
    return {
        name: (array * scale).astype(array.dtype) if is_float(array) else array
        for name, array in samples.items()
    }


def _is_saturated(values: dict[str, np.ndarray], others: dict[str, np.ndarray]) -> bool:
    """Return whether an output hardly changes where what stands in front of its activation does.

    Args:
        values: The outputs of a model that `with_fronts` made, and what stands in front of them.
        others: The same on other inputs.
    """
    changes = [
        compare_output(array, other, strict_nonfinite=False)
        for array, other in zip(values.values(), others.values(), strict=True)
    ]
    half = len(changes) // 2
    return any(
        output.scale < _SMALLEST or output.relative < _LEAST_RESPONSE * front.relative
        for output, front in zip(changes[:half], changes[half:], strict=True)
        if front.relative > 0
    )


def _candidates(
    model: keras.Model, specs: list[InputSpec], batch_size: int | None
) -> Iterator[Samples]:
    """Yield random inputs of different lengths, the likeliest to fit first."""
    has_free_length = any(length is None for spec in specs for length in spec.shape[1:])
    for length in _lengths(model, specs) if has_free_length else FREE_LENGTHS[:1]:
        generator = np.random.default_rng(0)
        yield {
            spec.name: _draw(spec, _shape(spec, length, batch_size), generator) for spec in specs
        }


def _lengths(model: keras.Model, specs: list[InputSpec]) -> Iterator[int]:
    yield from FREE_LENGTHS
    if not any(_fits(model, specs, length) for length in FREE_LENGTHS):
        fitting = (length for length in _LONG if _fits(model, specs, length))
        yield from itertools.islice(fitting, _MOST_LONG)


def _fits(model: keras.Model, specs: list[InputSpec], length: int) -> bool:
    """Return whether the shapes of all layers go with a length, and leave outputs that hold any."""
    shapes = [_shape(spec, length) for spec in specs]
    if max(map(math.prod, shapes)) > _MOST_VALUES:
        return False
    symbols = [
        keras.KerasTensor(shape, spec.dtype) for shape, spec in zip(shapes, specs, strict=True)
    ]
    try:
        outputs = model.compute_output_spec(
            keras.tree.pack_sequence_as(structure_of(model), symbols)
        )
    except Exception:  # whatever a layer raises for a shape that doesn't suit it
        return False
    return all(
        length is None or length > 0
        for output in keras.tree.flatten(outputs)
        for length in output.shape
    )


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
    shapes = {name: [rows, *array.shape[1:]] for name, array in draw_samples(model).items()}
    return {spec.name: _draw(spec, shapes[spec.name], generator) for spec in read_inputs(model)}


def _shape(spec: InputSpec, free_length: int, batch_size: int | None = None) -> list[int]:
    """Return the shape of a batch of an input, with a length for axes of unknown length."""
    shape = [free_length if length is None else length for length in spec.shape]
    return [batch_size or spec.shape[0] or BATCH, *shape[1:]] if shape else []


def _draw(spec: InputSpec, shape: list[int], generator: np.random.Generator) -> np.ndarray:
    if spec.dtype == "string":
        return generator.choice(np.array(["a", "b"]), shape)
    if "float" in spec.dtype:
        return generator.standard_normal(shape).astype(numpy_dtype(spec.dtype))
    return generator.integers(0, 2, shape).astype(numpy_dtype(spec.dtype))


def first_rows(model: keras.Model, rows: GivenRows, batch_size: int | None = None) -> Samples:
    """Return a batch of the first rows, repeated if there are fewer than the batch needs.

    Args:
        model: A built model.
        rows: Arrays, by the name of the input or in the order of the inputs.
        batch_size: Number of rows. None: the model's own batch size, or two rows.
    """
    specs = read_inputs(model)
    batch = batch_size or max(spec.shape[0] or BATCH for spec in specs)
    by_name = (
        rows
        if isinstance(rows, Mapping)
        else {spec.name: array for spec, array in zip(specs, rows, strict=True)}
    )
    return {
        spec.name: np.asarray(by_name[spec.name])[np.arange(batch) % len(by_name[spec.name])]
        for spec in specs
    }
