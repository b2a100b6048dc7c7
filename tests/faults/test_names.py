"""Names and paths that are hard to handle, from a model to all of its files."""

import re

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from keras_dfprune.exporting.result import ExportError
from tests.support.writers import WRITERS, X

NAMES = ["<b>&\"'`", "x" * 300, "Schicht ü 層 🙂", "$x$ {y} %s %(z)d \\n -*[0]"]
FOLDERS = ["with 'quotes' and \"more\"", "spaces  and ü 層 🙂", "-$x {y} %s [0]* #?&"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_paths(folder, tmp_path):
    place = tmp_path / folder
    place.mkdir()
    for writer in WRITERS:
        path = place / f"{folder} {writer.name}"
        if writer.name == "export" and "*" in folder:
            with pytest.raises(ValueError, match="for a pattern of several files"):
                writer.write(path, False)
        elif writer.name not in ("export.tflite", "plot.png"):
            writer.write(path, False)
            writer.read(path)
    assert not any(path.name.endswith(".unfinished") for path in place.rglob("*"))


def test_a_file_name_as_long_as_a_name_may_be(tmp_path):
    for writer in WRITERS:
        if writer.name in ("plan.npz", "export.keras"):
            path = tmp_path / ("ü" * 120 + writer.name)
            writer.write(path, False)
            writer.read(path)
            assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
            path.unlink()


def build(name):
    """Build a model whose names are hard. Keras itself refuses a slash."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,), name=f"{name}0")
    hidden = keras.layers.Dense(8, "relu", name=name)(inputs)
    inner = keras.Sequential([keras.Input((8,)), keras.layers.Dense(5, "relu", name=name)])
    return keras.Model(inputs, keras.layers.Dense(3, name=f"{name}2")(inner(hidden)))


@pytest.mark.parametrize("name", NAMES)
def test_names_of_layers(name, tmp_path):
    model = build(name)
    plan = dfprune.plan(model, sparsity={name: 0.5}, data=X)
    assert len(plan.groups[0].removed) == 4
    plan.save(tmp_path / "plan.npz")
    pruned = dfprune.PruningPlan.load(tmp_path / "plan.npz").apply(model)
    assert [layer.name for layer in pruned.layers] == [layer.name for layer in model.layers]
    assert name in str(plan)
    plan.report(tmp_path / "report.html")
    assert "<b>" not in (tmp_path / "report.html").read_text("utf-8").replace("<b>Note", "")
    plan.plot(tmp_path / "plan.png")
    dfprune.export(pruned, tmp_path / "m.keras")
    if re.fullmatch(r"[A-Za-z0-9_.\\/>-]*", name):
        dfprune.export(pruned, tmp_path / "m")
    else:  # A graph of TensorFlow can't have such a name: `fit` fails, too.
        with pytest.raises(ExportError, match="is not a valid scope name"):
            dfprune.export(pruned, tmp_path / "m")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(loaded(X), pruned(X))
