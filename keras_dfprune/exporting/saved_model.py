"""Write a TensorFlow SavedModel folder, and run its `serving_default` signature."""

import dataclasses
import math
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_dfprune.exporting.at_inference import export_at_inference
from keras_dfprune.exporting.file_format import FileFormat
from keras_dfprune.inputs.model_inputs import InputSpec, Samples
from keras_dfprune.report.silence import silence

_SIGNATURE = "serving_default"  # the name that Keras gives it


@dataclasses.dataclass(frozen=True)
class SavedModelFolder(FileFormat):
    """TensorFlow SavedModel folder.

    Attributes:
        batch_size: The only batch size that it takes. None: the model's own, or any.
    """

    batch_size: int | None = None

    def write(self, model: keras.Model, path: Path) -> None:
        export_at_inference(model, path, "tf_saved_model", self.batch_size)

    def run(self, model: keras.Model, path: Path, samples: Samples) -> dict[str, np.ndarray]:
        return SavedModelProgram(path).run(samples)


class SavedModelProgram:
    """Signature `serving_default` of a SavedModel folder, loaded on the CPU.

    Args:
        path: The folder.

    Attributes:
        inputs: Its inputs by name.
        parameters: Number of entries in the variables that it reads; constants in its graph, which
            a frozen model has in their place, don't count.

    Raises:
        ValueError: If the folder has no such signature.
    """

    def __init__(self, path: Path):
        with silence(), tf.device("CPU:0"):
            # The signature holds no reference to the variables: `_loaded` keeps them alive.
            self._loaded = tf.saved_model.load(str(path))
        if _SIGNATURE not in self._loaded.signatures:
            raise ValueError(
                f"The SavedModel '{path}' can't be run, because it has no signature "
                f"'{_SIGNATURE}'. Received: signatures={sorted(self._loaded.signatures)}."
            )
        self._signature = self._loaded.signatures[_SIGNATURE]
        specs = self._signature.structured_input_signature[1]
        self.inputs = [
            InputSpec(name, tuple(spec.shape.as_list()), spec.dtype.name, name)
            for name, spec in specs.items()
        ]
        shapes = [variable.shape.as_list() for variable in self._signature.variables]
        self.parameters = sum(math.prod(shape) for shape in shapes)

    def run(self, samples: Samples) -> dict[str, np.ndarray]:
        """Return the outputs by name for inputs by name."""
        with silence(), tf.device("CPU:0"):
            given = {name: tf.constant(value) for name, value in samples.items()}
            outputs = self._signature(**given)
            return {name: np.asarray(value) for name, value in outputs.items()}
