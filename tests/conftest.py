"""Set TensorFlow up for all tests, quiet and with four logical CPUs, and provide fixtures."""

import os
import pathlib

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import pytest  # noqa: E402
import tensorflow as tf  # noqa: E402

# Four devices on one CPU, for the tests of device placement and of MirroredStrategy. TensorFlow
# allows this only before its first operation.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration() for _ in range(4)],
)


@pytest.fixture(scope="session")
def strategy() -> tf.distribute.MirroredStrategy:
    """Return the strategy of all tests.

    There is only one: a second one in a process numbers its collective operations from the same
    start, and TensorFlow then complains about their shapes ("Shape mismatch in the collective").
    """
    devices = [device.name for device in tf.config.list_logical_devices("CPU")]
    return tf.distribute.MirroredStrategy(devices)


@pytest.fixture(scope="session")
def tfds_data_dir() -> str:
    """Return the folder TFDS_DATA_DIR with prepared TFDS data sets, or skip the test."""
    folder = os.environ.get("TFDS_DATA_DIR", "")
    if not folder:
        pytest.skip("needs prepared data: TFDS_DATA_DIR is not set")
    if not (pathlib.Path(folder) / "mnist").is_dir():
        pytest.skip(f"needs prepared data: no mnist in TFDS_DATA_DIR={folder}")
    pytest.importorskip("tensorflow_datasets")
    return folder


@pytest.fixture(autouse=True)
def same_weights_on_every_run() -> None:
    """Seed the weights that Keras draws."""
    tf.keras.utils.set_random_seed(7)


# Tests of layers are about exactness. They wait neither for the search for inputs nor for the
# measurement of what a cut changes, which have tests of their own.
OF_LAYERS = {"rules", "locate", "rebuild", "surgery", "graph", "exporting", "verify"}


@pytest.fixture(autouse=True)
def no_measurement(request, monkeypatch):
    """Plan without found inputs and without measuring in tests of layers."""
    if request.path.parent.name in OF_LAYERS:
        from keras_dfprune.planning import cutting, gather_rows

        yardstick = cutting.Yardstick

        def only_on_rows(located, rows, seed):
            if rows is None:
                raise ValueError("tests of layers don't measure on draws")
            return yardstick(located, rows, seed)

        monkeypatch.setattr(gather_rows, "can_find_inputs", lambda located: "is small")
        monkeypatch.setattr(cutting, "Yardstick", only_on_rows)
