"""Declare what a file format does: prepare a model, write it, and run the file."""

import abc
from pathlib import Path

import keras
import numpy as np

from keras_dfprune.inputs.model_inputs import Samples


class FileFormat(abc.ABC):
    """File format for `export`."""

    def prepare(self, model: keras.Model) -> keras.Model:
        """Return the model to write: `model` itself, or a copy that the format can hold.

        Raises:
            ExportError: If the format can't hold the model.
            ImportError: If a package is missing.
            ValueError: If no such copy can be made.
        """
        return model

    @abc.abstractmethod
    def write(self, model: keras.Model, path: Path) -> None:
        """Write a prepared model to `path`."""

    @abc.abstractmethod
    def run(self, model: keras.Model, path: Path, samples: Samples) -> dict[str, np.ndarray]:
        """Read the file at `path` back and return its outputs by name.

        Args:
            model: The prepared model that was written.
            path: The file or folder.
            samples: Inputs by name, as `model` takes them.
        """
