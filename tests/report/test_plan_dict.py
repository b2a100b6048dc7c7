"""A plan as plain values for JSON, and as a short table for notebooks."""

import dataclasses
import json
import math

import pytest

import keras_dfprune as dfprune
from tests.support.plans import HOSTILE, hostile, small_plan


@pytest.mark.parametrize("method", ["saliency", "moments"])
def test_a_plan_as_json(method):
    plan = small_plan(method=method, sparsity=0.5)
    values = json.loads(json.dumps(plan.to_dict(), allow_nan=False))
    assert values["model_name"] == "golden" and values["method"] == plan.method
    assert values["parameters"] == list(plan.parameters)
    assert values["multiply_adds"] == list(plan.multiply_adds)
    for group, expected in zip(values["groups"], plan.groups, strict=True):
        assert group["removed"] == expected.removed.tolist()
        assert group["survivor"] == expected.survivor.tolist()
        assert group["curve"]["costs"] == expected.curve.costs.tolist()
        assert group["curve"]["order"] == expected.curve.order.tolist()
        assert group["curve"]["measure"] == expected.curve.measure
        has_histogram = expected.curve.histogram is not None
        assert (group["curve"]["histogram"] is not None) == has_histogram == (method == "saliency")
    assert values["measured"][0]["change"] == plan.measured[0].change
    assert values["refusals"] == [
        {"layer": "fc3", "reason": "its units are an output of the model"}
    ]


def test_what_was_asked(tmp_path):
    method = dfprune.Saliency(cutoff_scale=0.5)
    plan = small_plan(method=method, layers=["fc1"], seed=2, verbose=0)
    expected = {
        "method": {"name": "saliency", "cutoff_scale": 0.5},
        "layers": ["fc1"],
        "seed": 2,
    }
    assert plan.to_dict()["arguments"] == plan.arguments == expected
    plan.save(tmp_path / "plan.npz")
    assert dfprune.PruningPlan.load(tmp_path / "plan.npz").to_dict()["arguments"] is None
    assert small_plan(max_params=0.5).at(max_params=0.3).arguments == {"max_params": 0.3}


def test_numbers_that_are_not_finite_are_texts():
    plan = small_plan(sparsity=0.5)
    infinite = dataclasses.replace(plan.measured[0], change=math.inf)
    values = dataclasses.replace(plan, measured=(infinite,)).to_dict()
    assert float(json.loads(json.dumps(values))["measured"][0]["change"]) == math.inf


def test_a_table_for_notebooks():
    plan = small_plan(sparsity=0.5)
    table = plan._repr_html_()
    assert "<td>20 -&gt; 10</td>" in table and "its units are an output" in table
    assert f"{plan.parameters[0]} -&gt; {plan.parameters[1]}" in table
    empty = dataclasses.replace(plan, groups=(), refusals=(), measured=())._repr_html_()
    assert "<table>" not in empty and "golden" in empty
    assert HOSTILE not in hostile(plan)._repr_html_()
    assert "<script" not in hostile(plan)._repr_html_()
