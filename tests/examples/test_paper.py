"""The scripts of the paper's figures and tables run in their small form, with right results."""

import csv
import dataclasses

import numpy as np
import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")

from benchmarks import nets  # noqa: E402
from examples.paper import (  # noqa: E402
    alexnet,
    figure1,
    figure2,
    figure3,
    figure4,
    links,
    table1,
    table2,
    table2_small,
)
from examples.paper.__main__ import SCRIPTS, main  # noqa: E402
from examples.paper.second_order import SmallNet, brain_damage, brain_surgeon  # noqa: E402
from examples.paper.settings import Settings  # noqa: E402


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("paper")
    return Settings(output=folder, quick=True, seeds=(0, 1), cache=folder / "trained")


@pytest.fixture
def net():
    rng = np.random.default_rng(0)
    return SmallNet((3, 4, 2), rng.standard_normal(3 * 4 + 4 + 4 * 2 + 2))


def read(path):
    with open(path, encoding="utf-8") as file:
        return list(csv.reader(file))


def test_list_names_every_script(capsys):
    main(["list"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(SCRIPTS)


def test_an_unknown_name_is_an_error(capsys):
    with pytest.raises(SystemExit):
        main(["run", "figure9"])
    assert "figure9" in capsys.readouterr().err


def test_run_makes_the_folder_and_prints_what_it_writes(tmp_path, capsys):
    main(["run", "figure1", "--quick", "--output", str(tmp_path / "new")])
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"figure1.png", "figure1.csv"}
    assert "figure1.png" in capsys.readouterr().out


def test_equal_weight_sets_merge_without_a_change(settings):
    change = figure1.run(settings)
    assert change["with the surgery"] < 1e-6
    assert change["without"] > 0.1


def test_links(settings):
    results = links.run(settings)
    assert results["limits"][-1][1] == pytest.approx(1.0, rel=1e-3)
    assert abs(results["limits"][0][1] - 1.0) > 0.1
    for name, factor in (("linear", 0.5), ("relu", 0.25)):
        small, obd = results["damage"][name]
        np.testing.assert_allclose(obd / small, factor, rtol=0.15)  # 2,000 draws
    names = [name for name, *_ in results["lemma"]]
    assert {"relu", "tanh", "gelu"} <= set(names) and "exponential" not in names
    assert all(0.9 < ratio <= 1 + 1e-6 for *_, ratio in results["lemma"])


def test_the_hessian_is_the_gauss_newton_hessian(net):
    x = np.random.default_rng(1).standard_normal((5, 3))
    everything = np.arange(len(net.weights))
    hessian = sum(factor.T @ factor for factor in net.factors(x, everything))
    expected = np.zeros_like(hessian)
    step = 1e-6
    for row in x[:, None, :]:
        shifted = [SmallNet(net.sizes, net.weights + step * e) for e in np.eye(len(everything))]
        jacobian = np.array([(n.logits(row) - net.logits(row))[0] / step for n in shifted]).T
        p = np.exp(net.logits(row)[0])
        p /= p.sum()
        expected += jacobian.T @ (np.diag(p) - np.outer(p, p)) @ jacobian / len(x)
    np.testing.assert_allclose(hessian, expected, atol=1e-5)


def test_obs_reaches_the_minimum_over_the_remaining_weights(net):
    x = np.random.default_rng(1).standard_normal((40, 3))
    everything = np.arange(len(net.weights))
    hessian = sum(factor.T @ factor for factor in net.factors(x, everything))
    inverse = np.linalg.inv(hessian + 1e-4 * np.eye(len(everything)))
    (sparse,) = brain_surgeon(net, x, [6], rounds=1)
    gone = np.flatnonzero(sparse.weights == 0)
    assert len(gone) == 6
    step = np.linalg.solve(inverse[np.ix_(gone, gone)], net.weights[gone])
    np.testing.assert_allclose(sparse.weights, net.weights - inverse[:, gone] @ step, atol=1e-8)


def test_obd_removes_the_weights_that_the_diagonal_names(net):
    x = np.random.default_rng(1).standard_normal((40, 3))
    everything = np.arange(len(net.weights))
    hessian = sum(factor.T @ factor for factor in net.factors(x, everything))
    saliency = np.diag(hessian) * net.weights**2
    whole, sparse = brain_damage(net, x, [0, 6])
    np.testing.assert_array_equal(whole.weights, net.weights)
    gone = set(np.flatnonzero(sparse.weights == 0))
    assert gone == set(np.argsort(saliency)[:6])


@pytest.fixture
def spambase(tmp_path):
    rng = np.random.default_rng(0)
    table = np.round(rng.exponential(size=(60, 58)), 2)
    table[:, -1] = table[:, 0] > 0.7
    np.savetxt(tmp_path / "spambase.data", table, delimiter=",", fmt="%g")
    return tmp_path / "spambase.data"


def test_figure3_compares_four_methods_on_three_data_sets(settings, spambase):
    results = figure3.run(dataclasses.replace(settings, seeds=(0,), spambase=spambase))
    assert list(results) == ["breast cancer", "digits", "spambase"]
    for result in results.values():
        counts, errors = zip(*result.curves.values(), strict=True)
        assert [count[0] for count in counts] == [0] * 4
        starts = [error[0, 0] for error in errors]
        assert starts == pytest.approx([starts[0]] * 4)
    weights_removed = (57 + 1 + 2) * np.arange(6)  # unit by unit
    np.testing.assert_array_equal(results["spambase"].curves["ours, raw"][0], weights_removed)
    assert (settings.output / "figure3.png").exists()


def test_a_file_that_is_not_spambase_is_an_error(tmp_path):
    np.savetxt(tmp_path / "a.data", np.ones((3, 5)), delimiter=",")
    with pytest.raises(ValueError, match="5 columns"):
        figure3.read_spambase(tmp_path / "a.data")


def test_curves_over_removals(settings):
    growth = figure2.run(settings)
    assert all(values[0] == 0 and values[-1] > 10 for values in growth.values())
    errors = figure4.run(dataclasses.replace(settings, seeds=(0,)))
    assert np.array_equal(errors["with surgery"][0], errors["without surgery"][0])
    assert len(read(settings.output / "figure4.csv")) == 1 + 3
    assert len(read(settings.output / "figure2b.csv")) == 1 + 50


def test_table1(settings):
    rows = table1.run(settings)
    whole = rows[0]
    assert whole.removed == (0, 0) and whole.compression == (0.0, 0.0)
    assert len({whole.accuracy[name] for name in table1.METHODS}) == 1
    half = next(row for row in rows if row.removed == (128, 128))
    assert half.compression[0] == pytest.approx(100 * (1 - (65 * 128 + 129 * 256 + 2570) / 85_002))
    assert [row for row in rows if row.label.startswith("automatic")]
    lines = read(settings.output / "table1.csv")
    assert len(lines) == 1 + len(rows) and "paper's accounting [%]" not in lines[0]


def test_the_accounting_of_the_paper():
    assert table1.papers_compression(420) == pytest.approx(83.52, abs=0.005)


def test_table2_small(settings, monkeypatch):
    rng = np.random.default_rng(0)
    split = nets.Split(rng.random((64, 28, 28, 1), np.float32), np.arange(64) % 10)
    monkeypatch.setattr(nets, "load_data", lambda *_: (split, split))
    rows = table2_small.run(dataclasses.replace(settings, seeds=(0,)))
    assert [row[:2] for row in rows] == [[name, "128 of 256"] for name in table2_small.LAYERS]
    left = (577 * 128 + 129 * 128 + 129 * 10) / (577 * 256 + 257 * 256 + 257 * 10)
    assert float(rows[2][2]) == pytest.approx(100 * (1 - left) * 216_074 / 282_050, abs=0.1)


def test_alexnet_at_full_size_has_61_million_parameters():
    model = alexnet.alexnet()
    assert model.count_params() == 60_965_224
    convolutions = [layer for layer in model.layers if layer.name.startswith("conv")]
    assert sum(layer.count_params() for layer in convolutions) == alexnet.CONVOLUTIONS
    assert alexnet.head().count_params() == 60_965_224 - alexnet.CONVOLUTIONS


def test_table2_with_weights_and_imagenet(settings, tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")
    model = alexnet.alexnet(16)
    names = [layer.name for layer in model.layers if layer.get_weights()]
    arrays = {}
    for name in names:
        kernel, bias = model.get_layer(name).get_weights()
        arrays |= {f"{name}/kernel": kernel, f"{name}/bias": bias}
    np.savez(tmp_path / "weights.npz", **arrays)
    quick = dataclasses.replace(settings, weights=tmp_path / "weights.npz", imagenet=str(tmp_path))
    with tfds.testing.mock_data(num_examples=4):
        rows = table2.run(quick)
    assert [row[1:3] for row in rows[:4]] == [[256, 256], [128, 256], [256, 128], [128, 128]]
    assert all(0.0 <= float(row[-2]) <= 100.0 for row in rows)
    total, last = (int(rows[k][3].replace(",", "")) for k in (0, -1))
    assert last <= 0.65 * total
    del arrays["fc7/bias"]
    np.savez(tmp_path / "less.npz", **arrays)
    with pytest.raises(ValueError, match="lacks fc7/bias"):
        alexnet.load_weights(model, tmp_path / "less.npz")
