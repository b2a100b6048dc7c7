"""Files made to do harm: pickles, lambdas, unsafe configs and archives that fill the memory."""

import json
import pathlib
import pickle
import zipfile

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from keras_dfprune.api.trial_file import TrialFile
from keras_dfprune.cli.load_model import load_model
from keras_dfprune.cli.rows_file import read_rows_file
from keras_dfprune.refine.checkpoint import Checkpoint, Seen
from keras_dfprune.report import archive
from tests.support.models import dense_chain


class Hostile:
    """Object that makes a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return pathlib.Path.touch, (self.marker,)


def read_checkpoint(path):
    Checkpoint(path, {}).load({}, [], Seen(0, 1.0, 0, []))


READERS = {
    "plan.npz": dfprune.PruningPlan.load,
    "refine.npz": read_checkpoint,
    "rows.npz": read_rows_file,
    "rows.npy": read_rows_file,
    "search.json": TrialFile,
    "model.keras": load_model,
    "model.h5": load_model,
    "seen.keras": dfprune.profile,
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("form", ["array", "plain"])
def test_nothing_is_unpickled(name, form, tmp_path):
    path, marker = tmp_path / name, tmp_path / "marker"
    hostile = Hostile(marker)
    if form == "plain":
        path.write_bytes(pickle.dumps(hostile))
    elif path.suffix == ".npy":
        np.save(path, np.array([hostile], dtype=object), allow_pickle=True)
    else:
        with path.open("wb") as file:
            np.savez(file, header=np.array([hostile], dtype=object))
    with pytest.raises(Exception, match=str(tmp_path)):
        READERS[name](str(path))
    assert not marker.exists()


def changed_config(source, target, change):
    """Copy a `.keras` file with another config."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.namelist():
            content = old.read(entry)
            if entry == "config.json":
                content = json.dumps(change(json.loads(content))).encode()
            new.writestr(entry, content)


@pytest.mark.parametrize("unlock", [False, True])
@pytest.mark.parametrize("reader", [load_model, dfprune.profile])
def test_no_code_of_a_model_file_runs(reader, unlock, tmp_path):
    """Not even if the config itself asks for `enable_unsafe_deserialization`."""
    marker = tmp_path / "marker"

    touch = eval(f"lambda x: (__import__('pathlib').Path({str(marker)!r}).touch(), x)[1]")
    inputs = keras.Input((3,))
    touching = keras.layers.Lambda(touch, output_shape=(3,))
    model = keras.Model(inputs, keras.layers.Dense(2, name="fc")(touching(inputs)))
    model.save(tmp_path / "source.keras")
    marker.unlink(missing_ok=True)

    def change(config):
        if unlock:
            call = {"module": "keras.config", "class_name": "function",
                    "config": "enable_unsafe_deserialization",
                    "registered_name": "enable_unsafe_deserialization"}  # fmt: skip
            for layer in config["config"]["layers"]:
                if layer["config"]["name"] == "fc":
                    layer["config"]["kernel_initializer"] = call
            config["config"]["layers"].insert(1, config["config"]["layers"].pop())
        return config

    changed_config(tmp_path / "source.keras", tmp_path / "model.keras", change)
    with pytest.raises(Exception, match="lambda|Lambda|load|needs 'function'"):
        reader(str(tmp_path / "model.keras"))
    assert not marker.exists()


def bomb(path, name):
    """Write an archive with an entry that packs to a thousandth."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr(name, bytes(2 * 10**6))


@pytest.mark.parametrize("name", ["plan.npz", "refine.npz", "rows.npz", "model.keras"])
def test_an_archive_that_would_fill_the_memory_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "_MOST_BYTES", 10**6)  # a GB
    monkeypatch.setattr(np, "load", lambda *rest, **further: pytest.fail("it was opened"))
    monkeypatch.setattr(keras.saving, "load_model", lambda *_, **__: pytest.fail("it was opened"))
    bomb(tmp_path / name, "header.npy")
    with pytest.raises(Exception, match="it unpacks from|is no checkpoint"):
        READERS[name](str(tmp_path / name))


def test_a_model_whose_weights_claim_to_be_huge_is_an_error(tmp_path):
    import h5py

    model = dense_chain([4, 3])
    model.save_weights(tmp_path / "m.weights.h5")
    with h5py.File(tmp_path / "m.weights.h5", "r+") as file:
        names = []
        file.visititems(lambda name, item: names.append(name) if hasattr(item, "shape") else None)
        del file[names[0]]
        file.create_dataset(names[0], (10**6, 10**6), "float32", chunks=(1000, 1000))
    model.save(tmp_path / "source.keras")
    with zipfile.ZipFile(tmp_path / "source.keras") as old:
        with zipfile.ZipFile(tmp_path / "model.keras", "w") as new:
            for entry in old.namelist():
                huge = (tmp_path / "m.weights.h5").read_bytes()
                new.writestr(entry, huge if entry.endswith(".h5") else old.read(entry))
    with pytest.raises(Exception, match="can't read a Keras model"):
        load_model(str(tmp_path / "model.keras"))
