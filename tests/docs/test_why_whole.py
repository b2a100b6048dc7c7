"""Check that the page of reasons holds all that the code gives, and no others."""

import pathlib
import re

import keras
import pytest

import keras_dfprune as dfprune
from tests.support.refusal_messages import messages

PAGE = pathlib.Path(dfprune.__file__).parents[1] / "docs" / "why_whole.md"
# Frames around other reasons. The top of the page explains them.
FRAMES = {"it …", "it feeds …… …"}


def rows():
    """Return the reason and the remedy of each row of the page's tables."""
    text = PAGE.read_text(encoding="utf-8")
    pairs = re.findall(r"^\| (.+?) \| (.+?) \|$", text, re.MULTILINE)
    return [(reason, remedy) for reason, remedy in pairs if reason != "reason"]


def test_every_reason_in_the_code_is_on_the_page():
    shown = {reason for reason, _ in rows()}
    missing = {text: file for text, file in messages().items() if text not in shown | FRAMES}
    assert not missing, f"add a row with a remedy to docs/why_whole.md: {missing}"


def test_the_page_has_no_reason_that_the_code_does_not_give():
    reasons = [reason for reason, _ in rows()]
    assert len(reasons) == len(set(reasons))
    assert set(reasons) <= set(messages())


def test_reasons_that_are_looked_up_are_collected():
    """Collect one of each form: raised, noted, returned, in a table, an attribute, a variable."""
    assert {
        "is called with several tensors", "its units are an output of the model",
        "is quantized; prune first, then quantize", "mixes all units of its input",
        "has heads of a single dimension", "gates its heads",
        "rearranges units and positions, some of them of unknown length",
        "shares its weights with …", "takes only a part of the …",
    } <= set(messages())  # fmt: skip


@pytest.mark.filterwarnings("ignore:Model .* has nothing to prune", "ignore:Layer .* was passed")
@pytest.mark.parametrize("layer", [
    keras.layers.LayerNormalization(), keras.layers.Lambda(lambda x: x),
    keras.layers.Masking(), keras.layers.Softmax(),
])  # fmt: skip
def test_reasons_of_plans_are_found_on_the_page(layer):
    model = keras.Sequential([
        keras.Input((6,)), keras.layers.Dense(8, name="fc"), layer,
        keras.layers.Flatten(), keras.layers.Dense(2),
    ])  # fmt: skip
    (reason,) = (r.reason for r in dfprune.plan(model, tolerance=0).refusals if r.layer == "fc")
    part = re.split(r"which |: ", reason, maxsplit=1)[1]
    patterns = [".+".join(map(re.escape, shown.split("…"))) for shown, _ in rows()]
    assert any(re.fullmatch(pattern, part) for pattern in patterns), part
