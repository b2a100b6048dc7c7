"""Write a LiteRT file (`.tflite`) of built-in operations only, and run it in the interpreter.

Keras exports a SavedModel, which `tf.lite.TFLiteConverter.from_saved_model` converts.
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_dfprune.exporting.cast import cast_to_float32
from keras_dfprune.exporting.file_format import FileFormat
from keras_dfprune.exporting.litert_interpreter import LiteRTProgram, open_interpreter
from keras_dfprune.exporting.result import ExportError
from keras_dfprune.exporting.saved_model import SavedModelFolder
from keras_dfprune.graph.keras_private import all_layers
from keras_dfprune.inputs.model_inputs import Samples, adapt_samples, read_inputs
from keras_dfprune.report.short_message import short_message
from keras_dfprune.report.silence import silence
from keras_dfprune.report.warning import warn

# Layers that need string or table operations, which LiteRT doesn't have.
_LOOKUPS = (
    keras.layers.StringLookup,
    keras.layers.IntegerLookup,
    keras.layers.TextVectorization,
    keras.layers.Hashing,
    keras.layers.HashedCrossing,
)
# The converter widens an empty range to [-1e-6, 1e-6]; divided by 255 steps that is 7.8e-9.
_EMPTY_SCALE = 1e-8
# The converter names the origin of an operation so: fused["MatMul:", "net_1/fc1_1/MatMul@...
_LOCATION = re.compile(r'fused\["(\w+):", "([^"@]*)')


@dataclasses.dataclass(frozen=True, eq=False)
class LiteRTFile(FileFormat):
    """LiteRT file (`.tflite`).

    Attributes:
        quantize: None, `"dynamic"`, `"float16"` or `"int8"`.
        rows: Representative rows of each input by name, or None. `"int8"` needs them.
        io_dtype: For `"int8"`, the type of those inputs and outputs that are floats in the model:
            `"float32"` or `"int8"`.
        batch_size: The only batch size that the file takes. None: the model's own, or any.
    """

    quantize: str | None = None
    rows: Samples | None = None
    io_dtype: str = "float32"
    batch_size: int | None = None

    def prepare(self, model: keras.Model) -> keras.Model:
        """Return `model`, or its cast to float32.

        Raises:
            ExportError: If LiteRT has no counterpart of a layer or an input.
            ValueError: If the model needs a cast and can't be cast.
        """
        _refuse_unsupported(model)
        return cast_to_float32(model)

    def write(self, model: keras.Model, path: Path) -> None:
        """Convert a prepared model and write the file, with a SavedModel folder beside it.

        Raises:
            ExportError: If the model needs operations that LiteRT doesn't have; the message
                names the layers.
        """
        folder = path.parent / "saved_model"
        SavedModelFolder(self.batch_size).write(model, folder)
        try:
            with silence():
                content = self._converter(model, folder).convert()
        except Exception as error:
            raise ExportError(_explain(model, error)) from error
        path.write_bytes(content)
        if self.quantize == "int8":
            _refuse_empty_ranges(model, path)
        if self.quantize == "dynamic" and not _holds_integers(path):
            warn(
                "quantize='dynamic' changed nothing: LiteRT leaves small weights (fewer than 1,024 "
                f"values) as they are, and model '{model.name}' has no others that it quantizes. "
                "quantize='float16' halves small weights too."
            )

    def run(self, model: keras.Model, path: Path, samples: Samples) -> dict[str, np.ndarray]:
        with silence():
            return LiteRTProgram(path).run(samples)

    def _converter(self, model: keras.Model, folder: Path) -> tf.lite.TFLiteConverter:
        converter = tf.lite.TFLiteConverter.from_saved_model(str(folder))
        if self.quantize is not None:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if self.quantize == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if self.quantize == "int8" and self.rows is not None:
            rows = self.rows
            converter.representative_dataset = lambda: _batches(model, rows, self.batch_size)
        if self.io_dtype == "int8":
            converter.inference_input_type = converter.inference_output_type = tf.int8
        return converter


def _refuse_unsupported(model: keras.Model) -> None:
    for spec in read_inputs(model):
        if spec.dtype == "string":
            raise ExportError(
                "LiteRT has no string operations. Export the part of the model that follows the "
                f"text preprocessing. Received: input '{spec.name}' of dtype string."
            )
    for layer in all_layers(model):
        if isinstance(layer, _LOOKUPS):
            raise ExportError(
                "LiteRT has no lookup tables. Look up the values before they enter the model and "
                "export the layers that follow. "
                f"Received: layer '{layer.name}', {type(layer).__name__}."
            )
        if layer.dtype_policy.quantization_mode is not None:
            raise ExportError(
                "LiteRT can't convert a layer that Keras has quantized. Export the model as it "
                "was before model.quantize(), with quantize='dynamic' or 'int8' here. "
                f"Received: layer '{layer.name}' with {layer.dtype_policy.name}."
            )


def _batches(model: keras.Model, rows: Samples, batch_size: int | None) -> Iterator[Samples]:
    """Yield the rows in batches of the file's batch size, else of the model's, else of one row."""
    size = batch_size or max(spec.shape[0] or 1 for spec in read_inputs(model))
    count = len(next(iter(rows.values())))
    for start in range(0, count, size):
        chosen = np.arange(start, start + size) % count
        yield adapt_samples({name: array[chosen] for name, array in rows.items()}, model)


def _refuse_empty_ranges(model: keras.Model, path: Path) -> None:
    """Refuse a file that would crash the process: LiteRT's kernels (XNNPACK) abort on it."""
    with silence():
        tensors = open_interpreter(path).get_tensor_details()
    empty = [tensor["name"] for tensor in tensors if _has_empty_range(tensor)]
    if not empty:
        return
    scopes = [scope for name in empty for scope in name.split(";")]
    layers = ", ".join(map(repr, _layer_names(model, scopes))) or "unknown"
    raise ExportError(
        "A tensor is zero for all of `representative_data`, so it has no range to quantize. "
        "Give data that are more like the real inputs, or use quantize='dynamic'. "
        f"Received: layer {layers}."
    )


