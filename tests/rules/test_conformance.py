"""Put every rule through the same tests; a rule without a row in the table fails."""

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from keras_dfprune.inputs.model_inputs import adapt_samples, run_model
from keras_dfprune.inputs.sample_inputs import draw_samples
from keras_dfprune.rules import registry
from keras_dfprune.rules.kernels import ConsumerRule, ProducerRule
from tests.support import conformance, random_graphs


def outputs(model, samples):
    return list(run_model(model, adapt_samples(samples, model)).values())


def assert_close(received, expected, bound=1e-5):
    for array, wanted in zip(received, expected, strict=True):
        assert np.abs(array - wanted).max() <= bound * np.abs(wanted).max()


def test_every_rule_has_a_row():
    assert set(conformance.first_rows()) == set(registry.RULES)


@pytest.fixture(params=conformance.ROWS)
def row(request):
    return request.param


def rules_shown(row, model, plan, seen):
    """Return the names of the rules that cut units passed."""
    cut = {path for group in plan.groups if len(group.removed) for path in group.layers}
    rule = conformance.rule_of(row)
    if isinstance(rule, ProducerRule) and not isinstance(rule, ConsumerRule):
        # Units never flow into such a layer: its own have to be pruned.
        return {type(registry.find_rule(model.get_layer(path))).__name__ for path in cut}
    return {name for name, source in seen if source in cut}


def test_planted_copies_come_out_exactly(row):
    model = conformance.build(row)
    groups = random_graphs.plant_copies(model)
    samples = draw_samples(model)
    plan = dfprune.plan(model, tolerance=0)
    assert groups and all(len(group.removed) for group in plan.groups)
    assert_close(outputs(plan.apply(model), samples), outputs(model, samples))


@pytest.mark.parametrize(
    ("method", "sparsity"),
    [("saliency", 0.25), ("moments", 0.75), ("scatter", 0.75)],
)
def test_wide_twin_agrees_and_parameters_are_counted(row, method, sparsity):
    model = conformance.build(row)
    method = random_graphs.Scatter() if method == "scatter" else method
    plan = dfprune.plan(model, method=method, sparsity=sparsity)
    pruned = plan.apply(model)
    assert pruned.count_params() == plan.parameters[1] < plan.parameters[0]


def test_units_cross_the_rule_and_the_result_is_saved_while_the_original_stays(row, tmp_path):
    model = conformance.build(row)
    weights = [np.array(variable) for variable in model.weights]
    samples = draw_samples(model)
    with random_graphs.recorded_crossings() as seen:
        plan = dfprune.plan(model, sparsity=0.5)
    assert type(conformance.rule_of(row)).__name__ in rules_shown(row, model, plan, seen)
    pruned = plan.apply(model)
    pruned.save(tmp_path / "pruned.keras")
    loaded = keras.saving.load_model(tmp_path / "pruned.keras")
    assert_close(outputs(loaded, samples), outputs(pruned, samples), 1e-6)
    for before, variable in zip(weights, model.weights, strict=True):
        np.testing.assert_array_equal(before, np.array(variable))


def test_optimizer_slots_are_cut_along(row):
    model = conformance.build(row)
    model.compile("adam", "mse", run_eagerly=True)
    targets = np.zeros_like(outputs(model, draw_samples(model))[0])
    model.train_on_batch(next(iter(draw_samples(model).values())), targets)
    pruned = dfprune.apply(model, sparsity=0.5)
    trained = pruned.trainable_variables
    shapes = sorted(tuple(variable.shape) for variable in trained)
    slots = sorted(tuple(slot.shape) for slot in pruned.optimizer.variables[2:])
    assert slots == sorted(shapes * 2)
    assert int(pruned.optimizer.iterations) == 1
    pruned.train_on_batch(next(iter(draw_samples(pruned).values())), targets)
