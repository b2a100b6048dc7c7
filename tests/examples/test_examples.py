"""Every example runs in its small form and prints what it should."""

import importlib.util
import json
import pathlib

import keras
import pytest

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"


def run(name, *arguments):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main(["--quick", *map(str, arguments)])


def test_every_example_is_run_here():
    pages = EXAMPLES.parent / "docs" / "tutorials"  # tests/docs/test_tutorials.py runs these
    tutorials = {path.stem for path in pages.glob("*.txt")}
    names = {path.stem for path in EXAMPLES.glob("*.py")} - tutorials
    assert names == {"quickstart", "callback", "export_tflite", "lenet_mnist",
                     "report"}  # fmt: skip


def test_quickstart(capsys):
    run("quickstart")
    out = capsys.readouterr().out
    assert "held-out part of 200 rows" in out
    assert "pruned: accuracy" in out
    assert "trained on: accuracy" in out


def test_callback(tmp_path, capsys):
    run("callback", "--output", tmp_path / "pruned.keras")
    pruned = keras.saving.load_model(tmp_path / "pruned.keras")
    assert pruned.get_layer("fc1").units == 128
    assert f"{pruned.count_params():,} parameters" in capsys.readouterr().out


def test_report(tmp_path, capsys):
    pytest.importorskip("jinja2")
    path = tmp_path / "report.html"
    run("report", "--output", path)
    page = path.read_text(encoding="utf-8")
    assert "max_params=0.5" in page and page.count("<details") == 2
    values = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert values["parameters"][0] == 85_002 and values["parameters"][1] <= 42_501
    assert f"{path}: {path.stat().st_size:,} bytes" in capsys.readouterr().out


def test_export_tflite(tmp_path, capsys):
    pytest.importorskip("ai_edge_litert")
    run("export_tflite", "--output", tmp_path)
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert len(sizes) == 8
    for kind in ("float32", "dynamic", "float16", "int8"):
        assert sizes[f"pruned-{kind}.tflite"] < sizes[f"trained-{kind}.tflite"] / 2
    assert capsys.readouterr().out.count("accuracy") == 8


def test_lenet_mnist(tfds_data_dir, tmp_path, capsys):
    file = tmp_path / "lenet.keras"
    rows = run("lenet_mnist", "--data-dir", tfds_data_dir, "--model", file)
    assert [row[0] for row in rows] == [0, 200, 400, 490]
    assert rows[0][1] == rows[0][2] > 0.5
    assert keras.saving.load_model(file).count_params() == 431_080
    again = run("lenet_mnist", "--data-dir", tfds_data_dir, "--model", file)
    assert again == rows
