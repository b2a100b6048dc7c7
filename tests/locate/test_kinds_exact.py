"""Exactly the planted copies are removed from many kinds of models, and the outputs stay."""

import keras
import pytest

import keras_dfprune as dfprune
from tests.support import kinds, kinds_of_layers, kinds_of_structure

layers = keras.layers
Dense = layers.Dense
ROWS = kinds_of_structure.ROWS | kinds_of_layers.ROWS


@pytest.mark.parametrize("name", ROWS)
def test_exactly_the_planted_units_are_removed(name):
    kinds.check_exact(ROWS[name])


@pytest.mark.parametrize("name", ROWS)
def test_half_of_the_units_are_removed(name, tmp_path):
    kinds.check_half(ROWS[name], tmp_path, load={})


def consumer_without_bias_is_an_output_too():
    """The BatchNormalization can't take an offset, because the output in front would miss it."""
    inputs = keras.Input((6,))
    hidden = Dense(8, "sigmoid", name="copy1")(inputs)
    between = Dense(5, use_bias=False, name="consumer")(hidden)
    behind = layers.ReLU()(layers.BatchNormalization()(between))
    return keras.Model(inputs, [between, Dense(3)(behind)])


def constant_unit(build):
    """Make unit 5 of the first layer constant; return the row's model and its plan."""
    model = kinds.prepare(build)
    layer = next(layer for layer in model.layers if isinstance(layer, Dense))
    kernel, bias = layer.get_weights()
    kernel[:, 5], bias[5] = 0.0, 1.7
    layer.set_weights([kernel, bias])
    return model, dfprune.plan(model, method="moments", tolerance=0)


def test_an_offset_becomes_a_new_bias():
    model, plan = constant_unit(kinds_of_layers.consumer_without_bias)
    assert 5 in plan.groups[0].removed
    assert any("gets a bias" in note for note in plan.notes)
    pruned = plan.apply(model)
    assert pruned.layers[-1].use_bias and not model.layers[-1].use_bias
    assert pruned.count_params() == plan.parameters[1]
    x = kinds.draw(model)
    kinds.assert_agree(kinds.run(pruned, x), kinds.run(model, x), 1e-5)


def test_an_offset_goes_into_the_normalization_behind():
    model, plan = constant_unit(kinds_of_layers.normalization_behind_a_consumer_without_bias)
    assert 5 in plan.groups[0].removed and plan.notes == ()
    pruned = plan.apply(model)
    assert not pruned.get_layer("consumer").use_bias
    x = kinds.draw(model)
    kinds.assert_agree(kinds.run(pruned, x), kinds.run(model, x), 1e-5)


def test_an_offset_becomes_a_bias_where_the_consumer_is_an_output():
    model, plan = constant_unit(consumer_without_bias_is_an_output_too)
    assert 5 in plan.groups[0].removed
    pruned = plan.apply(model)
    assert pruned.get_layer("consumer").use_bias
    x = kinds.draw(model)
    kinds.assert_agree(kinds.run(pruned, x), kinds.run(model, x), 1e-5)
