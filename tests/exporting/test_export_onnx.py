"""ONNX files, and the errors where there can be none."""

import keras
import pytest

from keras_dfprune.exporting.export import export
from keras_dfprune.exporting.result import ExportError
from tests.support.exported import chain, content, several

layers = keras.layers


def test_onnx(tmp_path, capfd):
    pytest.importorskip("tf2onnx")
    pytest.importorskip("onnxruntime")
    for build in (chain, several):
        result = export(build(), tmp_path / "m.onnx")
        assert result.max_relative_error < 1e-5 and result.format == "onnx"
    gelu = keras.Sequential([keras.Input((3,)), layers.Dense(4, "gelu")])
    before = content(tmp_path)
    with pytest.raises(ExportError, match="gelu"):
        export(gelu, tmp_path / "m.onnx")
    assert content(tmp_path) == before
    assert capfd.readouterr().out == ""


def test_onnx_that_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'pip install "keras_dfprune\[onnx\]"'):
        export(chain(), tmp_path / "m.onnx")


def test_onnx_files_that_ask_for_more_inputs(tmp_path):
    pytest.importorskip("tf2onnx")
    pytest.importorskip("onnxruntime")
    scale = keras.layers.Normalization(mean=[0.0, 1.0], variance=[1.0, 2.0])
    model = keras.Sequential([keras.Input((2,)), scale, keras.layers.Dense(3)])
    with pytest.raises(ExportError, match=r"inputs that the model doesn't have.*as Normalization"):
        export(model, tmp_path / "m.onnx")
