import itertools
import time

import pytest

from keras_dfprune.report.progress import SILENT, Progress


@pytest.fixture
def seconds(monkeypatch):
    """Every look at the clock takes a second longer than the one before."""
    ticks = itertools.count()
    for clock in ("monotonic", "time"):
        monkeypatch.setattr(time, clock, lambda: next(ticks))


def test_silence(seconds, capsys):
    assert list(SILENT.over("Pruning", range(5))) == list(range(5))
    SILENT.bar("Refining", 5, "step").update(5, 0.25)
    assert capsys.readouterr().out == ""


def test_short_work_shows_no_bar(capsys):
    assert list(Progress(1).over("Pruning", "abc")) == ["a", "b", "c"]
    assert capsys.readouterr().out == ""


def test_long_work_shows_items_and_stage(seconds, capsys):
    assert list(Progress(1).over("Pruning", "abc")) == ["a", "b", "c"]
    shown = capsys.readouterr().out
    assert "3/3" in shown and "layer, pruning" in shown


def test_a_nested_bar_starts_a_new_line(seconds, capsys):
    progress = Progress(1)
    for item in progress.over("Pruning", "abcd"):
        if item == "d":
            assert list(progress.over("Comparing", range(7), "tile")) == list(range(7))
    outer, inner, rest = capsys.readouterr().out.split("\n", maxsplit=2)
    assert "layer, pruning" in outer and "comparing" not in outer
    assert "7/7" in inner and "tile, comparing" in inner and "pruning" not in inner
    assert "4/4" in rest and "layer, pruning" in rest


def test_the_difference_shown_is_the_last_and_no_average(seconds, capsys):
    bar = Progress(1).bar("Refining", 4, "step")
    for done, difference in enumerate([0.9, 0.7, 0.5, 0.25], start=1):
        bar.update(done, difference)
    shown = capsys.readouterr().out
    assert "difference: 0.5000" in shown and "difference: 0.2500" in shown
