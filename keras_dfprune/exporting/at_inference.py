"""Export a model as it computes at inference, with Keras's own `Model.export`.

Keras traces `model(inputs)` without saying `training=False`. Layers whose `training` is True unless
they are told otherwise, such as the random layers that augment images, would stay random.
"""

from pathlib import Path
from typing import Any

import keras

from keras_dfprune.inputs.model_inputs import input_signature
from keras_dfprune.report.silence import silence


class _AtInference(keras.Model):
    """Model that calls another one with `training=False`."""

    def __init__(self, model: keras.Model):
        super().__init__(name=model.name, autocast=False)
        self.inner = model
        self.built = True

    def call(self, inputs: Any) -> Any:
        return self.inner(inputs, training=False)


def export_at_inference(
    model: keras.Model, path: Path, file_format: str, batch_size: int | None
) -> None:
    """Write a file that computes what a model computes at inference.

    Args:
        model: The model.
        path: The file or folder.
        file_format: `"tf_saved_model"` or `"onnx"`.
        batch_size: The only batch size that the file takes. None: the model's own, or any.
    """
    signature = input_signature(model, batch_size)
    with silence():
        _AtInference(model).export(
            path, format=file_format, verbose=False, input_signature=[signature]
        )
