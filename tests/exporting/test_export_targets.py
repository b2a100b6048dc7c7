"""Only old exports are replaced, and a failure leaves them as they were."""

import os
import pathlib

import keras
import pytest
import tensorflow as tf

from keras_dfprune.exporting.export import export
from keras_dfprune.exporting.keras_file import KerasFile
from keras_dfprune.exporting.result import ExportError
from keras_dfprune.report import staging
from tests.support.exported import chain, content


def test_other_files_and_folders_are_not_replaced(tmp_path):
    model = chain()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("mine")
    (tmp_path / "m.keras").mkdir()
    with pytest.raises(ValueError, match="but it is a file"):
        export(model, tmp_path / "file")
    with pytest.raises(ValueError, match="notes.txt"):
        export(model, tmp_path / "folder")
    with pytest.raises(ValueError, match="folder has the name of the file"):
        export(model, tmp_path / "m.keras")
    export(model, tmp_path / "saved")
    (tmp_path / "saved" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="notes.txt"):
        export(model, tmp_path / "saved")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("name", ["m.tflite", "m.keras", "saved"])
def test_failure_leaves_the_old_file(name, tmp_path, monkeypatch):
    export(chain(8), tmp_path / name)
    before = content(tmp_path)

    def fail(*_, **__):
        raise RuntimeError("planted")

    # Each format fails after it has written something.
    monkeypatch.setattr(tf.lite.TFLiteConverter, "from_saved_model", fail)
    monkeypatch.setattr(keras.saving, "load_model", fail)
    monkeypatch.setattr(tf.saved_model, "load", fail)
    with pytest.raises(ExportError, match="planted"):
        export(chain(16), tmp_path / name)
    assert content(tmp_path) == before
    assert os.listdir(tmp_path) == [name]


def test_failing_move_brings_the_old_folder_back(tmp_path, monkeypatch):
    export(chain(8), tmp_path / "saved")
    before = content(tmp_path)
    replace = os.replace

    def fail(source, target):
        if pathlib.Path(source).name == "saved" and ".saved-" in str(source):
            raise OSError("planted")
        replace(source, target)

    monkeypatch.setattr(staging, "exchange", lambda one, other: False)  # as outside Linux
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="planted"):
        export(chain(16), tmp_path / "saved")
    assert content(tmp_path) == before and os.listdir(tmp_path) == ["saved"]


def test_old_saved_model_is_replaced(tmp_path):
    export(chain(8), tmp_path / "saved")
    result = export(chain(128), tmp_path / "saved")
    assert sum(map(len, content(tmp_path / "saved").values())) == result.bytes
    assert os.listdir(tmp_path) == ["saved"]


def test_wrong_file_is_refused(tmp_path, monkeypatch):
    other, write = chain(), KerasFile.write
    monkeypatch.setattr(KerasFile, "write", lambda self, model, path: write(self, other, path))
    with pytest.raises(ExportError, match="doesn't compute what the model computes"):
        export(chain(), tmp_path / "m.keras")
    assert os.listdir(tmp_path) == []
