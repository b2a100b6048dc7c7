"""A plan for other weights: the same units go, and the kept ones take over anew."""

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from tests.support.conformance import build
from tests.support.models import relative_difference

layers = keras.layers


def net(seed, head=3):
    """Build a net whose layers get other names at each call, as in a cross-validation."""
    keras.utils.set_random_seed(seed)
    hidden = [layers.Dense(24, "relu"), layers.Dense(16, "tanh")]
    return keras.Sequential([keras.Input((6,)), *hidden, layers.Dense(head)])


def rows(model, count=64):
    return np.random.default_rng(0).normal(size=(count, *model.input_shape[1:])).astype("float32")


def difference(narrow, model):
    x = rows(model)
    return relative_difference(narrow(x), model(x))


class Dropped(dfprune.Method):
    """Remove the first units, without surgery."""

    def curve(self, group, context):
        order = np.arange(group.units - 1)

        def merge(count):
            kept, offset = np.arange(count, group.units), np.zeros(group.units)
            return dfprune.LinearMerge(kept, order[:count], offset, np.ones((len(kept), count)))

        return dfprune.Curve(order=order, costs=np.ones(len(order)), merge=merge)


@pytest.fixture(scope="module")
def plans():
    return {
        method: dfprune.plan(net(0), sparsity=0.5, method=method)
        for method in ("saliency", "moments")
    }


@pytest.mark.parametrize("method", ["saliency", "moments"])
def test_the_same_units_go_and_others_take_over(method, plans, tmp_path):
    plan, other = plans[method], net(1)
    pruned = plan.apply(other, reuse=True)
    assert pruned.count_params() == plan.parameters[1]
    if method == "saliency":  # the kept units of the first layer stay as they are
        kernel, kept = other.layers[0].kernel, plan.groups[0].kept
        np.testing.assert_array_equal(pruned.layers[0].kernel, np.asarray(kernel)[:, kept])
    plan.save(tmp_path / "plan.npz")
    loaded = dfprune.PruningPlan.load(tmp_path / "plan.npz").apply(other, reuse=True)
    np.testing.assert_array_equal(loaded(rows(other)), pruned(rows(other)))


def test_new_merges_are_better_than_those_for_other_weights(plans, monkeypatch):
    plan, other = plans["moments"], net(1)
    anew = difference(plan.apply(other, reuse=True), other)
    monkeypatch.setattr("keras_dfprune.api.pruning_plan.method_of_plan", lambda _: None)
    with pytest.warns(UserWarning, match="the plan's own merges are used on the other weights"):
        stored = difference(plan.apply(other, reuse=True), other)
    assert anew < 0.7 * stored


def test_rows_are_for_the_new_merges_too(plans, tmp_path):
    x = np.abs(rows(net(0), 200)) @ np.diag([9.0, 5, 1, 0.1, 0.1, 0.1]).astype("float32")
    other = net(1)

    def change(narrow):
        return relative_difference(narrow(x), other(x))

    without = change(plans["moments"].apply(other, reuse=True))
    assert change(plans["moments"].apply(other, reuse=True, data=x)) < 0.9 * without
    plan = dfprune.plan(net(0), sparsity=0.5, data=x)
    given = plan.apply(other, reuse=True)
    plan.save(tmp_path / "plan.npz")
    loaded = dfprune.PruningPlan.load(tmp_path / "plan.npz")
    with pytest.raises(ValueError, match="made with `data`.*Give the rows again"):
        loaded.apply(other, reuse=True)
    again = loaded.apply(other, reuse=True, data=x)
    np.testing.assert_array_equal(again(x), given(x))


def test_the_same_weights_get_the_plans_own_merges(plans):
    model = net(0)
    merged = plans["moments"].apply(model, reuse=True)
    renamed = net(0)
    again = plans["moments"].apply(renamed, reuse=True)
    np.testing.assert_array_equal(merged(rows(model)), again(rows(model)))


def test_a_frozen_copy_gets_merges_that_leave_its_units_as_they_are(plans):
    plan, target = plans["moments"], net(0)
    assert any(isinstance(group.merge, dfprune.CentroidMerge) for group in plan.groups)
    target.trainable = False
    pruned = plan.apply(target, reuse=True)
    kept = plan.groups[0].kept
    kernel = np.asarray(target.layers[0].kernel)
    np.testing.assert_array_equal(pruned.layers[0].kernel, kernel[:, kept])
    assert difference(pruned, target) < 0.5


def test_other_weights_are_an_error_unless_they_are_asked_for(plans):
    plan = plans["saliency"]
    with pytest.raises(ValueError, match="made for another model.*Or give reuse=True"):
        plan.apply(net(1))
    for other in (net(1, head=4), build("dense")):
        for reuse in (False, True):
            with pytest.raises(ValueError, match="made for another model") as seen:
                plan.apply(other, reuse=reuse)
            assert "reuse=True" not in str(seen.value)


def test_a_method_of_ones_own_keeps_its_merges_and_a_warning_says_so():
    plan, other = dfprune.plan(net(0), sparsity=0.5, method=Dropped()), net(1)
    with pytest.warns(UserWarning, match="method='dropped' is none of this package") as seen:
        pruned = plan.apply(other, reuse=True)
    assert len(seen) == 1 and seen[0].filename == __file__
    np.testing.assert_array_equal(
        pruned.layers[0].kernel, np.asarray(other.layers[0].kernel)[:, 12:]
    )


def test_it_is_said_only_where_the_caller_wants_to_be_told(capsys, recwarn):
    plan = dfprune.plan(net(0), sparsity=0.5, verbose=1)
    capsys.readouterr()
    plan.apply(net(1), reuse=True)
    assert "the same units go, and new merges were computed" in capsys.readouterr().out
    dfprune.plan(net(0), sparsity=0.5).apply(net(1), reuse=True)
    assert capsys.readouterr().out == ""
    assert not [w for w in recwarn if "merges" in str(w.message)]


def test_the_narrow_model_recovers(plans):
    plan, other = dfprune.plan(net(0), sparsity=0.8, refine_steps=60), net(1)
    pruned = plan.apply(other, reuse=True)
    assert pruned.count_params() == plan.parameters[1] and plan.refined


@pytest.mark.parametrize(
    "name", ["convolution", "embedding", "residual convolutions", "normalization before",
             "zero padding, normalized behind", "one consumer, two producers", "depthwise"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["saliency", "moments"])
def test_all_kinds_of_groups_agree_with_the_wide_twin(name, method):
    plan = dfprune.plan(build(name, seed=0), sparsity=0.5, method=method)
    assert any(len(group.removed) for group in plan.groups)
    pruned = plan.apply(build(name, seed=1), reuse=True)  # which compares it with the wide twin
    assert pruned.count_params() == plan.parameters[1]
