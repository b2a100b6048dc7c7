"""Budgets of multiply-adds and bytes, multiples, and plans that are cut again."""

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from keras_dfprune.graph.read_graph import read_graph
from keras_dfprune.rules.multiply_adds import multiply_adds
from tests.support.models import dense_chain

layers = keras.layers


def residual_net():
    """Build a net of convolutions with a residual group, and a shared Dense layer."""
    inputs = keras.Input((8, 8, 2))
    hidden = layers.Conv2D(24, 3, padding="same", activation="relu", name="stem")(inputs)
    branch = layers.Conv2D(20, 3, padding="same", activation="relu", name="inner")(hidden)
    branch = layers.Conv2D(24, 3, padding="same", use_bias=False, name="outer")(branch)
    hidden = layers.ReLU()(layers.Add()([hidden, branch]))
    hidden = layers.SeparableConv2D(18, 3, strides=2, activation="relu", name="apart")(hidden)
    shared = layers.Dense(10, "relu", name="shared")
    pooled = [layers.GlobalAveragePooling2D()(hidden), layers.GlobalMaxPooling2D()(hidden)]
    return keras.Model(inputs, layers.Dense(3)(layers.Concatenate()(list(map(shared, pooled)))))


def flops(model):
    return multiply_adds(read_graph(model).calls)


@pytest.mark.parametrize("build", [residual_net, lambda: dense_chain([40, 30, 20, 4])])
@pytest.mark.parametrize("share", [0.7, 0.3])
def test_multiply_adds_are_never_more_than_the_budget(build, share):
    model = build()
    whole = flops(model)
    plan = dfprune.plan(model, max_flops=share)
    pruned = plan.apply(model)
    assert plan.multiply_adds == (whole, flops(pruned))
    assert 0.8 * share * whole <= flops(pruned) <= share * whole
    assert flops(dfprune.apply(model, max_flops=int(share * whole))) == flops(pruned)


@pytest.mark.parametrize("kind", ["tflite", "tflite:int8", "keras"])
def test_files_are_never_larger_than_the_budget(kind, tmp_path):
    model = dense_chain([60, 50, 40, 4])
    model.compile("adam", "mse")
    model.train_on_batch(np.ones((2, *model.input_shape[1:])),
                         np.ones((2, 4)))  # fmt: skip
    name, _, quantize = kind.partition(":")
    rows = np.random.default_rng(0).normal(size=(16, *model.input_shape[1:]))
    options = {"quantize": "int8", "representative_data": rows} if quantize else {}

    def size(model):
        return dfprune.export(model, tmp_path / f"a.{name}", **options).bytes

    budget = int(0.5 * size(model))
    assert 0.9 * budget <= size(dfprune.apply(model, max_bytes={kind: budget})) <= budget


@pytest.mark.parametrize("budget", [{"max_params": 0.6}, {"max_flops": 0.6}, {"sparsity": 0.4}])
def test_widths_end_on_multiples(budget):
    model = residual_net()
    plan = dfprune.plan(model, multiple_of=8, **budget)
    for group in plan.groups:
        kept = len(group.kept)
        assert kept == group.units or (kept % 8 == 0 and kept >= 8)
    assert any(len(group.removed) for group in plan.groups)
    narrow = plan.apply(model)
    assert narrow.get_layer("stem").filters == narrow.get_layer("outer").filters
    plan = dfprune.plan(model, multiple_of={"inner": 5}, **budget)
    kept = {group.layer: len(group.kept) for group in plan.groups}
    assert kept["inner"] % 5 == 0


@pytest.mark.parametrize("given", [False, True], ids=["order of the plan", "planned anew"])
@pytest.mark.parametrize("multiple", [8, {"fc1": 8, "fc2": 3}])
def test_a_plan_that_is_cut_again_keeps_its_multiple(multiple, given, tmp_path):
    model = dense_chain([40, 30, 4])
    multiples = multiple if isinstance(multiple, dict) else {"fc1": 8, "fc2": 8}
    options = {"model": model} if given else {}
    plan = dfprune.plan(model, max_params=0.7, multiple_of=multiple)
    plan.save(tmp_path / "plan.npz")
    for made in (plan, dfprune.PruningPlan.load(tmp_path / "plan.npz")):
        again = made.at(max_params=0.4, **options)
        assert all(len(group.kept) % multiples[group.layer] == 0 for group in again.groups)
        assert again.apply(model).count_params() <= 0.4 * model.count_params()
        other = made.at(max_params=0.4, multiple_of=5, **options)
        assert all(len(group.kept) % 5 == 0 for group in other.groups)


def test_lossless_removals_leave_multiples_without_loss():
    model = dense_chain([12, 3])
    kernel, bias = model.layers[0].get_weights()
    kernel[:, 1:4], bias[1:4] = kernel[:, :1], bias[:1]  # three copies
    model.layers[0].set_weights([kernel, bias])
    assert len(dfprune.plan(model, tolerance=0).groups[0].kept) == 9
    assert len(dfprune.plan(model, tolerance=0, multiple_of=5).groups[0].kept) == 10


