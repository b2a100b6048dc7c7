"""Write an ONNX file with Keras and tf2onnx, and run it in ONNX Runtime."""

import dataclasses
import importlib.util
from pathlib import Path

import keras
import numpy as np

from keras_dfprune.exporting.at_inference import export_at_inference
from keras_dfprune.exporting.file_format import FileFormat
from keras_dfprune.exporting.result import ExportError
from keras_dfprune.inputs.model_inputs import Samples, run_model
from keras_dfprune.report.short_message import short_message
from keras_dfprune.report.silence import silence


@dataclasses.dataclass(frozen=True)
class OnnxFile(FileFormat):
    """ONNX file (`.onnx`).

    Attributes:
        batch_size: The only batch size that it takes. None: the model's own, or any.
    """

    batch_size: int | None = None

    def prepare(self, model: keras.Model) -> keras.Model:
        missing = [
            name for name in ("tf2onnx", "onnxruntime") if importlib.util.find_spec(name) is None
        ]
        if missing:
            raise ImportError(
                f"Export to ONNX needs {' and '.join(missing)}. "
                'Install what it needs with: pip install "keras_dfprune[onnx]"'
            )
        return model

    def write(self, model: keras.Model, path: Path) -> None:
        export_at_inference(model, path, "onnx", self.batch_size)

    def run(self, model: keras.Model, path: Path, samples: Samples) -> dict[str, np.ndarray]:
        try:
            with silence():
                names, values = _run_session(model, path, samples)
        except ExportError:
            raise
        except Exception as error:
            raise ExportError(
                "ONNX Runtime can't run the file that tf2onnx wrote. The usual causes are an exact "
                "gelu (tf2onnx writes no Erf for it; use keras.activations.gelu with "
                f"approximate=True) and bfloat16. Received: model={model.name}. "
                f"ONNX Runtime's message: {short_message(error)}"
            ) from error
        expected = list(run_model(model, samples))
        # ONNX keeps the keys of a dict, but names the outputs of a list after their tensors.
        return dict(zip(names if set(names) == set(expected) else expected, values, strict=True))


def _run_session(
    model: keras.Model, path: Path, samples: Samples
) -> tuple[list[str], list[np.ndarray]]:
    """Run the file on the CPU; return the names of its outputs and their values."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs = [value.name for value in session.get_inputs()]
    if len(inputs) > len(samples):
        raise ExportError(
            "The ONNX file has inputs that the model doesn't have. Keras' export makes an input "
            "of each tensor that a layer holds outside of a variable, as Normalization does. "
            "Scale the data before they enter the model instead. "
            f"Received: model={model.name}; inputs of the file: {', '.join(inputs)}"
        )
    if not set(inputs) <= set(samples):
        # ONNX names the inputs of a subclassed model anew, in the same order.
        samples = dict(zip(inputs, samples.values(), strict=True))
    values = session.run(None, {name: samples[name] for name in inputs})
    return [value.name for value in session.get_outputs()], values
