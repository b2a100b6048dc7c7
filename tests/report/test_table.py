"""The text of a plan, from values that a test can read."""

import dataclasses
import math

import pytest

from keras_dfprune.report.table import align, render


@dataclasses.dataclass(frozen=True)
class Group:
    layer: str
    units: int
    kept: range
    removed: range
    parameters: tuple[int, int]
    layers: tuple[str, ...] = ("fc1",)
    predicted_error: float | None = None
    note: str | None = None
    kind: str = "units"


@dataclasses.dataclass(frozen=True)
class Refusal:
    layer: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Change:
    output: str
    change: float
    smallest: float
    at_most: float
    agreement: float | None
    source: str


@dataclasses.dataclass(frozen=True)
class Refinement:
    before: float
    after: float
    step: int


@dataclasses.dataclass(frozen=True)
class Plan:
    groups: tuple[Group, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    parameters: tuple[int, int] = (0, 0)
    multiply_adds: tuple[int, int] | None = None
    method: dict = dataclasses.field(default_factory=lambda: {"name": "moments"})
    model_name: str = "net"
    notes: tuple[str, ...] = ()
    measured: tuple[Change, ...] = ()
    refine_steps: int = 0
    refined: dict[str, Refinement] = dataclasses.field(default_factory=dict)


FULL = """\
Pruning plan for 'net' (moments)

Layer             Units  Removed       Parameters  Predicted error
------------------------------------------------------------------
fc1        2,000 -> 500   75.0 %  10,000 -> 2,500            1.2 %
conv (+2)        8 -> 8    0.0 %         88 -> 88                -

Parameters: 12,345 -> 4,845 (60.8 % fewer)

Measured change before recovery (squared, over the variance)
  head: 12 % to 0.034 %, largest entry the same in at least 98.4 % of rows (draws of several kinds)

Notes
  fc1: its bias is new
  the weights of 'adapter' are folded in

Left whole
  head: its units are an output of the model

Refined
  fc1: squared difference from the original over its variance 12 % -> 3.5 % (weights of step 200)"""

EMPTY = """\
Pruning plan for 'net' (moments)

Nothing to prune.

Parameters: 0 -> 0 (0.0 % fewer)"""


def test_every_section():
    wide = Group("fc1", 2000, range(500), range(1500), (10_000, 2_500), predicted_error=0.01234)
    wide = dataclasses.replace(wide, note="its bias is new")
    residual = Group("conv", 8, range(8), range(0), (88, 88), layers=("conv", "add", "last"))
    refusal = Refusal("head", "its units are an output of the model")
    notes = ("the weights of 'adapter' are folded in",)
    refined = {"fc1": Refinement(0.12, 0.035, 200)}
    measured = (Change("head", 0.12, 0.00034, 0.12, 0.984375, "draws of several kinds"),)
    plan = Plan((wide, residual), (refusal,), (12_345, 4_845), notes=notes, refined=refined)
    plan = dataclasses.replace(plan, measured=measured, refine_steps=300)
    assert render(plan) == FULL


def test_a_plan_without_groups():
    assert render(Plan()) == EMPTY


def test_each_reason_stands_once_with_all_its_layers():
    refusals = [Refusal("a", "one"), Refusal("b", "two"), Refusal("c", "one")]
    text = render(Plan(refusals=tuple(refusals)))
    assert text.endswith("Left whole\n  a, c: one\n  b: two")


@pytest.mark.parametrize(
    ("change", "smallest", "at_most", "agreement", "sentence"),
    [
        (0.0123, 0.0123, 0.0123, 0.9375, "1.2 %, largest entry the same in 93.8 % of rows"),
        (0.01, 0.01, 0.03, 0.5, "1 % (hardly above 3 %), largest entry the same in 50.0 % of rows"),
        (0.5, 0.5, 0.5, None, "50 %"),
        (12.0, 0.5, 12.0, None, "1,200 % to 50 %"),
        (math.inf, 0.5, math.inf, None, "infinite to 50 %"),
        (0.0, 0.0, 0.0, None, "0 %"),
    ],
)
def test_the_change_of_an_output(change, smallest, at_most, agreement, sentence):
    source = "held-out part of 64 rows of `data`"
    measured = Change("price", change, smallest, at_most, agreement, source)
    lines = render(Plan(measured=(measured,))).splitlines()
    where = "(held-out part of 64 rows of `data`)"
    start = lines.index("Measured change (squared, over the variance)")
    assert lines[start + 1 :] == [f"  price: {sentence} {where}"]


def test_no_column_of_errors_without_a_predicted_error():
    group = Group("fc1", 4, range(2), range(2), (20, 10))
    assert "Predicted error" not in render(Plan((group,)))
    text = render(Plan((group, dataclasses.replace(group, predicted_error=0.5))))
    assert text.count("Predicted error") == 1 and "50 %" in text


def test_the_first_column_is_aligned_to_the_left_and_the_others_to_the_right():
    assert align([("name", "n"), ("a", "100")]) == ["name    n", "---------", "a     100"]
