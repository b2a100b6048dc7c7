"""A model into an ONNX file through Keras and tf2onnx, and back through onnxruntime."""

import importlib.util
from pathlib import Path

import keras
import numpy as np

from keras_dfprune.exporting.files import quiet
from keras_dfprune.exporting.result import ExportError, first_line
from keras_dfprune.inputs.sample_inputs import Samples, run_model


def check_installed() -> None:
    """Raises an `ImportError` that says what to install, where something is missing."""
    missing = [
        name for name in ("tf2onnx", "onnxruntime") if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise ImportError(
            f"Export to ONNX needs {' and '.join(missing)}. "
            'Install them with: pip install "keras_dfprune[onnx]"'
        )


def write(model: keras.Model, path: Path) -> None:
    """Writes the file. Keras wants the model to have been called before, on actual values."""
    with quiet():
        model.export(path, format="onnx", verbose=False)


def run(model: keras.Model, path: Path, samples: Samples) -> dict[str, np.ndarray]:
    """Runs the file on onnxruntime's CPU provider."""
    import onnxruntime

    try:
        with quiet():
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            wanted = [value.name for value in session.get_inputs()]
            if len(wanted) > len(samples):
                raise ExportError(
                    "The ONNX file asks for inputs that the model doesn't have: Keras' export "
                    "makes one of each tensor that a layer holds without a variable, as "
                    "Normalization does. Scale the data in front of the model instead. "
                    f"Received: model={model.name}; inputs of the file: {', '.join(wanted)}"
                )
            if not set(wanted) <= set(samples):
                # The inputs of a subclassed model get names of ONNX's own, in the same order.
                samples = dict(zip(wanted, samples.values(), strict=True))
            values = session.run(None, {name: samples[name] for name in wanted})
    except ExportError:
        raise
    except Exception as error:
        raise ExportError(
            "onnxruntime refuses the file that tf2onnx wrote. The usual causes are an exact gelu "
            "(tf2onnx has no Erf for it; use keras.activations.gelu with approximate=True) and "
            f"bfloat16. Received: model={model.name}. onnxruntime said: {first_line(error)}"
        ) from error
    names = [value.name for value in session.get_outputs()]
    expected = list(run_model(model, samples))
    # ONNX keeps the keys of a dict, but names the outputs of a list after their tensors.
    named = names if set(names) == set(expected) else expected
    return dict(zip(named, values, strict=True))
