"""Code and figures of the tutorials are those of the scripts.

`examples/NAME.py` writes `docs/tutorials/NAME.txt`, from which the page `NAME.md` quotes:

    python examples/NAME.py > docs/tutorials/NAME.txt
"""

import importlib.util
import itertools
import pathlib
import re

import pytest

import keras_dfprune as dfprune
from keras_dfprune.rules import registry

ROOT = pathlib.Path(__file__).parents[2]
NEEDS = {"image_int8": "ai_edge_litert", "tuner": "keras_tuner"}
PAGES = sorted(path for path in (ROOT / "docs" / "tutorials").glob("*.md") if path.stem != "index")


def stripped(text):
    return "\n".join(line.strip() for line in text.splitlines())


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S)


def shape_of(text):
    """Return each line up to its first figure: what another, shorter training prints the same.

    Lines that only differ behind it, one for each round, count once.
    """
    lines = [re.split(r"_?\d|\(|  +", line.strip())[0] for line in text.splitlines()]
    lines = [line.strip("- ") for line in lines if line.strip("-| ")]
    return [line for line, _ in itertools.groupby(lines)]


def test_there_are_tutorials():
    assert {"tabular", "search", "repeat", "custom_layer"} <= {page.stem for page in PAGES}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages_quote_the_script_and_its_output(page):
    script = (ROOT / "examples" / f"{page.stem}.py").read_text(encoding="utf-8")
    for block in blocks(page, "python"):
        assert stripped(block) in stripped(script), block
    output = page.with_suffix(".txt").read_text(encoding="utf-8")
    for block in blocks(page, "text"):
        assert block in output, block
    assert len(blocks(page, "text")) > 1


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_recorded_output_is_what_the_script_prints(page, tmp_path, monkeypatch, capsys):
    if page.stem in NEEDS:
        pytest.importorskip(NEEDS[page.stem])
    registered = set(registry._REGISTERED)
    spec = importlib.util.spec_from_file_location(page.stem, ROOT / "examples" / f"{page.stem}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.chdir(tmp_path)
    module.main(["--quick"])
    for layer_type in set(registry._REGISTERED) - registered:
        dfprune.unregister_rule(layer_type)
    printed = capsys.readouterr().out
    recorded = page.with_suffix(".txt").read_text(encoding="utf-8")
    assert shape_of(printed) == shape_of(recorded)
