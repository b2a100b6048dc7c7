"""A model's inputs into small samples on which the model and its file are compared.

All samples are dicts from the name of an input to an array with the batch axis first.
"""

import dataclasses
import itertools
from typing import Any

import keras
import numpy as np
import tensorflow as tf

Samples = dict[str, np.ndarray]

BATCH = 2  # More than one row, so that mixing up the rows of a batch shows.
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
            "takes. Make it functional: keras_dfprune.functionalize(model, inputs)."
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
    accurate enough to tell a good file from a bad one. What layers keep between calls (a stateful
    LSTM, a counter) stays as it was.
    """
    values = [samples[spec.name] for spec in read_inputs(model)]
    with tf.device("CPU:0"), keras.StatelessScope():
        tensors = [tf.constant(value) for value in values]
        outputs = model(keras.tree.pack_sequence_as(_structure(model), tensors), training=False)
    return name_outputs(outputs)


def hand_over(samples: Samples, model: keras.Model) -> Samples:
    """The samples of one model for a copy of it: in the same order, with its names and dtypes.

    A copy may name an input anew that had no name given, and a cast one takes another dtype.
    """
    return {
        spec.name: value.astype(numpy_dtype(spec.dtype)) if spec.dtype != "string" else value
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
        ValueError: If the model runs at none of the lengths tried for axes of unknown length.
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
    raise ValueError(
        "The model itself fails on small random inputs, so nothing made from it can be checked. "
        f"Received: inputs={shapes}. If an axis of unknown length is the cause, give the model's "
        f"Input a fixed shape. The model said: {failure}"
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
        return generator.standard_normal(shape).astype(numpy_dtype(spec.dtype))
    return generator.integers(0, 2, shape).astype(numpy_dtype(spec.dtype))


def numpy_dtype(dtype: str) -> Any:
    """NumPy's type for the name of a dtype, bfloat16 included."""
    return tf.as_dtype(dtype).as_numpy_dtype


def first_rows(model: keras.Model, rows: Samples) -> Samples:
    """A batch of the first rows; they repeat where there are fewer than the batch needs."""
    places = np.arange(max(spec.shape[0] or BATCH for spec in read_inputs(model)))
    return {name: array[places % len(array)] for name, array in rows.items()}
