"""The speed benchmark in its small form, and an interruption while planning."""

import numpy as np
import pytest

import keras_dfprune as dfprune
from benchmarks import speed
from keras_dfprune.methods.neighbours import Neighbours
from tests.models import dense_chain


def test_the_benchmark_runs(capsys, tmp_path):
    found = speed.main(["--quick", "--results", str(tmp_path / "cases.json")])
    assert [one["widths"] for one in found][-1] == [96, 64, 64, 10]
    assert all(one["saliency"] > 0 and one["moments"] > 0 and one["peak"] > 0 for one in found)
    assert (tmp_path / "cases.json").exists()
    shown = capsys.readouterr().out
    assert "| 64-64-10 |" in shown and "Log-log slopes over the widths: gram" in shown


def test_the_benchmark_multiplies_what_planning_multiplies(monkeypatch):
    seen, rows = [], dfprune.methods.distances.PairDistances.__init__

    def watched(self, sets, norms):
        seen.append(sets.shape)
        rows(self, sets, norms)

    monkeypatch.setattr(dfprune.methods.distances.PairDistances, "__init__", watched)
    widths = (20, 12, 10, 4)
    dfprune.plan(speed.dense(widths), sparsity=0.5)
    assert seen == [one.shape for one in speed.seen_sets(widths, 0.5)]


def test_an_interruption_leaves_the_model_as_it_was(monkeypatch):
    model = dense_chain([16, 8, 3])
    before, refills = [one.copy() for one in model.get_weights()], []

    def interrupted(*arguments):
        refills.append(arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Neighbours, "nearest", interrupted)
        with pytest.raises(KeyboardInterrupt):
            dfprune.apply(model, sparsity=0.5)
    assert refills
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert dfprune.apply(model, sparsity=0.5).layers[0].units == 8
