"""Describe a model's inputs, and run the model on arrays by input name."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_dfprune.graph.further_state import keeps_state
from keras_dfprune.graph.keras_private import all_layers

Samples = dict[str, np.ndarray]  # by the name of the input, the batch axis first
# A recurrent model is run step by step on sequences of so few steps, until so many calls.
_FEW_STEPS, _CALLS_BEFORE_COMPILING = 8, 4


@dataclasses.dataclass(frozen=True)
class InputSpec:
    """Name, shape and dtype of one input of a model.

    Attributes:
        name: Its name in the signature of an exported file.
        shape: The batch axis first; None for an unknown length.
        dtype: Name of the dtype.
        key: Its key if the model takes a dict, else the same as `name`.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    key: str


def read_inputs(model: keras.Model) -> list[InputSpec]:
    """List a built model's inputs in the order of its flattened inputs.

    Raises:
        ValueError: For a subclassed model whose `call` takes several arguments.
    """
    structure = structure_of(model)
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


def input_signature(model: keras.Model, batch_size: int | None = None) -> Any:
    """Return the argument that `model` expects as `tf.TensorSpec`s, for `tf.function`.

    Args:
        model: A built model.
        batch_size: Length of the batch axis. None: the model's own, or any.
    """

    def spec(tensor: keras.KerasTensor) -> tf.TensorSpec:
        shape = (batch_size or tensor.shape[0], *tensor.shape[1:])
        return tf.TensorSpec(shape, tensor.dtype, tensor.name)

    return keras.tree.map_structure(spec, structure_of(model))


def structure_of(model: keras.Model) -> Any:
    """Return the argument of `model` as Keras tensors in the lists or dicts that it expects."""
    if isinstance(model, keras.Sequential):
        return model.inputs[0]
    if getattr(model, "inputs", None):
        return model.input
    # Keras gives these names to the inputs of a subclassed model when it exports one.
    names = itertools.chain(["args_0"], (f"args_0_{number}" for number in itertools.count(1)))
    return keras.tree.map_structure(
        lambda shape: keras.KerasTensor((None, *shape.shape[1:]), name=next(names)),
        _traced_shapes(model),
    )


def _traced_shapes(model: keras.Model) -> Any:
    """Return the shapes a subclassed model was called with, as Keras tensors; [] if unknown."""
    config = model.get_build_config() or {}

    def is_shape(value: Any) -> bool:
        return isinstance(value, tuple | list) and all(
            length is None or isinstance(length, int) for length in value
        )

    def wrap(value: Any) -> Any:
        if is_shape(value):
            return keras.KerasTensor(tuple(value))
        if isinstance(value, dict):
            return {key: wrap(part) for key, part in value.items()}
        return [wrap(part) for part in value]

    return wrap(config["input_shape"]) if config.get("input_shape") else []


def run_model(model: keras.Model, samples: Samples) -> dict[str, np.ndarray]:
    """Call `model` at inference on the CPU, and return its outputs as `name_outputs` names them.

    Exported files run on the CPU too, and a GPU's default precision (TF32) is too coarse to tell
    a good file from a bad one. States that layers keep between calls (a stateful LSTM, a counter,
    a seed) stay as they were.
    """
    return model_runner(model)(samples)


def model_runner(model: keras.Model) -> Callable[[Samples], dict[str, np.ndarray]]:
    """Return a function that runs a model like `run_model`, for several calls."""
    specs, structure = read_inputs(model), structure_of(model)

    def call(*tensors: tf.Tensor) -> Any:
        return model(keras.tree.pack_sequence_as(structure, tensors), training=False)

    with keeps_state(model), tf.device("CPU:0"):
        signature = keras.tree.flatten(input_signature(model))
        function = compiled_if_recurrent(model, call, *signature)

    def run(samples: Samples) -> dict[str, np.ndarray]:
        with tf.device("CPU:0"), keeps_state(model):
            return name_outputs(function(*(tf.constant(samples[spec.name]) for spec in specs)))

    return run


