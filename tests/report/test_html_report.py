"""The report of a plan as a page: its numbers, its texts escaped, its file whole or not at all."""

import base64
import html
import html.parser
import io
import os
import re
import sys

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from keras_dfprune.report import html_report
from tests.support.models import plant_copy
from tests.support.plans import HOSTILE, hostile, small_model, small_plan

pytest.importorskip("jinja2")
plt = pytest.importorskip("matplotlib.pyplot")

# Elements without an end, as HTML defines them; those of SVG are closed where they start.
VOID = {"meta", "br", "img"}


class Outline(html.parser.HTMLParser):
    """Read a page: its elements, its text, and whether every element is closed."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.ids, self.text, self.open = [], [], "", []
        self.attributes = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.text += " " if tag == "br" else ""
        self.attributes.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self.text += " " if tag in ("td", "th", "h3", "span") else ""

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data


def report_of(plan, tmp_path):
    plan.report(tmp_path / "report.html")
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def words(page):
    return " ".join(Outline(page).text.split())


@pytest.fixture
def data():
    return np.random.default_rng(0).normal(size=(64, 6)).astype(np.float32)


def test_the_numbers_of_a_plan(data, tmp_path):
    plan = small_plan(max_params=0.5, data=data, seed=3)
    text = words(report_of(plan, tmp_path))
    before, after = plan.parameters
    assert f"Parameters {before:,} {after:,} {100 * (1 - after / before):.1f} %" in text
    adds, fewer_adds = plan.multiply_adds
    assert f"Multiply-adds of one row {adds:,} {fewer_adds:,}" in text
    assert "max_params=0.5" in text and "Data 64 rows of `data`" in text and "Seed 3" in text
    for group in plan.groups:
        assert f"{group.units} → {len(group.kept)} units" in text
        assert ", ".join(map(str, group.removed)) in text
    (output,) = plan.measured
    assert f"fc3 on held-out part of 64 rows of `data` {100 * output.change:.2g} %" in text
    assert "fc3 left whole its units are an output of the model" in text


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (
            lambda: small_plan(method="saliency"),
            ["Cost of each removal: saliency.", "Pairs of units by saliency", "rule of thumb"],
        ),
        (
            lambda: small_plan(sparsity=0.5),
            ["expected squared change of the consumers' outputs, over the variance", "Predicted,"],
        ),
        (
            lambda: small_plan(max_params=0.5).at(max_params=0.3),
            ["The change at this size wasn't measured.", "max_params=0.3", "Predicted: nothing."],
        ),
        (lambda: small_plan(tolerance=0), ["No unit is removed, so nothing changes."]),
        (lambda: small_plan(sparsity=0.5, refine_steps=7), ["Recovery 7 steps", "before recovery"]),
        (lambda: dfprune.plan(small_model((3,)), sparsity=0.5), ["Nothing to prune."]),
    ],
)
def test_plans_of_every_kind(make, parts, tmp_path):
    text = words(report_of(make(), tmp_path))
    for part in parts:
        assert part in text


def test_profiles_add_bytes_memory_and_latency(tmp_path):
    model, plan = small_model(), small_plan(sparsity=0.5)
    narrow = plan.apply(model)
    profiles = dfprune.profile(model, latency=True), dfprune.profile(narrow, latency=False)
    plan.report(tmp_path / "report.html", profiles=profiles)
    text = words((tmp_path / "report.html").read_text(encoding="utf-8"))
    bytes_of_both = f"{profiles[0].bytes:,} {profiles[1].bytes:,}"
    assert f"Bytes of the weights {bytes_of_both}" in text and "Peak activation bytes" in text
    assert "LiteRT latency" not in text  # it wasn't measured behind the cut
    plan.report(tmp_path / "report.html", profiles=(profiles[0], profiles[0]))
    median = f"{profiles[0].latency.median:.3g}"
    text = words((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert f"LiteRT latency in ms (median, 1 thread) {median} {median} 0.0 %" in text
    with pytest.raises(TypeError, match="two results of keras_dfprune.profile"):
        plan.report(tmp_path / "report.html", profiles=profiles[0])


def image_model(channels):
    layers = keras.layers
    inputs = keras.Input((6, 5, channels), name="image")
    hidden = layers.Dense(7, "relu", name="read")(layers.Flatten()(inputs))
    return keras.Model(inputs, layers.Dense(3)(hidden))


@pytest.mark.parametrize(("channels", "shown"), [(1, True), (3, True), (2, False)])
def test_weights_of_images_are_pictures(channels, shown, tmp_path):
    model = image_model(channels)
    plant_copy(model.get_layer("read"), 0, 2)
    plan = dfprune.plan(model, method="saliency", tolerance=0)
    plan.report(tmp_path / "report.html", model=model)
    page = Outline((tmp_path / "report.html").read_text(encoding="utf-8"))
    pictures = [dict(values) for tag, values in page.attributes if tag == "img"]
    (group,) = plan.groups
    names = [
        f"Weights of removed unit {group.removed[0]}",
        f"Weights of kept unit {group.survivor[0]}",
    ]
    assert [image["alt"] for image in pictures] == (names if shown else [])
    if shown:
        assert pictures[0]["src"] == pictures[1]["src"]  # they are copies
        data = base64.b64decode(pictures[0]["src"].removeprefix("data:image/png;base64,"))
        pixels = plt.imread(io.BytesIO(data))
        assert pixels.shape[:2] == (48, 40)
    with pytest.raises(ValueError, match="made for another model"):
        plan.report(tmp_path / "report.html", model=image_model(channels))


def test_units_are_shown_with_those_that_replace_them(tmp_path):
    model = small_model()
    plant_copy(model.get_layer("fc1"), 0, 7)
    plan = dfprune.plan(model, tolerance=0)
    text = words(report_of(plan, tmp_path))
    (removed,), (survivor,) = plan.groups[0].removed, plan.groups[0].survivor
    assert f"{survivor} takes over for {removed}" in text
    assert "Only units are removed whose removal changes nothing." in text


def test_a_loaded_plan(data, tmp_path):
    small_plan(sparsity=0.5, data=data).save(tmp_path / "plan.npz")
    text = words(report_of(dfprune.PruningPlan.load(tmp_path / "plan.npz"), tmp_path))
    assert "Budget not known: the plan was loaded from a file" in text
    assert "Data unlabelled rows" in text and "PruningPlan.load(" in text


@pytest.mark.parametrize("method", ["saliency", "moments"])
def test_every_text_is_escaped(method, tmp_path):
    plan = hostile(small_plan(method=method, sparsity=0.5))
    page = report_of(plan, tmp_path)
    outline = Outline(page)
    assert outline.tags.count("script") == 1 and "<script>alert" not in page
    assert outline.text.count(HOSTILE) > 8
    labels = [attributes["aria-label"] for _, attributes in outline.attributes
              if "aria-label" in attributes]  # fmt: skip
    assert any(HOSTILE in label for label in labels)
    assert not any(name.startswith("on") for _, attributes in outline.attributes
                   for name in attributes)  # fmt: skip


@pytest.mark.parametrize("method", ["saliency", "moments"])
def test_nothing_is_fetched(method, tmp_path):
    page = report_of(small_plan(method=method, sparsity=0.5), tmp_path)
    assert "http://" not in page and "https://" not in page and "@import" not in page
    assert re.findall(r"url\((?!#)", page) == []
    tags = Outline(page).tags
    assert not {"img", "link", "iframe", "object", "a", "form"} & set(tags)
    assert "default-src 'none'" in page


def test_parts_are_labelled(tmp_path):
    outline = Outline(report_of(small_plan(method="saliency"), tmp_path))
    assert outline.tags.count("h1") == 1
    assert outline.tags.count("table") == outline.tags.count("caption") > 0
    assert len(set(outline.ids)) == len(outline.ids)
    for tag, attributes in outline.attributes:
        if tag == "svg":
            assert attributes["role"] == "img" and attributes["aria-label"]
        if tag == "th":
            assert attributes["scope"] in ("row", "col")
        if tag == "details":
            assert "open" in attributes  # a script closes them: without one nothing is hidden


def test_the_same_plan_gives_the_same_file(tmp_path):
    plan = small_plan(method="saliency")
    assert report_of(plan, tmp_path) == report_of(plan, tmp_path)


def test_long_lists_of_units_end(tmp_path, monkeypatch):
    monkeypatch.setattr(html_report, "_MOST_LISTED", 4)
    plan = small_plan(sparsity=0.5)
    text = words(report_of(plan, tmp_path))
    assert ", ".join(map(str, plan.groups[0].removed[:4])) + " 6 more units" in text


def test_an_old_report_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    plan, path = small_plan(sparsity=0.5), tmp_path / "report.html"
    path.write_text("old")

    def fail(*_):
        raise OSError("the disk is full")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="the disk is full"):
        patch.setattr(os, "replace", fail)
        plan.report(path)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["report.html"]
    plan.report(path)
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert os.listdir(tmp_path) == ["report.html"]


def test_paths_that_can_t_be_written(tmp_path):
    plan = small_plan(sparsity=0.5)
    with pytest.raises(FileNotFoundError, match="No such folder: .*nowhere"):
        plan.report(tmp_path / "nowhere" / "report.html")
    with pytest.raises(IsADirectoryError, match="Give a file"):
        plan.report(tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["jinja2", "matplotlib"])
def test_without_an_extra_it_says_what_to_install(name, tmp_path, monkeypatch):
    plan = small_plan(sparsity=0.5)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=rf"{name} isn't.*keras_dfprune\[report\]"):
        plan.report(tmp_path / "report.html")
    assert os.listdir(tmp_path) == []
