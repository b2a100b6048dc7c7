"""The commands `profile` and `compare`: tables, JSON, labels and errors."""

import json

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from tests.support.commands import fails, run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a model, its LiteRT file, rows, and rows with labels."""
    folder = tmp_path_factory.mktemp("files")
    model = keras.Sequential([keras.Input((6,), name="x"), keras.layers.Dense(3)])
    dfprune.export(model, folder / "m.keras")
    dfprune.export(model, folder / "m.tflite")
    rows = np.random.default_rng(0).normal(size=(20, 6)).astype("float32")
    np.save(folder / "rows.npy", rows)
    np.savez(folder / "y.npz", x=rows, y=np.arange(20) % 3)
    np.savez(folder / "labels.npz", rows=rows, labels=np.arange(20) % 3)
    np.savez(folder / "only.npz", y=np.arange(20))
    return folder


def test_profile_prints_the_table_or_json(folder, capsys):
    assert run("profile", folder / "m.keras") == 0
    assert capsys.readouterr().out.strip() == str(dfprune.profile(folder / "m.keras"))
    assert run("profile", folder / "m.keras", "--json", "--latency") == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["parameters"], content["multiply_adds"]) == (21, 18)
    assert content["latency"]["median"] > 0


def test_compare_prints_the_table_or_json(folder, capsys):
    files = folder / "m.keras", folder / "m.tflite"
    assert run("compare", *files, "--data", folder / "rows.npy") == 0
    expected = dfprune.compare(*files, np.load(folder / "rows.npy"))
    assert capsys.readouterr().out.strip() == str(expected)
    for name in ("y.npz", "labels.npz"):
        assert run("compare", *files, "--data", folder / name, "--json") == 0
        content = json.loads(capsys.readouterr().out)
        assert content["rows"] == 20 and content["metrics"][0]["metric"] == "accuracy"


def test_mistakes_are_one_line(folder, capsys):
    files = folder / "m.keras", folder / "m.tflite"
    assert "No such file" in fails(capsys, "profile", folder / "missing.keras")
    assert "ends in .keras or .tflite" in fails(capsys, "profile", folder / "rows.npy")
    assert "required: --data" in fails(capsys, "compare", *files)
    assert "no such file" in fails(capsys, "compare", *files, "--data", folder / "no.npy")
    assert "labels 'y' only" in fails(capsys, "compare", *files, "--data", folder / "only.npz")
    bad = ("--custom-objects", "nowhere:Layer")
    assert "can't import nowhere" in fails(capsys, "profile", folder / "m.keras", *bad)
