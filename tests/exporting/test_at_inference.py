"""Files hold a model as it is at inference: layers that are random in training do nothing."""

import keras
import numpy as np
import pytest

from keras_dfprune.exporting.export import export
from tests.support.exported import chain

layers = keras.layers


class RandomUnlessTold(layers.Layer):
    """Is random where nobody says `training=False`, as the layers of Keras that augment images."""

    def call(self, x, training=True):
        return x + keras.random.normal(keras.ops.shape(x)) if training else x


class Subclassed(keras.Model):
    """Passes no `training` on."""

    def __init__(self):
        super().__init__()
        self.noise, self.dropout = RandomUnlessTold(), layers.Dropout(0.5)
        self.head = layers.Dense(3)

    def call(self, x):
        return self.head(self.dropout(self.noise(x)))


def images(*front):
    body = [layers.Conv2D(4, 3, activation="relu"), layers.GlobalAveragePooling2D()]
    return keras.Sequential([keras.Input((12, 12, 3)), *front, *body, layers.Dense(3)])


def augmented():
    noise = layers.GaussianNoise(0.3)
    return images(layers.RandomFlip(), layers.RandomRotation(0.2), layers.Rescaling(0.5), noise)


def augmented_in_a_nested_model():
    inner = keras.Sequential([layers.RandomCrop(8, 8), layers.RandomContrast(0.5)])
    return images(keras.Sequential([keras.Input((12, 12, 3)), inner, layers.RandomZoom(0.5)]))


def subclassed():
    model = Subclassed()
    model(np.zeros((2, 4), "float32"))
    return model


@pytest.mark.parametrize("build", [augmented, augmented_in_a_nested_model, subclassed])
@pytest.mark.parametrize("name", ["m.tflite", "saved"])
def test_random_layers_are_off(build, name, tmp_path):
    assert export(build(), tmp_path / name).max_relative_error < 1e-5


def test_random_layers_are_off_in_onnx(tmp_path):
    pytest.importorskip("tf2onnx")
    pytest.importorskip("onnxruntime")
    for build in (augmented, subclassed):
        assert export(build(), tmp_path / "m.onnx").max_relative_error < 1e-5


def test_the_model_stays_as_it_was(tmp_path):
    model = chain()
    before = sorted(vars(model)), len(model.variables), model.get_config()
    export(model, tmp_path / "saved")
    assert (sorted(vars(model)), len(model.variables), model.get_config()) == before
