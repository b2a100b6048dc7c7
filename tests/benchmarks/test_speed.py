"""The benchmarks of speed run, and errors and interruptions leave models and files unchanged."""

import importlib
import itertools
import types

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from benchmarks import speed, speed_report, worst_cases
from keras_dfprune.exporting.keras_file import KerasFile
from keras_dfprune.exporting.saved_model import SavedModelFolder
from keras_dfprune.methods.moments import removal_order
from keras_dfprune.methods.saliency import saliency
from keras_dfprune.methods.saliency.neighbours import Neighbours
from keras_dfprune.report import progress
from tests.support.models import dense_chain


def test_the_benchmark_runs(capsys, tmp_path):
    results = speed.main(["--quick", "--results", str(tmp_path / "cases.json")])
    assert [case["widths"] for case in results] == [list(widths) for widths in speed.QUICK_CASES]
    assert all(case[key] > 0 for case in results for key in ("saliency", "moments", "peak"))
    assert (tmp_path / "cases.json").exists()
    shown = capsys.readouterr().out
    assert "| 64-64-10 |" in shown and "Log-log slopes over the widths: gram" in shown


def test_ratios_are_medians_over_the_rounds_of_all_processes():
    stages = ("gram", "rebuild", "rebuild and verify", "keras", "apply")
    equal = {**{stage: [1.0, 2.0] for stage in stages}, "gram64+inv": [4.0, 2.0]}
    runs = [
        {"times": {**equal, "saliency": times, "moments": [8.0, 8.0]}, "peak": peak}
        for times, peak in [([1.0, 4.0], 5), ([3.0, 14.0], 4)]
    ]
    case = speed.summary((8, 4, 2), runs)
    assert case["saliency"] == 2.5 and case["saliency in each process"] == [1.5, 5.0]
    assert case["seconds"]["saliency"] == 3.5 and case["seconds"]["gram"] == 1.5
    assert case["verify"] == 0 and case["rebuild"] == 1 and case["peak"] == 5
    assert case["moments"] == 3
    assert "| 2.50 (1.50 to 5.00) |" in speed_report.table([case])
    assert "| 1.50 |" in speed_report.table([speed.summary((8, 4, 2), runs[:1])])


def test_the_report_replaces_what_is_between_the_markers(tmp_path):
    pytest.importorskip("matplotlib")
    for folder in ("images", "research"):
        (tmp_path / folder).mkdir()
    page = tmp_path / "research" / "speed.md"
    markers = (speed_report.BEGIN, speed_report.END)
    page.write_text("before {} old {} after".format(*markers))
    case = {"widths": [4, 4, 2], "seconds": {"gram": 1.0}}
    speed_report.write("new", [case], tmp_path)
    assert page.read_text() == "before {}\nnew\n{} after".format(*markers)
    assert (tmp_path / "images" / "speed.png").stat().st_size > 0


def test_the_benchmark_multiplies_what_planning_multiplies(monkeypatch):
    shapes, original = [], saliency.weight_distances

    def recorded(parts, norms, normalize):
        shapes.append((len(norms), sum(part.shape[1] for part in parts)))
        return original(parts, norms, normalize)

    monkeypatch.setattr(saliency, "weight_distances", recorded)
    widths = (20, 12, 10, 4)
    dfprune.plan(speed.dense(widths), sparsity=0.5, method="saliency")
    assert shapes == [sets.shape for sets in speed.planned_weight_sets(widths, 0.5)]


def test_the_worst_cases_run(capsys):
    ratios = worst_cases.main(["--width", "40", "--rounds", "1"])
    assert list(ratios) == list(worst_cases.kernels(2)) and ratios["random"] == 1
    assert "| hub |" in capsys.readouterr().out


def test_the_hub_is_the_nearest_unit_of_all_others():
    sets = worst_cases.kernels(30)["hub"].T
    sets = sets / np.linalg.norm(sets, axis=1, keepdims=True)
    cosines = sets @ sets.T - 2 * np.eye(30)  # no unit is its own neighbour
    assert np.all(cosines.argmax(axis=1)[1:] == 0)


@pytest.mark.parametrize("error", [MemoryError, "tensorflow"])
def test_the_error_says_how_much_memory_a_layer_needs(monkeypatch, error):
    if error == "tensorflow":
        error = speed.tf.errors.ResourceExhaustedError(None, None, "too large")

    def run_out(*arguments, **options):
        raise error

    monkeypatch.setattr(removal_order, "greedy_order", run_out)
    model = dense_chain([1000, 3])
    with pytest.raises(MemoryError, match=r"0\.1 GB for the 1000 units of layer 'fc1'"):
        dfprune.plan(model, sparsity=0.5, method="moments")


def set_clock(monkeypatch, step):
    """Make each reading of the clock by the progress bars `step` seconds later than the last."""
    readings = itertools.count(step=step)
    monkeypatch.setattr(progress, "time", types.SimpleNamespace(monotonic=readings.__next__))


def test_progress_names_the_stage_after_a_second(monkeypatch, capsys):
    model = dense_chain([16, 8, 3])
    set_clock(monkeypatch, step=0.0)
    dfprune.apply(model, sparsity=0.5, verbose=1)
    assert "layer, pruning" not in capsys.readouterr().out
    set_clock(monkeypatch, step=1.1)
    dfprune.apply(model, sparsity=0.5, method="saliency", verbose=1)
    shown = capsys.readouterr().out
    for stage in ("pruning", "rebuilding", "verifying"):
        assert f"layer, {stage}" in shown
    assert "tile, comparing units" in shown
    dfprune.plan(model, sparsity=0.5, verbose=1).apply(model)
    assert "layer, merging" in capsys.readouterr().out
    dfprune.plan(model, max_params=200, verbose=1)
    shown = capsys.readouterr().out
    assert "layer, scoring" in shown and "unit, removing units" in shown
    dfprune.plan(model, tolerance=1.0, verbose=1)
    assert "trial, searching the budget" in capsys.readouterr().out
    dfprune.apply(model, max_params=200)
    assert capsys.readouterr() == ("", "")


STEPS = {
    "planning": (Neighbours, "nearest"),
    "rebuilding": (importlib.import_module("keras_dfprune.rebuild.rebuild"), "restore_settings"),
    "verifying": (importlib.import_module("keras_dfprune.verify.verify"), "edit_twin"),
}


@pytest.mark.parametrize("step", STEPS)
def test_an_interruption_leaves_the_model_as_it_was(monkeypatch, step):
    model = dense_chain([16, 8, 3])
    model.compile("adam", "mse")
    before, reached = [weight.copy() for weight in model.get_weights()], []

    def interrupted(*arguments):
        reached.append(step)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(*STEPS[step], interrupted)
        with pytest.raises(KeyboardInterrupt):
            dfprune.apply(model, sparsity=0.5, method="saliency")
    assert reached
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)
    assert dfprune.apply(model, sparsity=0.5).layers[0].units == 8


@pytest.mark.parametrize("name", ["old.keras", "saved"])
def test_an_interrupted_export_leaves_the_files_as_they_were(monkeypatch, tmp_path, name):
    model = dense_chain([8, 3])
    dfprune.export(model, tmp_path / name)
    contents = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    file_format = KerasFile if name.endswith("keras") else SavedModelFolder

    def interrupted(self, source, path, inputs):
        assert path.exists() and path.parent != tmp_path
        raise KeyboardInterrupt

    monkeypatch.setattr(file_format, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        dfprune.export(keras.models.clone_model(model), tmp_path / name)
    left = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == contents
