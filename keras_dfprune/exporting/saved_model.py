"""Write a TensorFlow SavedModel folder, and run its `serving_default` signature."""

import dataclasses
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_dfprune.exporting.at_inference import export_at_inference
from keras_dfprune.exporting.file_format import FileFormat
from keras_dfprune.inputs.model_inputs import Samples
from keras_dfprune.report.silence import silence


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
        with silence(), tf.device("CPU:0"):
            # The signature holds no reference to the variables: `loaded` keeps them alive.
            loaded = tf.saved_model.load(str(path))
            signature = loaded.signatures["serving_default"]
            outputs = signature(**{name: tf.constant(value) for name, value in samples.items()})
            return {name: np.asarray(value) for name, value in outputs.items()}