@pytest.mark.parametrize("method", ["moments", "saliency"])
@pytest.mark.parametrize("budget", [{"max_params": 0.4}, {"max_flops": 0.4}, {"sparsity": 0.7}])
def test_a_plan_is_cut_again(method, budget, tmp_path):
    model = residual_net()
    plan = dfprune.plan(model, max_params=0.7, method=method)
    plan.save(tmp_path / "plan.npz")
    loaded = dfprune.PruningPlan.load(tmp_path / "plan.npz")
    for again in (plan.at(**budget), loaded.at(**budget)):
        narrow = again.apply(model)  # verified against the wide twin
        assert narrow.count_params() <= again.parameters[1] < plan.parameters[1]
        assert flops(narrow) == again.multiply_adds[1]
        assert not again.measured and "isn't measured" in again.notes[0]
    measured = loaded.at(model=model, **budget)
    expected = dfprune.plan(model, method=method, **budget)
    assert str(measured) == str(expected)
    again.save(tmp_path / "again.npz")
    kept = dfprune.PruningPlan.load(tmp_path / "again.npz").apply(model).get_weights()
    for one, other in zip(narrow.get_weights(), kept, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("made", "asked", "words"),
    [
        ({"max_params": 0.5}, {"tolerance": 0.1}, "measured on the narrow model.*model=model"),
        ({"max_params": 0.5}, {"max_bytes": {"tflite": 0.5}}, "exported files.*model=model"),
        ({"max_params": 0.5}, {"sparsity": {"fc1": 0.5}}, "looked up in the model"),
        ({"max_params": 0.5}, {}, "Without a budget"),
        ({"sparsity": 0.5}, {"sparsity": 0.3}, "scored each layer on what the layers before"),
        ({"max_params": 0.5}, {"max_params": 1}, "can't be reached.*still has"),
        ({"max_params": 0.5}, {"max_params": 0.5, "sparsity": 0.5}, "Give at most one of"),
    ],
)
def test_sizes_that_a_plan_can_t_be_cut_to(made, asked, words):
    plan = dfprune.plan(dense_chain([10, 8, 3]), **made)
    with pytest.raises(ValueError, match=words):
        plan.at(**asked)


def test_another_model_and_other_arguments_are_refused():
    plan = dfprune.plan(dense_chain([10, 8, 3]), max_params=0.5)
    with pytest.raises(ValueError, match="made for another model"):
        plan.at(model=dense_chain([10, 9, 3]), max_params=0.4)
    with pytest.raises(TypeError, match="Unknown argument 'method'"):
        plan.at(method="saliency", max_params=0.4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"max_flops": 1.0}, "`max_flops` must be a fraction of the model's multiply-adds"),
        ({"max_flops": 1}, "can't be reached.*multiply-adds"),
        ({"max_bytes": 1000}, "must be a dict of one format"),
        ({"max_bytes": {"tflite": 10}}, "can't be reached.*still has"),
        ({"max_bytes": {"tflite:int4": 10}}, "must name one of the formats"),
        ({"multiple_of": 0}, "`multiple_of` must be an integer of at least 1"),
        ({"multiple_of": {"fc9": 2}}, "There is no layer 'fc9'. Did you mean"),
    ],
)
def test_bad_arguments(arguments, words):
    with pytest.raises(ValueError, match=words):
        dfprune.plan(dense_chain([10, 8, 3]), **arguments)


def nested():
    inner = keras.Sequential(
        [keras.Input((6,)), layers.Dense(8, "relu", name="a1"), layers.Dense(8, "relu", name="a2")],
        name="inner",
    )
    inputs = keras.Input((6,))
    hidden = layers.Dense(9, "relu", name="b1")(inner(inputs))
    return keras.Model(inputs, layers.Dense(3, name="b2")(hidden))


@pytest.mark.parametrize(
    ("chosen", "groups"),
    [
        ({"layers": ["inner"]}, ["inner/a1", "inner/a2"]),
        ({"layers": "a*"}, ["inner/a1", "inner/a2"]),
        ({"layers": ["inner/*2", "b1"]}, ["inner/a2", "b1"]),
        ({"exclude": ["b?"]}, ["inner/a1", "inner/a2"]),
        ({"layers": ["inner"], "exclude": ["a1"]}, ["inner/a2"]),
    ],
)
def test_layers_are_named_by_patterns_and_models(chosen, groups):
    plan = dfprune.plan(nested(), sparsity=0.5, **chosen)
    assert [group.layer for group in plan.groups] == groups


def test_sparsity_by_pattern_and_layers_as_objects():
    model = nested()
    plan = dfprune.plan(model, sparsity={"inner/*": 0.5, "b1": 0.0})
    assert [len(group.kept) for group in plan.groups] == [4, 4, 9]
    first = model.get_layer("inner").layers[0]
    assert [g.layer for g in dfprune.plan(model, sparsity=0.5, layers=[first]).groups] == [
        "inner/a1"
    ]
    assert [g.layer for g in dfprune.plan(model, sparsity=0.5, exclude=[first]).groups] == [
        "inner/a2",
        "b1",
    ]
    with pytest.raises(ValueError, match="There is no layer 'a1' that is this object"):
        dfprune.plan(model, layers=[nested().get_layer("inner").layers[0]])


def test_frozen_layers_stay_whole_on_demand():
    model = nested()
    model.get_layer("inner").trainable = False
    plan = dfprune.plan(model, sparsity=0.5)
    assert len(plan.groups) == 3 and "frozen layers are pruned, too" in plan.notes[0]
    plan = dfprune.plan(model, sparsity=0.5, trainable_only=True)
    assert [group.layer for group in plan.groups] == ["b1"]
    assert plan.notes == ("frozen layers stay as they are: inner/a1, inner/a2",)
    narrow = plan.apply(model)
    for one, other in zip(model.get_layer("inner").get_weights(),
                          narrow.get_layer("inner").get_weights(), strict=True):  # fmt: skip
        np.testing.assert_array_equal(one, other)
