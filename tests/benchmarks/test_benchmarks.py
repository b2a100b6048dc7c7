"""The benchmarks train networks once, resume their measurements and write their tables."""

import numpy as np
import pytest

import keras_dfprune as dfprune
from benchmarks import accuracy, kinds_accuracy, nets, recurrent, residual
from benchmarks.accuracy_report import BEGIN, END, write
from benchmarks.baselines import Ward, folded


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("lenet5", 431_080),
        ("lenet300", 266_610),
        ("gelu", 266_610),
        ("alexnet", 282_050),
        ("digits", 85_002),
        ("resnet", 176_090),
    ],
)
def test_parameters(name, parameters):
    assert nets.NETS[name].build().count_params() == parameters


def test_verification_of_a_recurrent_model_is_timed():
    result = recurrent.measure("GRU", 3, rounds=1)
    assert result["layer"] == "GRU" and result["one call, s"] > 0


@pytest.mark.parametrize(
    ("kind", "least"),
    [("GRU", 0.0), ("transposed convolutions", -100.0)],  # accuracies, shares of the variance
)
def test_scores_of_layers_of_one_kind_are_measured(kind, least):
    pytest.importorskip("sklearn")
    result = kinds_accuracy.measure(kind, 0, epochs=1, cuts=(0.3,))
    names = ("whole", "moments 30%", "moments, data 30%", "saliency 30%", "smallest 30%")
    assert all(least < result[name] < 1 for name in names)


def test_trained_once(tmp_path):
    pytest.importorskip("sklearn")
    model = nets.trained("digits", "digits", 0, tmp_path, quick=True)
    again = nets.trained("digits", "digits", 0, tmp_path, quick=True)
    for first, second in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)
    assert [file.name for file in tmp_path.iterdir()] == ["digits-digits-0-quick.keras"]
    _, test = nets.load_data("digits")
    assert nets.accuracy(again, test) > 50.0


def test_data_is_never_downloaded(tmp_path):
    with pytest.raises(FileNotFoundError, match="TFDS_DATA_DIR"):
        nets.load_data("mnist", str(tmp_path))


def test_unknown_networks(tmp_path):
    with pytest.raises(ValueError, match="dataset='mnist'"):
        nets.trained("digits", "mnist", 0, tmp_path)


def without_seconds(lines):
    return [line.rsplit(",", 1)[0] for line in lines]


def test_accuracy_resumes_and_reports(tmp_path, capsys):
    for module in ("sklearn", "matplotlib"):
        pytest.importorskip(module)
    results = tmp_path / "cells.csv"
    part = ["--quick", "--cache", tmp_path, "--nets", "digits-digits", "--seeds", 0]
    part += ["--results", results, "--methods", "smallest weights", "smallest products", "Ward"]
    accuracy.main(list(map(str, part)))
    assert capsys.readouterr().out.count("digits digits 0") == 1 + 3 * 6
    whole = results.read_text().splitlines()
    results.write_text("\n".join(whole[:10]) + "\n")
    accuracy.main(list(map(str, part)))
    assert capsys.readouterr().out.count("digits digits 0") == 10
    rows = accuracy.read(results)
    assert without_seconds(results.read_text().splitlines()) == without_seconds(whole)
    page = tmp_path / "research" / "accuracy.md"
    page.parent.mkdir()
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write(rows, tmp_path)
    text = page.read_text()
    assert text.startswith("before") and text.endswith("after\n") and "old" not in text
    best = max(
        row["accuracy"]
        for row in rows
        if row["fraction"] == 0.5 and row["method"].startswith("smallest")
    )
    line = next(line for line in text.splitlines() if line.startswith("| smallest"))
    assert line.split(" | ")[2] == f"{best:.1f}"
    assert (tmp_path / "images" / "accuracy.png").exists()


def test_ward_gives_a_cluster_its_members_mean():
    """Two clusters of units of equal direction become two units that compute the same."""
    keras = nets.keras
    generator = np.random.default_rng(0)
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(6, "relu", name="fc1"), keras.layers.Dense(2)]
    )
    directions = generator.normal(size=(4, 2))
    sets = directions[:, [0, 0, 0, 1, 1, 1]] * np.array([1.0, 1.1, 1.2, 2.0, 2.1, 2.2])
    rows = generator.normal(size=(2, 2))[[0, 0, 0, 1, 1, 1]]
    model.layers[0].set_weights([sets[:3], sets[3]])
    model.layers[1].set_weights([rows, np.zeros(2)])
    plan = dfprune.plan(model, method=Ward(), sparsity=4 / 6)
    narrow = folded(model, plan)
    assert narrow.get_layer("fc1").units == 2
    inputs = generator.normal(size=(20, 3)).astype("float32")
    np.testing.assert_allclose(narrow(inputs), model(inputs), atol=1e-5)


@pytest.mark.slow
def test_residual_quick(tmp_path, capsys, monkeypatch):
    pytest.importorskip("tensorflow_datasets")
    monkeypatch.setattr(residual, "FRACTIONS", (0.3,))
    methods = {
        "smallest norm": residual.METHODS["smallest norm"],
        "moments": lambda seed: dfprune.Moments(found_inputs=0),  # the search takes minutes
    }
    monkeypatch.setattr(residual, "METHODS", methods)
    try:
        results = residual.main(["--quick", "--seeds", "1", "--cache", str(tmp_path)])
    except FileNotFoundError as missing:
        pytest.skip(str(missing))
    inside, everywhere = (
        results[residual.Cell(filters, "moments", 0.3)][0].parameters
        for filters in (residual.INSIDE, residual.ALL)
    )
    assert everywhere < inside < 176_090
    assert capsys.readouterr().out.count("| smallest norm |") == 2