def compiled_if_recurrent(model: keras.Model, call: Callable, *signature: Any) -> Callable:
    """Compile a function that calls a model, if the model has recurrent layers.

    Called step by step, such a model takes 10 to 200 times as long (`benchmarks/recurrent.py`).
    Compiling takes as long as a few calls on a short sequence, so those are done step by step.

    Args:
        model: The model.
        call: Function of tensors, or of structures of them.
        *signature: Its arguments: tensors of the same shapes, or `tf.TensorSpec`s.

    Returns:
        The compiled function, or `call` if it can't be compiled.
    """
    if not any(isinstance(layer, keras.layers.RNN) for layer in all_layers(model)):
        return call
    if not _takes_short_sequences(model):
        return _compiled(call, signature)
    numbers, compiled = itertools.count(), functools.cache(lambda: _compiled(call, signature))

    def call_or_compile(*tensors: Any) -> Any:
        return (call if next(numbers) < _CALLS_BEFORE_COMPILING else compiled())(*tensors)

    return call_or_compile


def _takes_short_sequences(model: keras.Model) -> bool:
    """Return whether the axes behind the batch are all of a few steps at most."""
    lengths = {
        shape[1] if len(shape) > 1 else 1
        for shape in (tensor.shape for tensor in keras.tree.flatten(structure_of(model)))
    }
    return bool(lengths) and None not in lengths and max(lengths) <= _FEW_STEPS


def _compiled(call: Callable, signature: Sequence[Any]) -> Callable:
    try:
        return tf.function(call, autograph=False).get_concrete_function(*signature)
    except Exception:  # whatever a layer raises that reads the values of its input
        return call


def pack_inputs(model: keras.Model, values: Sequence[Any]) -> Any:
    """Return values for a model's inputs, in their order, in the structure that it takes."""
    return keras.tree.pack_sequence_as(structure_of(model), list(values))


def batches(model: keras.Model, samples: Samples, size: int) -> Iterator[Samples]:
    """Split rows into batches that a model takes.

    Args:
        model: A built model. If its batch size is fixed, rows are repeated to fill the last batch.
        samples: Rows of every input.
        size: Rows in a batch, unless the model's batch size is fixed.
    """
    return batches_of(read_inputs(model), samples, size)


def batches_of(specs: Sequence[InputSpec], samples: Samples, size: int) -> Iterator[Samples]:
    """Split rows into batches as `batches` does, for the inputs of a model or of a file."""
    fixed = next((spec.shape[0] for spec in specs if spec.shape[:1] != (None,)), None)
    count, size = len(next(iter(samples.values()))), fixed or size
    for start in range(0, count, size):
        end = start + size if fixed else min(start + size, count)
        rows = np.arange(start, end) % count
        yield {name: array[rows] for name, array in samples.items()}


def name_outputs(outputs: Any) -> dict[str, np.ndarray]:
    """Name outputs as a TensorFlow signature does: by their dict keys, else `output_0` and on."""
    if not isinstance(outputs, dict):
        flat = keras.tree.flatten(outputs)
        outputs = {f"output_{number}": value for number, value in enumerate(flat)}
    return {name: np.asarray(keras.tree.flatten(value)[0]) for name, value in outputs.items()}


def adapt_samples(samples: Samples, model: keras.Model) -> Samples:
    """Rename and cast the samples of one model for a copy of it, in the same order.

    Keras may give an unnamed input of a copy another name, and a cast copy takes another dtype.
    """
    return {
        spec.name: value.astype(numpy_dtype(spec.dtype)) if spec.dtype != "string" else value
        for spec, value in zip(read_inputs(model), samples.values(), strict=True)
    }


def numpy_dtype(dtype: str) -> Any:
    """Return NumPy's type for the name of a dtype, bfloat16 included."""
    return tf.as_dtype(dtype).as_numpy_dtype


def is_same_shape(one: Sequence[int | None], other: Sequence[int | None]) -> bool:
    """Return whether two shapes can be the same; None is an unknown length."""
    return len(one) == len(other) and all(
        a == b or None in (a, b) for a, b in zip(one, other, strict=True)
    )


def kind_of_dtype(dtype: str) -> str:
    """Return the name of a dtype, the same for all floats: Keras casts those."""
    return "float" if "float" in dtype else dtype
