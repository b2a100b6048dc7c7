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
    half = rows[1]
    assert half.name == "max_params=0.5"
    assert pruned.count_params() == half.parameters <= rows[0].parameters / 2
    assert (output / "pruned.tflite").stat().st_size == half.litert_bytes


def test_the_rows_are_true(rows):
    trained, half, no_budget, small, with_rows, paper, *_ = rows
    assert trained.units == (256, 256)
    assert trained.parameters == 64 * 256 + 256 + 256 * 256 + 256 + 256 * 10 + 10
    assert trained.accuracy > 0.8
    assert half.litert_bytes < 0.55 * trained.litert_bytes
    assert no_budget.parameters < trained.parameters and no_budget.measured <= 0.02
    assert abs(half.accuracy - trained.accuracy) < 0.02
    assert half.true_change < paper.true_change
    for row in (small, with_rows):
        assert 0.04 < row.parameters / trained.parameters <= 0.05
        assert row.true_change > half.true_change


def test_the_table_is_aligned():
    trained = demo.Row("trained", 0.5, (256, 256), 85_002, None, None, 341_880)
    half = demo.Row("half", 0.5, (256, 96), 42_282, 0.0048, 0.00146, 171_000)
    lines = demo.table([trained, half]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[2].split() == ["trained", "0.5000", "256-256", "85,002", "341,880"]
    cells = lines[3].split()
    assert cells == ["half", "0.5000", "256-96", "42,282", "0.48", "%", "0.15", "%", "171,000"]


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
