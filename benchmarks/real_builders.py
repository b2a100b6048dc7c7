"""Build the models of `real_networks` from the bytes of their files.

Files of Keras 1 and 2 are read too, and those that hold nothing but weights.
"""

import io
import json
import pathlib
import pickle
import tempfile
import zipfile

import h5py
import keras
import numpy as np

from benchmarks.real_inputs import MASK


def saved_model(content: bytes) -> keras.Model:
    """Load a saved Keras model of any age from the bytes of an HDF5 or `.keras` file."""
    with tempfile.TemporaryDirectory() as folder:
        zipped = content[:2] == b"PK"
        file = pathlib.Path(folder) / ("model.keras" if zipped else "model.h5")
        if zipped:
            source = zipfile.ZipFile(io.BytesIO(content))
            with zipfile.ZipFile(file, "w") as target:
                for name in source.namelist():
                    part = source.read(name)
                    target.writestr(name, _renewed(part) if name == "config.json" else part)
        else:
            file.write_bytes(content)
            with h5py.File(file, "r+") as hdf5:
                hdf5.attrs["model_config"] = _renewed(hdf5.attrs["model_config"])
        return keras.saving.load_model(file, compile=False)


def _renewed(config: str | bytes) -> str:
    """Leave out of a saved architecture what Keras 3 doesn't know any more."""

    def renew(value: dict) -> dict:
        if "Glorot" in str(value.get("class_name")) or value.get("class_name") in ("Zeros", "Ones"):
            value.get("config", {}).pop("dtype", None)
        value.pop("time_major", None)
        first = value["layers"][0] if "layers" in value else {"class_name": "InputLayer"}
        if first["class_name"] != "InputLayer":
            shape = {"batch_shape": first["config"].pop("batch_input_shape")}
            value["layers"].insert(0, {"class_name": "InputLayer", "config": shape})
        return value

    return json.dumps(json.loads(config, object_hook=renew))


def binding_model(content: bytes) -> keras.Model:
    """Build the network of mhcnuggets, whose files hold weights only."""
    model = keras.Sequential(
        [
            keras.Input((15, 21)),
            keras.layers.Masking(MASK),
            keras.layers.LSTM(64),
            keras.layers.Dense(64, activation="tanh"),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    with h5py.File(io.BytesIO(content)) as file:
        model.set_weights(
            [
                file[layer][name][()]
                for layer in file.attrs["layer_names"]
                for name in file[layer].attrs["weight_names"]
            ]
        )
    return model


def waves_model(content: bytes) -> keras.Model:
    """Build a network of mlgw, which is saved as a class of the package's own."""
    saved = zipfile.ZipFile(io.BytesIO(content)).read("model.weights.h5")
    with h5py.File(io.BytesIO(saved)) as file:
        group = file["_layer_checkpoint_dependencies"]
        names = sorted(group, key=lambda name: int(name.partition("_")[2] or 0))
        weights = [group[name]["vars"][index][()] for name in names for index in "01"]
    hidden = [keras.layers.Dense(len(bias), "sigmoid") for bias in weights[1:-2:2]]
    head = keras.layers.Dense(len(weights[-1]))
    model = keras.Sequential([keras.Input((len(weights[0]),)), *hidden, head])
    model.set_weights(weights)
    return model


class _ArraysOnly(pickle.Unpickler):
    """Unpickle arrays, and refuse whatever else a pickle may ask for."""

    def find_class(self, module: str, name: str) -> object:
        allowed = {"_reconstruct", "ndarray", "dtype", "encode"}
        if name not in allowed or module.split(".")[0] not in ("numpy", "_codecs"):
            raise pickle.UnpicklingError(f"The file asks for more than arrays: {module}.{name}")
        return super().find_class(module, name)


def landmarks_model(content: bytes) -> keras.Model:
    """Build the last network of mtcnn, O-Net (Zhang et al. 2016), whose file holds weights only."""
    file = io.BytesIO(content)
    np.lib.format.read_magic(file)
    np.lib.format.read_array_header_1_0(file)
    weights = _ArraysOnly(file, encoding="latin1").load().item()["onet"]
    image = hidden = keras.Input((48, 48, 3))
    for filters, size, pool, padding in (
        (32, 3, 3, "same"),
        (64, 3, 3, "valid"),
        (64, 3, 2, "same"),
        (128, 2, 0, ""),
    ):
        hidden = keras.layers.Conv2D(filters, size)(hidden)
        hidden = keras.layers.PReLU(shared_axes=(1, 2))(hidden)
        if pool:
            hidden = keras.layers.MaxPooling2D(pool, 2, padding=padding)(hidden)
    hidden = keras.layers.PReLU()(keras.layers.Dense(256)(keras.layers.Flatten()(hidden)))
    face = keras.layers.Dense(2, activation="softmax", name="face")(hidden)
    box = keras.layers.Dense(4, name="box")(hidden)
    points = keras.layers.Dense(10, name="points")(hidden)
    model = keras.Model(image, [face, box, points])
    model.set_weights(weights)
    return model
