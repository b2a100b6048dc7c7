"""`apply` does each step of the way once, and its arguments are stated once."""

import dataclasses
import importlib
import inspect
import itertools
import types

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from keras_dfprune.planning.request import Request
from keras_dfprune.report import progress
from tests.support.models import dense_chain

STEPS = {
    "read the graph": ("keras_dfprune.locate.locate", "read_graph"),
    "find the groups": ("keras_dfprune.locate.locate", "locate"),
    "hash the weights": ("keras_dfprune.planning.planner", "start_layer_digests"),
    "merge a group": ("keras_dfprune.surgery.carry_out", "absorb"),
}


@pytest.fixture
def counts(monkeypatch):
    """How often each step is done."""
    done = dict.fromkeys(STEPS, 0)

    def counted(step, original):
        def count(*args, **kwargs):
            done[step] += 1
            return original(*args, **kwargs)

        return count

    for step, (module, name) in STEPS.items():
        module = importlib.import_module(module)
        monkeypatch.setattr(module, name, counted(step, getattr(module, name)))
    return done


def test_apply_does_each_step_once(counts):
    dfprune.apply(dense_chain([8, 6, 3]), sparsity=0.5)
    assert counts == {**dict.fromkeys(STEPS, 1), "merge a group": 2}


def test_the_callback_does_each_step_once(counts):
    model = dense_chain([8, 6, 3])
    model.compile("sgd", "mse")
    callback = dfprune.PostTrainPrune(sparsity=0.5)
    x = np.ones((4, model.input_shape[1]))
    model.fit(x, model.predict(x, verbose=0), verbose=0, callbacks=[callback])
    # Before training the graph is read and the names are checked, and nothing else.
    assert counts["hash the weights"] == 1
    assert counts["merge a group"] == 2


def test_a_plan_and_apply_make_the_same_model():
    model = dense_chain([8, 6, 3])
    at_once = dfprune.apply(model, sparsity=0.5)
    in_two_steps = dfprune.plan(model, sparsity=0.5).apply(model)
    for first, second in zip(at_once.weights, in_two_steps.weights, strict=True):
        np.testing.assert_array_equal(first, second)


def test_signature_and_request_state_the_same_arguments():
    parameters = inspect.signature(dfprune.apply).parameters
    arguments = {name: parameter.default for name, parameter in parameters.items()}
    assert arguments.pop("model") is inspect.Parameter.empty
    request = Request()
    defaults = {field.name: getattr(request, field.name) for field in dataclasses.fields(Request)}
    defaults["method"] = defaults["method"].name
    assert arguments == defaults
    assert list(inspect.signature(dfprune.plan).parameters) == list(parameters)


@pytest.mark.parametrize(
    "call", [dfprune.plan, lambda model, **some: dfprune.PostTrainPrune(**some)]
)
def test_an_unknown_argument_names_the_nearest(call):
    with pytest.raises(TypeError, match="Unknown argument 'sparsty'. Did you mean 'sparsity'?"):
        call(dense_chain([5, 3]), sparsty=0.5)


def test_names_may_come_from_a_generator():
    """A generator can be read once only; the callback needs the names twice."""
    model = dense_chain([8, 6, 3])
    model.compile("sgd", "mse")
    callback = dfprune.PostTrainPrune(sparsity=0.5, layers=(name for name in ["fc1"]))
    x = np.ones((4, model.input_shape[1]))
    model.fit(x, model.predict(x, verbose=0), verbose=0, callbacks=[callback])
    assert [group.layer for group in callback.plan.groups] == ["fc1"]
    assert len(callback.plan.groups[0].removed) == 4


def test_progress_is_shown_with_data(capsys, monkeypatch):
    """The bar of the removals comes from the method, which gets it in its context."""
    hours = types.SimpleNamespace(monotonic=itertools.count(step=3600.0).__next__)
    monkeypatch.setattr(progress, "time", hours)  # a bar appears after a second
    model = dense_chain([40, 3])
    rows = np.random.default_rng(0).standard_normal((32, model.input_shape[1]))
    dfprune.plan(model, data=rows, sparsity=0.5, verbose=1)
    assert "removing units" in capsys.readouterr().out


def test_a_failure_names_the_step_that_failed(tmp_path):
    """The model was exported, only the scoring failed."""
    model = dense_chain([8, 6, 3])
    model.compile("sgd", "mse")
    callback = dfprune.PostTrainPrune(
        export_path=tmp_path / "pruned.keras", validation_data="nonsense", sparsity=0.5
    )
    x = np.ones((4, model.input_shape[1]))
    with pytest.warns(UserWarning, match="the model could not be scored: "):
        model.fit(x, model.predict(x, verbose=0), verbose=0, callbacks=[callback])
    assert callback.error is not None
    assert keras.saving.load_model(tmp_path / "pruned.keras").count_params() == (
        callback.pruned_model.count_params()
    )


def test_the_plan_says_what_the_refinement_reached():
    model = dense_chain([16, 12, 3])
    plan = dfprune.plan(model, refine_steps=20, sparsity=0.5)
    assert plan.refined == {}
    plan.apply(model)
    (reached,) = plan.refined.values()
    assert 0.0 <= reached.after <= reached.before
    assert "Refined" in str(plan)
    assert f"{100 * reached.before:.2g} % -> {100 * reached.after:.2g} %" in str(plan)
