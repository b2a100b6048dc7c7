"""A model into a TensorFlow SavedModel folder, and back through its `serving_default` signature."""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_dfprune.exporting.files import quiet
from keras_dfprune.inputs.sample_inputs import Samples


def write(model: keras.Model, path: Path) -> None:
    """Writes the folder `path`."""
    with quiet():
        model.export(path, format="tf_saved_model", verbose=False)


def run(model: keras.Model, path: Path, samples: Samples) -> dict[str, np.ndarray]:
    """Loads the folder and calls its signature on the CPU."""
    with quiet(), tf.device("CPU:0"):
        loaded = tf.saved_model.load(str(path))  # its variables live as long as this object
        signature = loaded.signatures["serving_default"]
        outputs = signature(**{name: tf.constant(value) for name, value in samples.items()})
        return {name: np.asarray(value) for name, value in outputs.items()}
