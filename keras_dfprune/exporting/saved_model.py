"""Write a TensorFlow SavedModel folder, and run its `serving_default` signature."""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_dfprune.exporting.file_format import FileFormat
from keras_dfprune.inputs.model_inputs import Samples
from keras_dfprune.report.silence import silence


class SavedModelFolder(FileFormat):
    """TensorFlow SavedModel folder."""

    def write(self, model: keras.Model, path: Path) -> None:
        with silence():
            model.export(path, format="tf_saved_model", verbose=False)

    def run(self, model: keras.Model, path: Path, samples: Samples) -> dict[str, np.ndarray]:
        with silence(), tf.device("CPU:0"):
            # The signature holds no reference to the variables: `loaded` keeps them alive.
            loaded = tf.saved_model.load(str(path))
            signature = loaded.signatures["serving_default"]
            outputs = signature(**{name: tf.constant(value) for name, value in samples.items()})
            return {name: np.asarray(value) for name, value in outputs.items()}
