"""Model files that Keras can't load: the message says why, and how to go on."""

import importlib.util
import json
import sys
import zipfile

import h5py
import keras
import numpy as np
import pytest

from tests.support.commands import fails, run

layers = keras.layers

OWN_MODULE = """
import keras


class Own(keras.layers.Layer):
    def call(self, x):
        return x


class Halves(keras.initializers.Initializer):
    def __call__(self, shape, dtype=None):
        return keras.ops.full(shape, 0.5, dtype)


def bent(x):
    return keras.ops.relu(x)
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Write a module into the current folder, and return it without importing it by its name."""
    (tmp_path / "own_layers.py").write_text(OWN_MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if folder])
    spec = importlib.util.spec_from_file_location("own_layers", tmp_path / "own_layers.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop("own_layers", None)


def chain(*middle, **arguments):
    head = layers.Dense(2, **arguments)
    return keras.Sequential([keras.Input((4,)), layers.Dense(6, "relu"), *middle, head])


def edited(path, config=None, **header):
    """Save a model as `.keras` with another config and other entries in its header."""
    chain().save(path.with_suffix(".old.keras"))
    with (
        zipfile.ZipFile(path.with_suffix(".old.keras")) as old,
        zipfile.ZipFile(path, "w") as new,
    ):
        for name in old.namelist():
            content = old.read(name)
            if name == "metadata.json":
                content = json.dumps({**json.loads(content), **header}).encode()
            if name == "config.json" and config is not None:
                content = json.dumps(config(json.loads(content))).encode()
            new.writestr(name, content)
    return path


def with_argument(config):
    config["config"]["layers"][1]["config"]["argument_of_the_future"] = 1
    return config


def of_keras_2(config):
    return {**config, "module": "keras.src.engine.functional", "class_name": "Functional"}


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda own: chain(own.Own()), "Own"),
        (lambda own: chain(activation=own.bent), "bent"),
        (lambda own: chain(layers.Lambda(own.bent)), "bent"),
        (lambda own: chain(kernel_initializer=own.Halves()), "Halves"),
    ],
)
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.filterwarnings("ignore:.*has nothing to prune")
def test_custom_objects_are_named_and_can_be_given(build, name, suffix, own, tmp_path, capsys):
    model = build(own)
    model.save(tmp_path / f"m{suffix}")
    error = fails(capsys, "inspect", f"m{suffix}")
    assert f"it needs '{name}', which Keras doesn't have" in error
    assert f"--custom-objects MODULE:{name}" in error and "config" not in error
    arguments = ("--sparsity", 0.5, "--custom-objects", f"own_layers:{name}")
    assert run("prune", f"m{suffix}", "-o", "out.keras", *arguments) == 0
    loaded = keras.saving.load_model("out.keras", custom_objects={name: getattr(own, name)})
    assert loaded(np.ones((1, 4))).shape == (1, 2)


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ("Own", "takes MODULE:NAME"),
        ("own_layers:", "takes MODULE:NAME"),
        ("nowhere_at_all:Own", "can't import nowhere_at_all:Own: No module named"),
        ("own_layers:Missing", "has no attribute 'Missing'"),
    ],
)
def test_custom_objects_that_can_t_be_imported(objects, message, own, tmp_path, capsys):
    chain().save(tmp_path / "m.keras")
    assert message in fails(capsys, "inspect", "m.keras", "--custom-objects", objects)


@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`")
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize(
    "build",
    [lambda: chain(layers.Lambda(lambda x: x + 1)), lambda: chain(activation=lambda x: x + 1)],
)
def test_code_in_a_model_file_is_not_run(build, suffix, tmp_path, capsys):
    path = tmp_path / f"code{suffix}"
    build().save(path)
    error = fails(capsys, "inspect", path)
    assert "it holds a Python lambda, and this command runs no code from a file" in error
    assert f"keras.saving.load_model('{path}', safe_mode=False)" in error


def test_files_of_weights_only(tmp_path, capsys):
    chain().save_weights(tmp_path / "m.weights.h5")
    error = fails(capsys, "inspect", tmp_path / "m.weights.h5")
    assert "it holds weights only" in error and f"load_weights('{tmp_path}/m.weights.h5')" in error
    chain().load_weights(tmp_path / "m.weights.h5")


def test_files_of_keras_2(tmp_path, capsys):
    edited(tmp_path / "old.keras", of_keras_2, keras_version="2.15.0")
    chain().save(tmp_path / "old.h5")
    with h5py.File(tmp_path / "old.h5", "a") as file:
        file.attrs["keras_version"] = "2.4.0"
        file.attrs["model_config"] = file.attrs["model_config"].replace("Dense", "TFOpLambda")
    for name, version in (("old.keras", "2.15.0"), ("old.h5", "2.4.0")):
        error = fails(capsys, "inspect", tmp_path / name)
        assert f"it was saved by Keras {version}, and Keras {keras.__version__} can't" in error
        assert f"load_weights('{tmp_path / name}')" in error and "--custom-objects" not in error
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "keras_metadata.pb").write_bytes(b'\x0a{"keras_version": "2.9.0"}')
    error = fails(capsys, "inspect", tmp_path / "saved")
    assert "is a SavedModel of Keras 2.9.0" in error and "tf_keras.models.load_model" in error


def test_files_of_a_newer_keras(tmp_path, capsys):
    path = edited(tmp_path / "new.keras", with_argument, keras_version="99.1.0")
    error = fails(capsys, "inspect", path)
    assert "{'argument_of_the_future': 1}. It was saved by Keras 99.1.0, and this is" in error
    path = edited(tmp_path / "old.keras", with_argument, keras_version="3.1.0")
    assert "argument_of_the_future': 1}\n" in fails(capsys, "inspect", path)
