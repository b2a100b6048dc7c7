"""Refinement through `apply`: its chains, their improvement, and plans that store it."""

import dataclasses

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from keras_dfprune.inputs.draws import input_sampler
from keras_dfprune.locate.locate import locate_model
from keras_dfprune.methods.moments.prior import read_prior
from keras_dfprune.refine import chains
from keras_dfprune.surgery.group_view import view_group
from keras_dfprune.surgery.weights import LayerStates
from tests.support import conformance
from tests.support.models import dense_chain, inputs_of, outputs

layers = keras.layers


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(chains, "BATCH", 64)
    monkeypatch.setattr(chains, "HELD_OUT", 256)


def chains_of(model, **arguments):
    plan = dfprune.plan(model, sparsity=0.5, **arguments)
    merges = {group.layer: group.merge for group in plan.groups}
    found = chains.find_chains(locate_model(model), merges)
    return [[group.name for group in chain.groups] for chain in found]


def test_layers_that_follow_one_another_are_one_chain():
    assert chains_of(dense_chain([8, 7, 6, 2])) == [["fc1", "fc2", "fc3"]]
    assert chains_of(dense_chain([8, 7, 6, 2]), layers=["fc1", "fc3"]) == [["fc1"], ["fc3"]]


def test_layers_whose_inputs_cannot_be_drawn_are_left_out():
    behind = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Conv2D(4, 3), layers.Flatten(),
         layers.Dense(8, "relu", name="head"), layers.Dense(2)]
    )  # fmt: skip
    assert chains_of(behind) == []
    assert chains_of(behind, layers=["head"]) == [["head"]]
    sequence = keras.Sequential(
        [keras.Input((5, 3)), layers.Dense(8, "relu"), layers.Flatten(), layers.Dense(2)]
    )
    assert chains_of(sequence) == []


def refined(model, steps, **arguments):
    return dfprune.apply(model, refine_steps=steps, sparsity=0.6, **arguments)


def test_refinement_lessens_the_change_and_is_repeatable():
    model = dense_chain([24, 20, 4], seed=1)
    x = inputs_of(model, rows=500)
    changes = [
        np.mean((outputs(refined(model, steps), x) - outputs(model, x)) ** 2) for steps in (0, 200)
    ]
    assert changes[1] < 0.8 * changes[0]
    one, two = refined(model, 30).get_weights(), refined(model, 30).get_weights()
    for first, second in zip(one, two, strict=True):
        np.testing.assert_array_equal(first, second)


def test_a_frozen_model_is_pruned_but_not_refined():
    model = dense_chain([16, 12, 4])
    model.trainable = False
    for one, two in zip(refined(model, 0).weights, refined(model, 10).weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy())


@pytest.mark.parametrize("row", ["two ways", "reshape into channels"])
def test_inputs_are_drawn_for_units_with_several_weight_sets(row):
    layout = locate_model(conformance.build(row)).layout
    view = view_group(layout.groups["producer"], layout, LayerStates(layout))
    draw = input_sampler(view, read_prior("weights", "auto"))
    assert draw(3, np.zeros(2, np.int32)).shape == (3, 5)


def test_the_original_and_frozen_layers_stay():
    model = dense_chain([16, 12, 4])
    model.get_layer("fc2").trainable = False
    before = model.get_weights()
    plan = dfprune.plan(model, refine_steps=20, sparsity=0.5)
    plain, moved = dataclasses.replace(plan, refine_steps=0).apply(model), plan.apply(model)
    for one, two in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(*[m.get_layer("fc2").kernel.numpy() for m in (plain, moved)])
    assert not isinstance(plan.groups[1].merge, dfprune.CentroidMerge)
    assert np.any(plain.get_layer("fc1").kernel.numpy() != moved.get_layer("fc1").kernel.numpy())


def test_a_saved_plan_refines_again(tmp_path):
    model = dense_chain([16, 4])
    plan = dfprune.plan(model, refine_steps=10, sparsity=0.5)
    plan.save(tmp_path / "plan.npz")
    loaded = dfprune.PruningPlan.load(tmp_path / "plan.npz")
    assert loaded.refine_steps == 10
    x = inputs_of(model)
    np.testing.assert_array_equal(outputs(plan.apply(model), x), outputs(loaded.apply(model), x))


def test_a_model_with_a_softmax_follows_the_logits():
    chain = dense_chain([16, 4])
    model = keras.Sequential([*chain.layers[:1], layers.Dense(4, "softmax", name="end")])
    model.build((None, 6))
    found = dfprune.apply(model, refine_steps=5, sparsity=0.5)
    np.testing.assert_allclose(outputs(found, inputs_of(model)).sum(axis=1), 1, rtol=1e-5)
    assert found.get_layer("end").activation is keras.activations.softmax
    assert model.get_layer("end").activation is keras.activations.softmax
