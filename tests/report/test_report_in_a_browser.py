"""A report in a real browser: it fits on every screen, fetches nothing and needs no mouse."""

import pytest

import keras_dfprune as dfprune
from tests.support.browser import browser_page, find_browser
from tests.support.models import dense_chain
from tests.support.plans import hostile, small_plan

pytest.importorskip("jinja2")

WIDTHS = [400, 1600]
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
WIDER = """\
[...document.querySelectorAll("body *")]
  .filter((part) => part.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
  .map((part) => part.outerHTML.slice(0, 80))"""
OPEN = 'document.querySelectorAll("details[open]").length'
OPEN_ALL = 'document.querySelectorAll("details").forEach((part) => { part.open = true; })'


@pytest.fixture(scope="module")
def page():
    browser = find_browser()
    if browser is None:
        pytest.skip("needs a browser: no chromium or google-chrome on the path")
    with browser_page(browser) as page:
        yield page


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports")
    plans = {
        "saliency": small_plan(method="saliency"),
        "moments": small_plan(sparsity=0.5),
        "hostile": hostile(small_plan(method="saliency", sparsity=0.5)),
    }
    plans["search"] = dfprune.search(dense_chain([20, 3]), size_of_first, max_drop=0.3, steps=4)
    for name, plan in plans.items():
        plan.report(folder / f"{name}.html")
    return folder


def size_of_first(model):
    """Return a measure that a smaller model meets down to ten units."""
    return min(1.0, model.layers[0].units / 14)


@pytest.mark.parametrize("name", ["saliency", "moments", "hostile", "search"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_wider_than_the_page_and_nothing_is_fetched(
    page, reports, tmp_path, name, width, dark
):
    del page.requests[:], page.messages[:]
    page.open(reports / f"{name}.html", width, dark=dark)
    page.evaluate(OPEN_ALL)
    assert page.evaluate(OVERFLOW) == 0
    assert page.evaluate(WIDER) == []
    assert page.evaluate("innerWidth") == width
    page.screenshot(tmp_path / "page.png")
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")
    assert page.requests == [(reports / f"{name}.html").as_uri()]
    assert page.messages == []
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") != dark


def test_without_scripts_everything_is_open(page, reports):
    page.open(reports / "saliency.html", 400, scripts=False)
    assert page.evaluate(OPEN) == 2
    page.open(reports / "saliency.html", 400)
    assert page.evaluate(OPEN) == 0


def test_layers_open_by_the_keyboard(page, reports):
    page.open(reports / "saliency.html", 400)
    focused = 'document.activeElement.closest("details") !== null'
    for _ in range(3):  # past the button
        page.key("Tab", 9)
        if page.evaluate(focused):
            break
    assert page.evaluate(focused)
    page.key("Enter", 13)
    assert page.evaluate(OPEN) == 1


def test_the_button_opens_and_closes_all_layers(page, reports):
    page.open(reports / "saliency.html", 400)
    for opened, text in [(2, "Close all layers"), (0, "Open all layers")]:
        page.evaluate('document.getElementById("toggle").click()')
        assert page.evaluate(OPEN) == opened
        assert page.evaluate('document.getElementById("toggle").textContent') == text


def test_printing_opens_all_layers(page, reports, tmp_path):
    page.open(reports / "saliency.html", 1600)
    page.evaluate(f"addEventListener('beforeprint', () => {{ window.seen = {OPEN}; }})")
    page.print(tmp_path / "page.pdf")
    assert page.evaluate("window.seen") == 2
    assert page.evaluate(OPEN) == 0
