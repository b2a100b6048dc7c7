"""A model into a LiteRT (`.tflite`) file of built-in operations alone, and back.

The route is Keras' SavedModel export and `tf.lite.TFLiteConverter.from_saved_model`.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_dfprune.exporting import saved_model
from keras_dfprune.exporting.cast import cast_to_float32
from keras_dfprune.exporting.files import quiet
from keras_dfprune.exporting.result import ExportError, first_line
from keras_dfprune.graph.keras_private import all_layers
from keras_dfprune.inputs.sample_inputs import Samples, hand_over, read_inputs

# Layers that need string or table kernels, which LiteRT doesn't have.
_LOOKUPS = (
    keras.layers.StringLookup,
    keras.layers.IntegerLookup,
    keras.layers.TextVectorization,
    keras.layers.Hashing,
    keras.layers.HashedCrossing,
)
# The converter widens an empty range to [-1e-6, 1e-6], which 255 steps share: 7.8e-9.
_EMPTY_SCALE = 1e-8
# How the converter names where an operation comes from: fused["MatMul:", "net_1/fc1_1/MatMul@...
_LOCATION = re.compile(r'fused\["(\w+):", "([^"@]*)')


def prepare(model: keras.Model) -> keras.Model:
    """The model to convert instead of `model`: itself, or its cast to float32.

    Raises:
        ExportError: If the model holds layers or inputs of which LiteRT has nothing like it.
        ValueError: If the model would have to be cast and can't be.
    """
    _refuse_unsupported(model)
    return cast_to_float32(model)


def write(
    model: keras.Model, path: Path, quantize: str | None = None, rows: Samples | None = None
) -> None:
    """Converts what `prepare` returned, and writes the file.

    Args:
        model: A built Keras model in float32.
        path: The file; a SavedModel folder is left beside it.
        quantize: None, `"dynamic"`, `"float16"` or `"int8"`.
        rows: For `"int8"`, representative rows of each input by name; else None.

    Raises:
        ExportError: If the model needs operations that LiteRT doesn't have; it names the layers.
    """
    folder = path.parent / "saved_model"
    saved_model.write(model, folder)
    try:
        with quiet():
            content = _converter(model, folder, quantize, rows).convert()
    except Exception as error:
        raise ExportError(_explain(model, error)) from error
    path.write_bytes(content)
    if quantize == "int8":
        _refuse_empty_ranges(model, path)


def _refuse_empty_ranges(model: keras.Model, path: Path) -> None:
    """Refuses a file that would bring LiteRT's fast kernels (XNNPACK) down, process and all."""
    with quiet():
        tensors = _interpreter(path).get_tensor_details()
    empty = []
    for tensor in tensors:
        scales = tensor["quantization_parameters"]["scales"]
        # A scalar is a constant of the model's own (the 0 in selu) and does no harm.
        activation = tensor["dtype"] is np.int8 and len(tensor["shape"]) > 0
        if activation and len(scales) == 1 and scales[0] <= _EMPTY_SCALE:
            empty += [
                name for part in tensor["name"].split(";") for name in _layers_in(model, part)
            ]
            empty += [] if empty else ["unknown"]
    if empty:
        raise ExportError(
            "A tensor is zero for all of `representative_data`, so it has no range to quantize. "
            "Give data that is nearer to the real inputs, or use quantize='dynamic'. "
            f"Received: layer {', '.join(map(repr, sorted(set(empty))))}."
        )


def _refuse_unsupported(model: keras.Model) -> None:
    for spec in read_inputs(model):
        if spec.dtype == "string":
            raise ExportError(
                "LiteRT has no string operations. Export the part of the model behind the text "
                f"preprocessing. Received: input '{spec.name}' of dtype string."
            )
    for layer in all_layers(model):
        if isinstance(layer, _LOOKUPS):
            raise ExportError(
                "LiteRT has no lookup tables. Look up the values before they enter the model and "
                f"export what follows. Received: layer '{layer.name}', {type(layer).__name__}."
            )
        if layer.dtype_policy.quantization_mode is not None:
            raise ExportError(
                "LiteRT can't convert a layer that Keras has quantized. Export the model as it "
                "was before model.quantize(), with quantize='dynamic' or 'int8' here. "
                f"Received: layer '{layer.name}' with {layer.dtype_policy.name}."
            )


def _converter(model, folder, quantize, rows) -> tf.lite.TFLiteConverter:
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder))
    if quantize is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantize == "int8":
        converter.representative_dataset = lambda: _batches(model, rows)
    return converter


def _batches(model: keras.Model, rows: Samples) -> Iterator[Samples]:
    """The rows in batches of one, or of the model's own fixed batch size."""
    size = max(spec.shape[0] or 1 for spec in read_inputs(model))
    count = len(next(iter(rows.values())))
    for start in range(0, count, size):
        places = np.arange(start, start + size) % count
        yield hand_over({name: array[places] for name, array in rows.items()}, model)


def _explain(model: keras.Model, error: Exception) -> str:
    """The converter's message as one sentence that names layers and operations."""
    message = str(error)
    located = [(op, scope) for op, scope in _LOCATION.findall(message) if "/" in scope]
    operations = sorted({op for op, _ in located})
    layers = sorted({name for _, scope in located for name in _layers_in(model, scope)})
    named = f"layer {', '.join(map(repr, layers))}" if layers else f"model '{model.name}'"
    received = f"Received: {named}, operation {', '.join(operations) or 'unknown'}"
    if "TensorList" in message:
        return (
            "LiteRT's built-in operations can't run the loop of a recurrent layer. Build the model "
            "with unroll=True in that layer and a fixed length of its sequences, and take over the "
            f"weights (set_weights). {received}."
        )
    if "flex op" in message or "NEEDS_" in message:
        return (
            "The model needs operations that LiteRT's built-in set doesn't have (they would need "
            "TensorFlow's own kernels, or Flex, on the device). Replace the layer, or export a "
            f"SavedModel. {received}."
        )
    return f"LiteRT's converter failed. {received}. The converter said: {first_line(error)}"


def _layers_in(model: keras.Model, scope: str) -> list[str]:
    """The innermost layer that an operation's scope names, as a list of one or none.

    While it traces, Keras opens each layer's scope under its name with a number appended.
    """
    names = {layer.name for layer in all_layers(model) if layer is not model}
    for part in reversed(scope.split("/")):
        for name in (re.sub(r"_\d+$", "", part), part):
            if name in names:
                return [name]
    return []


def run(model: keras.Model, path: Path, samples: Samples) -> dict[str, np.ndarray]:
    """Runs the file's signature in LiteRT's interpreter."""
    with quiet():
        runner = _interpreter(path).get_signature_runner()
        return runner(**samples)


def _interpreter(path: Path):
    try:
        from ai_edge_litert import interpreter as runtime
    except ImportError:  # TensorFlow's own copy does as well, with a deprecation warning
        runtime = tf.lite
    return runtime.Interpreter(model_path=str(path))
