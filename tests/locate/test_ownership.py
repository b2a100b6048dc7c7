"""Variables as arguments of calls: their owner stays whole, and the new model has its own."""

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from keras_dfprune.graph.ownership import is_variable, variable_key
from keras_dfprune.graph.read_graph import read_graph
from tests.support.random_graphs import reachable_variables

layers = keras.layers


def inputs_and_units(name="units"):
    inputs = keras.Input((6,))
    return inputs, layers.Dense(12, "relu", name=name)(inputs)


def tied_decoder():
    inputs = keras.Input((6,))
    encoder = layers.Dense(4, name="owner")
    hidden = layers.Dense(4)(layers.Dense(12, "relu", name="units")(encoder(inputs)))
    return keras.Model(inputs, keras.ops.matmul(hidden, keras.ops.transpose(encoder.kernel)))


def tied_by_einsum():
    inputs = keras.Input((6,))
    encoder = layers.Dense(4, name="owner")
    hidden = layers.Dense(4)(layers.Dense(12, "relu", name="units")(encoder(inputs)))
    return keras.Model(inputs, keras.ops.einsum("bj,ij->bi", hidden, encoder.kernel))


def tied_embedding():
    tokens = keras.Input((5,), dtype="int32")
    table = layers.Embedding(11, 8, name="owner")
    hidden = layers.Dense(8)(layers.Dense(12, "relu", name="units")(table(tokens)))
    return keras.Model(tokens, keras.ops.einsum("btd,vd->btv", hidden, table.embeddings))


def bias_added_elsewhere():
    inputs, hidden = inputs_and_units()
    owner = layers.Dense(3, name="owner")
    outputs = layers.Dense(3)(hidden) + owner(inputs)
    return keras.Model(inputs, keras.ops.add(outputs, owner.bias))


def variable_of_a_nested_model():
    inner = keras.Sequential([keras.Input((6,)), layers.Dense(6, name="owner")], name="inner")
    inputs, hidden = inputs_and_units()
    outputs = layers.Dense(6)(hidden)
    inner_outputs = inner(inputs)
    return keras.Model(inputs, keras.ops.matmul(outputs + inner_outputs, inner.layers[0].kernel))


def tensorflow_variable():
    inputs, hidden = inputs_and_units()
    owner = layers.Dense(3, name="owner")
    outputs = layers.Dense(3)(hidden) + owner(inputs)
    return keras.Model(inputs, keras.ops.add(outputs, owner.bias.value))


def variable_without_a_layer():
    inputs, hidden = inputs_and_units()
    scale = keras.Variable(np.full(3, 2.0), name="scale")
    return keras.Model(inputs, keras.ops.multiply(layers.Dense(3)(hidden), scale))


def variable_met_by_units():
    """Units would have to be cut out of a variable that no layer owns."""
    inputs, hidden = inputs_and_units("met")
    scale = keras.Variable(np.arange(1.0, 13.0), name="scale")
    hidden = layers.Dense(12, "relu", name="units")(keras.ops.multiply(hidden, scale))
    return keras.Model(inputs, layers.Dense(3)(hidden))


MODELS = [tied_decoder, tied_by_einsum, tied_embedding, bias_added_elsewhere,
          variable_of_a_nested_model, tensorflow_variable, variable_without_a_layer,
          variable_met_by_units]  # fmt: skip


def sample(model):
    (shape,) = [tensor.shape[1:] for tensor in model.inputs]
    if model.inputs[0].dtype == "int32":
        return np.random.default_rng(0).integers(0, 11, (4, *shape))
    return np.random.default_rng(0).normal(size=(4, *shape)).astype("float32")


@pytest.mark.parametrize("build", MODELS)
def test_nothing_is_shared_and_the_rest_is_pruned(build):
    keras.utils.set_random_seed(0)
    model = build()
    pruned = dfprune.apply(model, sparsity=0.5)
    assert pruned.get_layer("units").units == 6
    assert not reachable_variables(model) & reachable_variables(pruned)
    x = sample(model)
    before = pruned(x).numpy()
    for variable in model.variables:
        variable.assign(np.zeros(variable.shape))
    np.testing.assert_array_equal(pruned(x).numpy(), before)


@pytest.mark.parametrize("build", MODELS)
def test_a_plan_without_removals_computes_the_same(build):
    model = build()
    pruned = dfprune.apply(model, tolerance=0)
    np.testing.assert_allclose(pruned(sample(model)), model(sample(model)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("build", [tied_by_einsum, tied_embedding, bias_added_elsewhere])
def test_the_owner_still_is_tied_in_the_new_model(build):
    model = build()
    pruned = dfprune.apply(model, sparsity=0.5)
    before = pruned(sample(model)).numpy()
    owned = {variable_key(variable) for variable in pruned.get_layer("owner").variables}
    taken = {
        variable_key(value)
        for call in read_graph(pruned).calls
        for value in keras.tree.flatten((call.args, call.kwargs))
        if is_variable(value)
    }
    assert taken and taken <= owned
    for variable in pruned.get_layer("owner").variables:
        variable.assign(np.zeros(variable.shape))
    assert np.abs(pruned(sample(model)).numpy() - before).max() > 0


def test_the_reasons_name_both_sides():
    plan = dfprune.plan(tied_by_einsum(), sparsity=0.5)
    reasons = {refusal.layer: refusal.reason for refusal in plan.refusals}
    assert reasons["owner"].startswith("it shares its weights with einsum")
    plan = dfprune.plan(variable_met_by_units(), sparsity=0.5)
    reasons = {refusal.layer: refusal.reason for refusal in plan.refusals}
    assert reasons["met"].endswith("which takes a variable as an argument")
