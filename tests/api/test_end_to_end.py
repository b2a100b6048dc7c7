"""`fit` trains, prunes and exports; a process without keras_dfprune reads the files."""

import subprocess
import sys

import keras
import numpy as np

import keras_dfprune as dfprune
from tests.support.models import relative_difference

READER = """
import sys
sys.modules["keras_dfprune"] = None  # importing it fails
import numpy as np
folder = sys.argv[1]
x = np.load(folder + "/x.npy")
import tensorflow as tf
loaded = tf.saved_model.load(folder + "/saved")
np.save(folder + "/saved.npy", loaded.serve(x).numpy())
interpreter = tf.lite.Interpreter(folder + "/model.tflite")
runner = interpreter.get_signature_runner()
(name,) = runner.get_input_details()
(values,) = runner(**{name: x}).values()
np.save(folder + "/tflite.npy", values)
import keras
model = keras.saving.load_model(folder + "/model.keras")
np.save(folder + "/keras.npy", model(x).numpy())
"""


def train(path, x, y, sparsity):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((12,)), keras.layers.Dense(96, "relu"), keras.layers.Dense(80, "relu"),
         keras.layers.Dense(4)]
    )  # fmt: skip
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    callback = dfprune.PostTrainPrune(export_path=path, sparsity=sparsity, strict=True)
    model.fit(x, y, epochs=2, verbose=0, callbacks=[callback])
    return callback.pruned_model


def test_a_process_without_keras_dfprune_reads_what_fit_exports(tmp_path):
    random = np.random.default_rng(0)
    x = random.normal(size=(200, 12)).astype("float32")
    y = (x[:, :4]).argmax(axis=1)
    np.save(tmp_path / "x.npy", x[:20])
    expected = {}
    for name, path in (("saved", "saved"), ("tflite", "model.tflite"), ("keras", "model.keras")):
        expected[name] = train(str(tmp_path / path), x, y, 0.5)(x[:20]).numpy()
    command = [sys.executable, "-c", READER, str(tmp_path)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr[-2000:]
    for name, values in expected.items():
        received = np.load(tmp_path / f"{name}.npy")
        assert relative_difference(received, values) <= 1e-5, name


def test_a_tflite_file_shrinks_with_its_parameters(tmp_path):
    random = np.random.default_rng(0)
    x, y = random.normal(size=(64, 12)).astype("float32"), random.integers(0, 4, 64)
    sizes, parameters = [], []
    for sparsity in (0.0, 0.5):
        path = tmp_path / f"{sparsity}.tflite"
        parameters.append(train(str(path), x, y, sparsity).count_params())
        sizes.append(path.stat().st_size)
    saved = 4 * (parameters[0] - parameters[1])  # bytes of float32
    assert abs((sizes[0] - sizes[1]) - saved) <= 0.05 * saved
