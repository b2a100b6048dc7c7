"""The picture of a plan: one curve for each group, in its own measure, and its histogram."""

import dataclasses
import sys
import tempfile

import keras
import numpy as np
import pytest
from matplotlib.figure import Figure

import keras_dfprune as dfprune
from keras_dfprune.planning.group_plan import PREDICTED
from keras_dfprune.report.curves import curve_costs

METHODS = ["saliency", "moments"]


def planned(method, **arguments):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(20, activation="relu", name="fc1"),
            keras.layers.Dense(12, activation="relu", name="fc2"),
            keras.layers.Dense(3, name="logits"),
        ]
    )
    return dfprune.plan(model, method=method, **arguments)


@pytest.fixture
def plan():
    return planned("saliency")


def drawn(plan, monkeypatch):
    """Return the axes of a plan's picture."""
    figures = []

    def keep(figure, path, **_):
        figures.append(figure)
        path.touch()

    monkeypatch.setattr(Figure, "savefig", keep)
    with tempfile.TemporaryDirectory() as folder:
        plan.plot(f"{folder}/a.png")
    return figures[0].axes


def with_groups(plan, edit):
    return dataclasses.replace(plan, groups=tuple(map(edit, plan.groups)))


def with_curve(group, **changes):
    return dataclasses.replace(group, curve=dataclasses.replace(group.curve, **changes))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("name", "start"), [("a.png", b"\x89PNG"), ("a.pdf", b"%PDF")])
def test_the_ending_decides_the_format(method, tmp_path, name, start):
    planned(method, sparsity=0.5).plot(tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(start)


def test_every_group_is_drawn_with_its_cut_off(plan, monkeypatch):
    axes = drawn(plan, monkeypatch)
    assert len(axes) == 2 * len(plan.groups) == 4
    for group, (curve, histogram) in zip(plan.groups, [axes[:2], axes[2:]], strict=True):
        assert curve.get_title().startswith(f"{group.layer}: {group.units} -> {len(group.kept)}")
        assert curve.get_ylabel() == "saliency"
        lines = {line.get_label(): line for line in curve.lines}
        assert lines["removed"].get_xdata()[0] == len(group.removed)
        np.testing.assert_array_equal(lines["cost"].get_ydata(), group.curve.costs)
        assert ("cut-off" in lines) == (group.cutoff is not None)
        assert len(histogram.patches) == 1
        if group.cutoff is not None:
            assert histogram.lines[0].get_xdata()[0] == group.cutoff


def test_expected_changes_are_drawn_over_the_variance_and_without_histograms(monkeypatch):
    plan = planned("moments", sparsity=0.5)
    axes = drawn(plan, monkeypatch)
    assert len(axes) == len(plan.groups) == 2
    for group, curve in zip(plan.groups, axes, strict=True):
        assert " ".join(curve.get_ylabel().split()) == f"{PREDICTED}, over the variance"
        lines = {line.get_label(): line for line in curve.lines}
        assert lines["removed"].get_xdata()[0] == len(group.removed) > 0
        costs = lines["cost"].get_ydata()
        np.testing.assert_allclose(costs, group.curve.costs / group.curve.scale)


def test_other_costs_are_not_divided():
    group = planned("saliency", sparsity=0.5).groups[0]
    costs, measure = curve_costs(with_curve(group, scale=7.0).curve)
    np.testing.assert_array_equal(costs, group.curve.costs)
    assert measure == "saliency"


def test_only_groups_with_a_histogram_get_a_panel(plan, monkeypatch):
    first, second = plan.groups
    mixed = dataclasses.replace(plan, groups=(first, with_curve(second, histogram=None)))
    assert len(drawn(mixed, monkeypatch)) == 3
    none = with_groups(plan, lambda group: with_curve(group, histogram=None))
    assert len(drawn(none, monkeypatch)) == 2


def test_a_dollar_sign_in_a_name_is_no_formula(plan, tmp_path):
    named = with_groups(plan, lambda group: dataclasses.replace(group, layer=r"$\x$"))
    with_groups(named, lambda group: with_curve(group, measure=r"$\y$")).plot(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 0


def test_removals_that_change_nothing_are_marked(plan, monkeypatch):
    free = with_groups(plan, lambda group: with_curve(group, lossless=2))
    assert [axes.patches[0].get_label() for axes in drawn(free, monkeypatch)[::2]] == [
        "changes nothing"
    ] * 2


def test_a_plan_without_groups_is_refused(plan, tmp_path):
    with pytest.raises(ValueError, match="nothing to draw"):
        dataclasses.replace(plan, groups=()).plot(tmp_path / "a.png")


def test_without_matplotlib_it_says_what_to_install(plan, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"keras_dfprune\[plots\]"):
        plan.plot(tmp_path / "a.png")
