"""A model's inputs into small samples to run it on, and a caller's data into calibration samples.

All samples are dicts from the name of an input to an array with the batch axis first.
"""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_dfprune.export.result import ExportError, first_line

Samples = dict[str, np.ndarray]

BATCH = 2  # More than one row, so that mixing up the rows of a batch shows.
# Calibration beyond a few hundred rows moves no range any more (the advice in LiteRT's guide to
# post-training quantization), and a generator may never end.
CALIBRATION_ROWS = 512
# Lengths tried for axes of unknown length, until the model runs and its outputs are finite: 64
# serves sequences and images that are pooled up to six times.
FREE_LENGTHS = (64, 256, 16, 1)


@dataclasses.dataclass(frozen=True)
class InputSpec:
    """One input of a model.

    Attributes:
        name: Its name in the signature of an exported file.
        shape: The batch axis first; None for an unknown length.
        dtype: Name of the dtype.
        key: Its key where the model takes a dict, else the same as `name`.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    key: str


def read_inputs(model: keras.Model) -> list[InputSpec]:
    """Lists a built model's inputs in the order of its flattened inputs.

    Raises:
        ValueError: For a subclassed model whose `call` takes several arguments.
    """
    structure = _structure(model)
    tensors = keras.tree.flatten(structure)
    if not tensors:
        raise ValueError(
            "Expected a model with one argument for its inputs (a tensor, list or dict). "
            f"Received: model={model.name}, a {type(model).__name__} that doesn't say what it "
            "takes. Make it functional: keras.Model(inputs, model.call(inputs))."
        )
    keys = [tensor.name for tensor in tensors]
    if isinstance(structure, dict) and len(structure) == len(tensors):
        keys = sorted(structure)
    return [
        InputSpec(tensor.name, tuple(tensor.shape), str(tensor.dtype), key)
        for tensor, key in zip(tensors, keys, strict=True)
    ]


def _structure(model: keras.Model) -> Any:
    """What `model` is called with, as Keras tensors in the lists or dicts that it expects."""
    if isinstance(model, keras.Sequential):
        return model.inputs[0]
    if getattr(model, "inputs", None):
        return model.input
    shapes = _traced_shapes(model)
    # The names that Keras gives to the inputs of a subclassed model when it exports one.
    names = ("args_0" + f"_{place}" * (place > 0) for place in itertools.count())
    return keras.tree.map_structure(
        lambda shape: keras.KerasTensor((None, *shape.shape[1:]), name=next(names)), shapes
    )


def _traced_shapes(model: keras.Model) -> Any:
    """The shapes that a subclassed model was called with, as Keras tensors; [] if unknown."""
    config = model.get_build_config() or {}

    def is_shape(value):
        return isinstance(value, tuple | list) and all(
            length is None or isinstance(length, int) for length in value
        )

    def wrap(value):
        if is_shape(value):
            return keras.KerasTensor(tuple(value))
        if isinstance(value, dict):
            return {key: wrap(part) for key, part in value.items()}
        return [wrap(part) for part in value]

    return wrap(config["input_shape"]) if config.get("input_shape") else []


def run_model(model: keras.Model, samples: Samples) -> dict[str, np.ndarray]:
    """Calls `model` in inference mode on the CPU; outputs by their name in a signature.

    On the CPU because that is where the files are run, and because a GPU's default (TF32) isn't
    accurate enough to tell a good file from a bad one.
    """
    values = [samples[spec.name] for spec in read_inputs(model)]
    with tf.device("CPU:0"):
        tensors = [tf.constant(value) for value in values]
        outputs = model(keras.tree.pack_sequence_as(_structure(model), tensors), training=False)
    return name_outputs(outputs)


def hand_over(samples: Samples, model: keras.Model) -> Samples:
    """The samples of one model for a copy of it: in the same order, with its names and dtypes.

    A copy may name an input anew that had no name given, and a cast one takes another dtype.
    """
    return {
        spec.name: value.astype(_numpy_dtype(spec.dtype)) if spec.dtype != "string" else value
        for spec, value in zip(read_inputs(model), samples.values(), strict=True)
    }


def name_outputs(outputs: Any) -> dict[str, np.ndarray]:
    """Outputs by name as a TensorFlow signature names them: dict keys, else `output_0` on."""
    if not isinstance(outputs, dict):
        flat = keras.tree.flatten(outputs)
        outputs = {f"output_{place}": value for place, value in enumerate(flat)}
    return {name: np.asarray(keras.tree.flatten(value)[0]) for name, value in outputs.items()}


def draw_samples(model: keras.Model) -> Samples:
    """Draws small random inputs (seed 0) on which `model` runs.

    Floats are standard normal, integers and booleans 0 or 1, strings "a" or "b".

    Raises:
        ExportError: If the model runs at none of the lengths tried for axes of unknown length.
    """
    specs = read_inputs(model)
    free = any(length is None for spec in specs for length in spec.shape[1:])
    runs: list[Samples] = []
    for length in FREE_LENGTHS if free else FREE_LENGTHS[:1]:
        generator = np.random.default_rng(0)
        samples = {spec.name: _draw(spec, length, generator) for spec in specs}
        try:
            outputs = run_model(model, samples)
        except Exception as error:  # whatever a layer says to a shape that doesn't suit it
            failure = error
            continue
        if all(_is_telling(array) for array in outputs.values()):
            return samples
        runs.append(samples)
    if runs:
        return runs[0]
    shapes = {spec.name: spec.shape for spec in specs}
    raise ExportError(
        "The model itself fails on small random inputs, so an exported file can't be checked. "
        f"Received: inputs={shapes}. If an axis of unknown length is the cause, give the model's "
        f"Input a fixed shape. The model said: {first_line(failure)}"
    ) from failure


def _is_telling(output: np.ndarray) -> bool:
    """False for what a model returns whose pooling has left nothing of a short input."""
    return output.size > 0 and (
        output.dtype.kind in "USO" or bool(np.isfinite(output.astype(np.float64)).all())
    )


def _draw(spec: InputSpec, free_length: int, generator: np.random.Generator) -> np.ndarray:
    shape = [free_length if length is None else length for length in spec.shape]
    shape[:1] = [spec.shape[0] or BATCH] if shape else []
    if spec.dtype == "string":
        return generator.choice(np.array(["a", "b"]), shape)
    if "float" in spec.dtype:
        return generator.standard_normal(shape).astype(_numpy_dtype(spec.dtype))
    return generator.integers(0, 2, shape).astype(_numpy_dtype(spec.dtype))


def _numpy_dtype(dtype: str) -> Any:
    return tf.as_dtype(dtype).as_numpy_dtype


def read_representative(model: keras.Model, data: Any) -> Samples:
    """Turns representative data of any accepted kind into at most 512 rows of every input.

    Args:
        model: A built Keras model.
        data: An array; a dict of arrays by input name; a list or tuple of arrays, one for each
            input; a `tf.data.Dataset`, a generator or a function without arguments that returns
            one, of batches or single samples, where `(x, y)` tuples lose their `y`.

    Returns:
        The rows by input name: of arrays spread evenly, of iterables the first ones.

    Raises:
        ValueError: If there is no data, or it doesn't fit the model's inputs.
    """
    specs = read_inputs(model)
    if callable(data) and not isinstance(data, tf.data.Dataset):
        data = data()
    if isinstance(data, tf.data.Dataset | Iterator):
        return _from_iterable(specs, data)
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
    chosen = np.unique(np.linspace(0, count - 1, min(count, CALIBRATION_ROWS)).round().astype(int))
    return {name: array[chosen] for name, array in rows.items()}


def first_rows(model: keras.Model, rows: Samples) -> Samples:
    """A batch of the first rows; they repeat where there are fewer than the batch needs."""
    places = np.arange(max(spec.shape[0] or BATCH for spec in read_inputs(model)))
    return {name: array[places % len(array)] for name, array in rows.items()}


def _one_for_each(specs: list[InputSpec], data: list | tuple) -> bool:
    """Whether a list holds one array for each input, and not the rows of a single input."""
    return len(data) == len(specs) and (len(specs) > 1 or np.ndim(data[0]) == len(specs[0].shape))


def _from_iterable(specs: list[InputSpec], data) -> Samples:
    batches: list[Samples] = []
    count = 0
    for element in data:
        batches.append(_match(specs, _without_labels(specs, element)))
        count += len(next(iter(batches[-1].values())))
        if count >= CALIBRATION_ROWS:
            break
    if not count:
        raise ValueError("Expected `representative_data` with at least one row. Received: none.")
    return {
        spec.name: np.concatenate([batch[spec.name] for batch in batches])[:CALIBRATION_ROWS]
        for spec in specs
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
    array = np.asarray(value).astype(_numpy_dtype(spec.dtype))
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
