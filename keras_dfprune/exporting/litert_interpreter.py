"""Run LiteRT files (`.tflite`) in the interpreter, on numbers as the model takes and returns them.

A file that takes int8 gets each number as `round(number / scale) + zero_point`, and what it returns
is turned back in the same way.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_dfprune.inputs.model_inputs import InputSpec, Samples
from keras_dfprune.report.short_message import short_message
from keras_dfprune.report.silence import silence

_SIGNATURE = "serving_default"  # the name that Keras gives it
Details = Mapping[str, Any]  # what the interpreter says of a tensor


def open_interpreter(path: Path, threads: int | None = None) -> tf.lite.Interpreter:
    """Open a file in LiteRT's interpreter.

    Args:
        path: The file.
        threads: Number of threads; None for LiteRT's own choice.
    """
    try:
        from ai_edge_litert import interpreter as runtime
    except ImportError:  # TensorFlow's own interpreter does the same, with a deprecation warning
        runtime = tf.lite
    return runtime.Interpreter(model_path=str(path), num_threads=threads)


class LiteRTProgram:
    """LiteRT file in the interpreter.

    Args:
        path: The file.

    Attributes:
        inputs: Its inputs, by the names of its signature. One that takes quantized numbers has the
            dtype `"float32"`, because `run` quantizes it.

    Raises:
        ValueError: If the file can't be read.
    """

    def __init__(self, path: Path):
        try:
            with silence():
                interpreter = open_interpreter(path)
                self._runner = _runner(interpreter)
        except Exception as error:  # the interpreter raises errors of several types
            raise ValueError(
                f"LiteRT can't read '{path}'. Received: a file that is damaged, or no LiteRT file. "
                f"LiteRT's message: {short_message(error)}"
            ) from error
        details = self._runner.get_input_details()
        self.inputs = [
            InputSpec(name, _shape(tensor), _dtype(tensor), name)
            for name, tensor in details.items()
        ]

    def run(self, samples: Samples) -> dict[str, np.ndarray]:
        """Return the outputs by name for inputs by name, as the numbers that they stand for."""
        inputs, outputs = self._runner.get_input_details(), self._runner.get_output_details()
        given = {name: _quantized(array, inputs[name]) for name, array in samples.items()}
        with silence():
            received = self._runner(**given)
        return {name: _dequantized(array, outputs[name]) for name, array in received.items()}


class _WithoutSignature:
    """Runner of a file without signatures, whose inputs and outputs have the tensors' names.

    Args:
        interpreter: The interpreter of the file.
    """

    def __init__(self, interpreter: tf.lite.Interpreter):
        self._interpreter = interpreter

    def get_input_details(self) -> dict[str, Details]:
        return {tensor["name"]: tensor for tensor in self._interpreter.get_input_details()}

    def get_output_details(self) -> dict[str, Details]:
        return {tensor["name"]: tensor for tensor in self._interpreter.get_output_details()}

    def __call__(self, **given: np.ndarray) -> dict[str, np.ndarray]:
        details = self.get_input_details()
        for name, array in given.items():
            self._interpreter.resize_tensor_input(details[name]["index"], array.shape)
        self._interpreter.allocate_tensors()
        for name, array in given.items():
            self._interpreter.set_tensor(details[name]["index"], array)
        self._interpreter.invoke()
        outputs = self.get_output_details()
        return {name: self._interpreter.get_tensor(t["index"]) for name, t in outputs.items()}


def _runner(interpreter: tf.lite.Interpreter) -> Any:
    signatures = list(interpreter.get_signature_list())
    if not signatures:
        return _WithoutSignature(interpreter)
    name = _SIGNATURE if _SIGNATURE in signatures else signatures[0]
    return interpreter.get_signature_runner(name)


def _shape(tensor: Details) -> tuple[int | None, ...]:
    signature = tensor["shape_signature"] if len(tensor["shape_signature"]) else tensor["shape"]
    return tuple(None if length < 0 else int(length) for length in signature)


def _dtype(tensor: Details) -> str:
    return "float32" if is_quantized(tensor) else np.dtype(tensor["dtype"]).name


def is_quantized(tensor: Details) -> bool:
    """Return whether a tensor holds integers that stand for other numbers."""
    scale, _ = tensor["quantization"]
    return scale != 0 and np.issubdtype(tensor["dtype"], np.integer)


def _quantized(array: np.ndarray, details: Details) -> np.ndarray:
    """Return what the file takes for an input: int8 where the file says so, by its own scale."""
    scale, zero_point = details["quantization"]
    if scale == 0 or array.dtype == details["dtype"]:
        return array
    limits = np.iinfo(details["dtype"])
    steps = np.round(array / scale) + zero_point
    return np.clip(steps, limits.min, limits.max).astype(details["dtype"])


def _dequantized(array: np.ndarray, details: Details) -> np.ndarray:
    """Return the numbers that an output of the file stands for."""
    scale, zero_point = details["quantization"]
    return array if scale == 0 else np.float32(scale) * (array.astype(np.float32) - zero_point)
