import dataclasses
import sys

import keras
import pytest

import keras_dfprune as dfprune


@pytest.fixture
def plan():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(20, activation="relu", name="fc1"),
            keras.layers.Dense(12, activation="relu", name="fc2"),
            keras.layers.Dense(3, name="logits"),
        ]
    )
    return dfprune.plan(model, method="saliency")


@pytest.mark.parametrize(("name", "start"), [("a.png", b"\x89PNG"), ("a.pdf", b"%PDF")])
def test_the_ending_decides_the_format(plan, tmp_path, name, start):
    plan.plot(tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(start)


def test_every_group_is_drawn_with_its_cut_off(plan, tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: figures.append(figure))
    plan.plot(tmp_path / "a.png")
    axes = figures[0].axes
    assert len(axes) == 2 * len(plan.groups) == 4
    for group, (curve, histogram) in zip(plan.groups, [axes[:2], axes[2:]], strict=True):
        assert curve.get_title().startswith(f"{group.layer}: {group.units} -> {len(group.kept)}")
        lines = {line.get_label(): line for line in curve.lines}
        assert lines["removed"].get_xdata()[0] == len(group.removed)
        assert ("cut-off" in lines) == (group.cutoff is not None)
        assert len(histogram.patches) == 1
        if group.cutoff is not None:
            assert histogram.lines[0].get_xdata()[0] == group.cutoff


def test_without_a_histogram_the_curve_is_drawn(plan, tmp_path):
    groups = [dataclasses.replace(group, histogram=None, cutoff=None) for group in plan.groups]
    dataclasses.replace(plan, groups=tuple(groups)).plot(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 0


def test_a_plan_without_groups_is_refused(plan, tmp_path):
    with pytest.raises(ValueError, match="nothing to draw"):
        dataclasses.replace(plan, groups=()).plot(tmp_path / "a.png")


def test_without_matplotlib_it_says_what_to_install(plan, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"keras_dfprune\[plots\]"):
        plan.plot(tmp_path / "a.png")
