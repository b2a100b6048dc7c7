"""The code that a report gives makes the same plan again."""

import dataclasses
import types

import numpy as np
import pytest

import keras_dfprune as dfprune
from keras_dfprune.report.command import repeat_code
from tests.support.plans import HOSTILE, small_model, small_plan

ROWS = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)


def run(code, tmp_path, monkeypatch):
    """Run code in a folder that holds the model, and return its variables."""
    monkeypatch.chdir(tmp_path)
    small_model().save("golden.keras")
    variables = {"rows": ROWS}
    exec(code, variables)
    return types.SimpleNamespace(**variables)


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_params": 0.5},
        {"method": "saliency", "sparsity": {"fc1": 0.5}, "seed": 4},
        {"method": dfprune.Saliency(surgery=False), "exclude": ["fc2"]},
        {"data": ROWS, "max_flops": 0.6, "multiple_of": 2, "refine_steps": 2},
    ],
)
def test_the_code_makes_the_same_plan(arguments, tmp_path, monkeypatch):
    plan = small_plan(**arguments)
    made = run(repeat_code(plan), tmp_path, monkeypatch)
    assert made.plan.arguments == plan.arguments
    for group, again in zip(plan.groups, made.plan.groups, strict=True):
        np.testing.assert_array_equal(group.removed, again.removed)
    assert made.pruned.count_params() == plan.parameters[1]


def test_a_loaded_plan_is_loaded(tmp_path, monkeypatch):
    small_plan(data=ROWS, sparsity=0.5).save(tmp_path / "plan.npz")
    plan = dfprune.PruningPlan.load(tmp_path / "plan.npz")
    made = run(repeat_code(plan), tmp_path, monkeypatch)
    assert made.pruned.count_params() == plan.parameters[1]


def test_names_are_literals_and_long_values_are_left_out():
    plan = dataclasses.replace(small_plan(sparsity=0.5), model_name=HOSTILE + "\n")
    compile(repeat_code(plan), "report", "exec")
    model = small_model()
    prior = {model.inputs[0].name: (0.0, np.eye(6))}
    code = repeat_code(dfprune.plan(model, sparsity=0.5, method=dfprune.Moments(prior=prior)))
    assert "prior=...),  # a long value, left out here" in code
    compile(code, "report", "exec")


def test_a_method_of_your_own_is_named():
    class Mine(dfprune.Saliency):
        pass

    assert "method=method,  # your own, with the name 'mine'" in repeat_code(
        small_plan(method=Mine(), sparsity=0.5)
    )