def _holds_integers(path: Path) -> bool:
    """Return whether any weights of a file are in 8 bits."""
    with silence():
        tensors = open_interpreter(path).get_tensor_details()
    return any(tensor["dtype"] is np.int8 for tensor in tensors)


def _has_empty_range(tensor: Mapping[str, Any]) -> bool:
    """Return whether a tensor of the interpreter is an activation without a range."""
    scales = tensor["quantization_parameters"]["scales"]
    # A scalar is a constant of the model (the 0 in selu) and does no harm.
    is_activation = tensor["dtype"] is np.int8 and len(tensor["shape"]) > 0
    return is_activation and len(scales) == 1 and scales[0] <= _EMPTY_SCALE


def _explain(model: keras.Model, error: Exception) -> str:
    """Explain an error of the converter: name the layers and operations, and say what to do."""
    message = str(error)
    located = [(op, scope) for op, scope in _LOCATION.findall(message) if "/" in scope]
    operations = sorted({op for op, _ in located})
    layers = _layer_names(model, [scope for _, scope in located])
    origin = f"layer {', '.join(map(repr, layers))}" if layers else f"model '{model.name}'"
    received = f"Received: {origin}, operation {', '.join(operations) or 'unknown'}"
    if "TensorList" in message:
        return (
            "LiteRT's built-in operations can't run the loop of a recurrent layer. Build the model "
            "with unroll=True in that layer and a fixed sequence length, and copy the weights "
            f"(set_weights). {received}."
        )
    if "flex op" in message or "NEEDS_" in message:
        return (
            "The model needs operations that LiteRT doesn't have built in: the device would need "
            "TensorFlow's own kernels (Flex). Replace the layer, or export a SavedModel. "
            f"{received}."
        )
    return f"LiteRT's converter failed. {received}. The converter's message: {short_message(error)}"


def _layer_names(model: keras.Model, scopes: list[str]) -> list[str]:
    """Return the names of the innermost layers that the scopes of operations name, sorted."""
    names = {layer.name for layer in all_layers(model) if layer is not model}
    innermost = (_innermost(names, scope) for scope in scopes)
    return sorted({name for name in innermost if name is not None})


def _innermost(names: set[str], scope: str) -> str | None:
    """Return the last of `names` in a scope such as `net_1/fc1_1/MatMul`, or None.

    While Keras traces a model, it opens a scope for each layer, named after it with a number
    appended.
    """
    for part in reversed(scope.split("/")):
        for name in (re.sub(r"_\d+$", "", part), part):
            if name in names:
                return name
    return None
