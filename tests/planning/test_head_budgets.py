"""Plans name dimensions of attention heads; budgets include them, and a plain sparsity doesn't."""

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from tests.support.models import relative_difference
from tests.support.random_graphs import randomize

layers = keras.layers
HEADS = ("att/query_key", "att/value")


def block(width=16):
    """Build a block of a transformer whose attention matters for few of its dimensions."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5, width))
    normal = layers.LayerNormalization()(inputs)
    hidden = inputs + layers.MultiHeadAttention(2, 8, name="att")(normal, normal)
    normal = layers.LayerNormalization()(hidden)
    hidden = hidden + layers.Dense(width)(layers.Dense(24, "gelu", name="up")(normal))
    model = keras.Model(inputs, layers.Dense(3, name="head")(hidden))
    randomize(model, np.random.default_rng(0))
    return model


def weaken(model, share=1e-3):
    """Make all but 3 dimensions of each head weak."""
    layer = model.get_layer("att")
    for dense in (layer.query_dense, layer.value_dense):
        for variable in (dense.kernel, dense.bias):
            values = variable.numpy()
            values[..., 3:] *= share
            variable.assign(values)


@pytest.fixture(scope="module")
def model():
    model = block()
    weaken(model)
    return model


def removed(plan):
    return {group.layer: len(group.removed) for group in plan.groups}


def test_a_number_is_about_units_and_a_name_about_both_kinds_of_dimensions(model):
    assert removed(dfprune.plan(model, sparsity=0.5)) == {"up": 12}
    assert removed(dfprune.plan(model, sparsity=0.5, layers=["up", "att/value"])) == {
        "att/value": 4, "up": 12
    }  # fmt: skip
    for name in ("att", "at?", model.get_layer("att")):
        assert removed(dfprune.plan(model, sparsity={name: 0.5})) == dict.fromkeys(HEADS, 4)
    assert removed(dfprune.plan(model, sparsity={"*value": 0.25})) == {"att/value": 2}
    plan = dfprune.plan(model, sparsity={"att": 0.4}, multiple_of={"att": 4})
    assert removed(plan) == dict.fromkeys(HEADS, 4)
    with pytest.raises(ValueError, match="twice, with 0.5 and 0.25"):
        dfprune.plan(model, sparsity={"att": 0.5, "att/value": 0.25})


def test_heads_in_a_nested_model_are_named_by_their_layer():
    inner = block()
    inputs = keras.Input((5, 16))
    model = keras.Model(inputs, inner(inputs))
    for name in (f"{inner.name}/att", "att", inner.get_layer("att")):
        plan = dfprune.plan(model, sparsity={name: 0.5})
        assert removed(plan) == {f"{inner.name}/{head}": 4 for head in HEADS}
    assert removed(dfprune.plan(model, sparsity={inner.name: 0.5})) == {f"{inner.name}/up": 12}
    assert len(dfprune.plan(model, layers=[inner.name]).groups) == 3
    assert dfprune.plan(model, sparsity={"att": 0.5}).apply(model).count_params() < 2_000


def test_budgets_for_the_whole_model_take_weak_dimensions_first(model):
    for budget in ({"max_params": 0.7}, {"max_flops": 0.7}, {"tolerance": 0.01}, {}):
        plan = dfprune.plan(model, **budget)
        assert all(removed(plan)[name] in (4, 5) for name in HEADS), budget
        assert removed(plan)["up"] < 6, budget
        pruned = plan.apply(model)
        assert pruned.count_params() == plan.parameters[1]
    assert " dimensions " in str(plan)
    assert plan.groups[0].kind == plan.to_dict()["groups"][0]["kind"] == "dimensions"
    plan = dfprune.plan(model, max_params=0.7, exclude=["att"])
    assert list(removed(plan)) == ["up"]
    assert removed(plan.at(sparsity=0.25)) == {"up": 6}


def test_saliencies_are_not_compared_with_singular_values(model):
    assert list(removed(dfprune.plan(model, method="saliency"))) == ["up"]
    plan = dfprune.plan(model, method="saliency", sparsity={"att": 0.5, "up": 0.5})
    assert removed(plan) == {**dict.fromkeys(HEADS, 4), "up": 12}
    errors = {group.layer: group.predicted_error for group in plan.groups}
    assert errors["up"] is None and errors["att/value"] < 0.01


def test_plans_are_saved_cut_again_and_used_on_other_weights(model, tmp_path):
    x = np.random.default_rng(1).normal(size=(4, 5, 16)).astype("float32")
    plan = dfprune.plan(model, max_params=0.7)
    expected = np.asarray(plan.apply(model)(x))
    plan.save(tmp_path / "plan.npz")
    loaded = dfprune.PruningPlan.load(tmp_path / "plan.npz")
    np.testing.assert_array_equal(loaded.apply(model)(x), expected)
    again = loaded.at(max_params=0.7)
    assert removed(again) == removed(plan)
    np.testing.assert_allclose(again.apply(model)(x), expected, rtol=1e-4, atol=1e-5)
    other = keras.models.clone_model(model)
    other.set_weights(model.get_weights())
    weaken(other, 0.0)
    narrow = loaded.apply(other, reuse=True)
    assert narrow.get_layer("att").key_dim == 3
    only = dfprune.plan(model, sparsity={"att": 0.6}).apply(other, reuse=True)
    assert relative_difference(np.asarray(only(x)), np.asarray(other(x))) <= 1e-5


def test_rows_show_which_dimensions_matter():
    model, random = block(), np.random.default_rng(2)
    basis = random.normal(size=(4, 16))
    rows = (random.normal(size=(64, 5, 4)) @ basis).astype("float32")
    layer = model.get_layer("att")
    attention = layers.MultiHeadAttention(2, 8, name="att")
    attend = keras.Model(model.input, attention(model.input, model.input))
    attend.get_layer("att").set_weights(layer.get_weights())
    plans = [dfprune.plan(attend, sparsity={"att": 0.5}, **known) for known in ({}, {"data": rows})]
    changes = []
    for plan in plans:
        narrow = plan.apply(attend)
        changes.append(np.square(np.asarray(narrow(rows)) - np.asarray(attend(rows))).mean())
    assert changes[1] < 0.05 * changes[0]


def test_slots_of_rotated_weights_start_anew_and_others_go_along(model):
    x = np.random.default_rng(3).normal(size=(8, 5, 16)).astype("float32")
    model = block()
    model.compile("adam", "mse")
    model.train_on_batch(x, np.zeros((8, 5, 3), "float32"))
    pruned = dfprune.apply(model, sparsity={"att": 0.5})
    slots = {variable.path: variable.numpy() for variable in pruned.optimizer.variables[2:]}
    rotated = [path for path in slots if "att" in path and "attention_output_bias" not in path]
    assert len(rotated) == 2 * 7
    for path, values in slots.items():
        assert values.any() == (path not in rotated), path
    pruned.train_on_batch(x, np.zeros((8, 5, 3), "float32"))


def test_frozen_heads_stay_where_only_trainable_layers_change(model):
    model = block()
    model.get_layer("att").trainable = False
    assert dfprune.plan(model, sparsity={"att": 0.5}, trainable_only=True).groups == ()
    plan = dfprune.plan(model, sparsity={"att": 0.5})
    assert "frozen layers are pruned, too" in " ".join(plan.notes)
    assert not plan.apply(model).get_layer("att").trainable


def test_smaller_heads_are_saved_and_exported(model, tmp_path):
    pruned = dfprune.apply(model, sparsity={"att": 0.5})
    for name in ("pruned.keras", "saved_model", "pruned.tflite"):
        assert dfprune.export(pruned, tmp_path / name).max_relative_error < 1e-5
