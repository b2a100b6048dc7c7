"""Every plan with a loss is rebuilt and measured, and budgets may be about that change."""

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from keras_dfprune.cli import demo
from keras_dfprune.inputs.rows import rows_of_data
from keras_dfprune.planning.measure import (
    NOTICEABLE,
    WITH_DRAWS,
    WITH_ROWS,
    largest_change,
)
from tests.support.models import dense_chain, inputs_of, outputs, plant_copy

layers = keras.layers


def removed(plan):
    return sum(len(group.removed) for group in plan.groups)


@pytest.mark.parametrize("end", [None, "softmax", "sigmoid"])
def test_the_change_is_that_of_the_held_out_rows_in_front_of_the_last_activation(end):
    model = dense_chain([16, 5], seed=3)
    x = inputs_of(model, rows=60)
    if end:
        model = keras.Sequential([keras.Input((6,)), *model.layers, layers.Activation(end)])
    plan = dfprune.plan(model, sparsity=0.6, data=x)
    narrow, rows = plan.apply(model), rows_of_data(model, x)

    def values(one, given):
        front = keras.Sequential([keras.Input((6,)), *one.layers[:2]])
        found = outputs(front, given).astype(np.float64)
        # A constant added to all logits of a row changes no softmax.
        return found - found.mean(axis=1, keepdims=True) if end == "softmax" else found

    (held_out,) = rows.held_out.values()
    assert len(held_out) == 15
    wide, changed = values(model, held_out), values(narrow, held_out)
    variance = values(model, x).var(axis=0).sum()
    (measured,) = plan.measured
    wanted = np.mean(np.sum((wide - changed) ** 2, axis=1)) / variance
    assert measured.change == pytest.approx(wanted, rel=1e-4) and wanted > 0
    assert measured.smallest == measured.change < measured.at_most
    assert measured.agreement == np.mean(wide.argmax(axis=1) == changed.argmax(axis=1))
    assert 0 < measured.agreement < 1


def test_a_single_output_has_no_largest_entry_to_agree_about():
    plan = dfprune.plan(dense_chain([16, 1]), sparsity=0.5, data=np.eye(6))
    assert plan.measured[0].agreement is None


def test_without_rows_the_largest_and_the_smallest_over_the_draws_are_kept():
    (measured,) = dfprune.plan(dense_chain([16, 5]), sparsity=0.5).measured
    assert 0 < measured.smallest < measured.change
    assert "draws" in measured.source


def test_each_output_is_measured():
    inputs = keras.Input((6,))
    hidden = layers.Dense(16, "relu", name="fc1")(inputs)
    model = keras.Model(inputs, {"a": layers.Dense(3)(hidden), "b": layers.Dense(1)(inputs)})
    changes = {m.output: m.change for m in dfprune.plan(model, sparsity=0.5).measured}
    assert changes["a"] > 0 and changes["b"] == 0


def test_lossless_plans_are_not_measured():
    model = dense_chain([12, 3])
    plant_copy(model.get_layer("fc1"), 0, 4)
    for arguments in ({"tolerance": 0}, {"sparsity": 0}, {"sparsity": 1 / 12}):
        assert dfprune.plan(model, **arguments).measured == ()
    assert dfprune.plan(model, sparsity=0.5).measured != ()


def test_a_saved_plan_keeps_what_was_measured(tmp_path):
    plan = dfprune.plan(dense_chain([12, 3]), sparsity=0.5, refine_steps=3, data=np.eye(6))
    plan.save(tmp_path / "plan.npz")
    loaded = dfprune.PruningPlan.load(tmp_path / "plan.npz")
    assert loaded.measured == plan.measured != ()
    assert loaded.refine_steps == 3


def test_the_tolerance_bounds_what_is_measured_on_rows():
    model = dense_chain([24, 16, 5], seed=2)
    counts = []
    for tolerance in (0.0, 0.02, 0.3, 1.5):
        plan = dfprune.plan(model, tolerance=tolerance, data=inputs_of(model, rows=80))
        assert largest_change(plan.measured) <= tolerance
        counts.append(removed(plan))
    assert counts == sorted(counts) and counts[0] < counts[-1]


def test_a_change_that_is_large_is_one_warning_with_remedies():
    model = dense_chain([16, 5])
    with pytest.warns(UserWarning, match="outputs of model .* change by .*`data`") as seen:
        plan = dfprune.plan(model, sparsity=0.8)
    assert len(seen) == 1 and largest_change(plan.measured) > NOTICEABLE


def convolutional():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((12, 12, 2)),
            layers.Conv2D(8, 3, activation="relu", name="conv1"),
            layers.Conv2D(10, 3, activation="relu", name="conv2"),
            layers.Flatten(),
            layers.Dense(20, "relu", name="fc1"),
            layers.Dense(4, "softmax"),
        ]
    )


def test_without_data_little_goes_from_a_network_that_nothing_normalises():
    model = convolutional()
    with pytest.warns(UserWarning, match="nothing normalises .*`data`"):
        plan = dfprune.plan(model)
    assert removed(plan) <= 1


def test_copies_go_even_where_nothing_is_normalised():
    model = convolutional()
    for name in ("conv2", "fc1"):
        plant_copy(model.get_layer(name), 1, 3, 2.0)
    plan = dfprune.plan(model)
    gone = {group.layer: len(group.removed) for group in plan.groups}
    assert gone["conv2"] >= 1 and gone["fc1"] >= 1
    x = inputs_of(model)
    np.testing.assert_allclose(
        outputs(plan.apply(model), x), outputs(model, x), rtol=1e-3, atol=1e-5
    )


@pytest.fixture(scope="module")
def digits():
    """Return the demo's net after some epochs, with its training and its test images."""
    pytest.importorskip("sklearn")
    train, test = demo.load_digits()
    return demo.train_digits(train, epochs=10), train, test


@pytest.mark.parametrize("with_data", [False, True])
def test_the_default_halves_a_trained_network_at_no_cost(digits, with_data, recwarn):
    model, (x, _), (x_test, y_test) = digits
    plan = dfprune.plan(model, data=x[:200] if with_data else None)
    before, after = plan.parameters
    assert after <= 0.5 * before
    assert largest_change(plan.measured) <= (WITH_ROWS if with_data else WITH_DRAWS)
    assert not recwarn.list
    trained, pruned = (
        np.mean(outputs(one, x_test).argmax(axis=1) == y_test) for one in (model, plan.apply(model))
    )
    assert pruned >= trained - 0.02
