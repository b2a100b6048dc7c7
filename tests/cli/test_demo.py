import sys

import keras
import pytest

from keras_dfprune.cli import demo
from keras_dfprune.cli.main import main


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    return tmp_path_factory.mktemp("demo") / "results"


@pytest.fixture(scope="module")
def rows(output):
    return demo.run(output, quick=True)


def test_it_writes_the_pruned_model_in_three_formats_and_a_picture(rows, output):
    names = {path.name for path in output.iterdir()}
    assert names == {"pruned.keras", "saved_model", "pruned.tflite", "saliency.png"}
    pruned = keras.saving.load_model(output / "pruned.keras")
    automatic = rows[1]
    assert automatic.name == "automatic"
    assert pruned.count_params() == automatic.parameters < rows[0].parameters
    assert (output / "pruned.keras").stat().st_size == automatic.keras_bytes
    assert (output / "pruned.tflite").stat().st_size == automatic.litert_bytes


def test_the_rows_are_true(rows):
    trained, _, half, moments = rows
    assert trained.units == (256, 256)
    assert trained.parameters == 64 * 256 + 256 + 256 * 256 + 256 + 256 * 10 + 10
    assert trained.accuracy > 0.8
    assert half.units == moments.units == (128, 128)
    assert half.litert_bytes < trained.litert_bytes / 2
    assert moments.accuracy > trained.accuracy - 0.05


def test_the_table_is_aligned():
    row = demo.Row("trained", 0.5, (256, 256), 85_002, 358_433, 341_880)
    lines = demo.table([row, row]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[2].split() == ["trained", "0.5000", "256-256", "85,002", "358,433", "341,880"]


@pytest.mark.parametrize(
    ("module", "extra"), [("sklearn.datasets", "demo"), ("matplotlib", "plots")]
)
def test_one_line_says_what_to_install(monkeypatch, tmp_path, capsys, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    assert main(["demo", "--output", str(tmp_path / "results")]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert f'pip install "keras_dfprune[{extra}]"' in captured.err
    assert list(tmp_path.iterdir()) == []
