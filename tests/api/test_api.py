"""Arguments of `apply` and `plan` select the units to remove; the result is a Keras model."""

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from keras_dfprune.planning.measure import largest_change
from tests.support.models import dense_chain, inputs_of, nested_model, outputs, widths

layers = keras.layers


def test_sparsity_is_the_fraction_of_units_removed():
    model = dense_chain([22, 10, 3])
    assert widths(dfprune.apply(model, sparsity=15 / 22)) == [7, 3, 3]
    assert widths(dfprune.apply(model, sparsity=0)) == [22, 10, 3]
    assert widths(dfprune.apply(model, sparsity=0.25)) == [16, 7, 3]  # 5.5 and 2.5: up
    assert widths(dfprune.apply(model, sparsity=0.999)) == [1, 1, 3]
    assert widths(dfprune.apply(model, sparsity=np.float32(0.5))) == [11, 5, 3]


def test_sparsity_by_layer_leaves_the_others_whole():
    model = dense_chain([22, 10, 3])
    assert widths(dfprune.apply(model, sparsity={"fc2": 0.5})) == [22, 5, 3]
    assert widths(dfprune.apply(model, sparsity=0.5, layers=["fc1"])) == [11, 10, 3]
    assert widths(dfprune.apply(model, sparsity=0.5, layers="fc1")) == [11, 10, 3]


def test_layers_of_nested_models_are_named_by_their_paths():
    pruned = dfprune.apply(nested_model(), sparsity={"left/fc1": 0.5, "first": 0.5})
    assert pruned.get_layer("left").get_layer("fc1").units == 4
    assert pruned.get_layer("right").get_layer("fc1").units == 8
    assert pruned.get_layer("first").units == 3
    assert pruned.get_layer("right").input_shape == (None, 3)


@pytest.mark.parametrize("method", ["saliency", "moments"])
@pytest.mark.parametrize("budget", [3000, 1500, 400])
def test_max_params_bounds_the_whole_model(method, budget):
    model = dense_chain([40, 30, 20, 5])
    plan = dfprune.plan(model, max_params=budget, method=method)
    pruned = plan.apply(model)
    assert pruned.count_params() == plan.parameters[1] <= budget
    assert plan.parameters[0] == model.count_params()
    if budget < model.count_params():
        assert plan.parameters[1] > 0.85 * budget  # and uses most of the budget


def test_max_params_counts_biases_that_consumers_gain():
    model = dense_chain([12, 8, 4], "tanh", use_bias=False)
    plan = dfprune.plan(model, max_params=60, method="moments")
    assert plan.apply(model).count_params() == plan.parameters[1] <= 60


class SmallestFirst(dfprune.Method):
    """User's method that removes the units with the smallest outgoing weights, without surgery."""

    def curve(self, group, context):
        sizes = (group.outgoing_matrix() ** 2).sum(axis=1)
        order = np.argsort(sizes)[:-1]

        def merge(count):
            kept = np.sort(np.setdiff1d(np.arange(group.units), order[:count]))
            no_survivor = np.full(count, -1)
            return dfprune.SurvivorMerge(
                kept, order[:count], np.zeros(group.units), no_survivor, np.zeros(count)
            )

        return dfprune.Curve(order=order, costs=sizes[order], merge=merge)


def test_a_user_s_own_method():
    model = dense_chain([10, 8, 3])
    pruned = dfprune.apply(model, sparsity=0.5, method=SmallestFirst())
    assert widths(pruned) == [5, 4, 3]
    sizes = (model.get_layer("fc2").kernel.numpy() ** 2).sum(axis=1)
    kept = np.sort(np.argsort(sizes)[5:])
    kernel = model.get_layer("fc1").kernel.numpy()
    np.testing.assert_array_equal(pruned.get_layer("fc1").kernel.numpy(), kernel[:, kept])
    assert dfprune.apply(model, max_params=60, method=SmallestFirst()).count_params() <= 60
    rows = inputs_of(model, rows=40)
    bounded = dfprune.plan(model, method=SmallestFirst(), tolerance=0.9, data=rows)
    assert sum(len(group.removed) for group in bounded.groups) > 0
    assert largest_change(bounded.measured) <= 0.9


@pytest.mark.parametrize("method", ["moments", "saliency"])
def test_tolerance_bounds_the_measured_change(method):
    model = dense_chain([24, 16, 5], seed=2)
    parameters = []
    for tolerance in (0.01, 0.1, 0.5):
        plan = dfprune.plan(model, method=method, tolerance=tolerance)
        assert largest_change(plan.measured) <= tolerance
        parameters.append(plan.parameters[1])
    assert parameters == sorted(parameters, reverse=True)
    assert parameters[0] > parameters[-1]


def test_data_sharpens_moments():
    model = dense_chain([40, 5], seed=4)
    random = np.random.default_rng(0)
    directions = random.normal(size=(2, 6))
    x = (random.normal(size=(500, 2)) @ directions).astype("float32")
    errors = []
    for data in (None, x):
        pruned = dfprune.apply(model, sparsity=0.8, data=data)
        errors.append(np.mean((outputs(pruned, x) - outputs(model, x)) ** 2))
    assert errors[1] < 0.5 * errors[0]


def test_result_can_be_trained_on_and_names_stay():
    model = dense_chain([10, 8, 3])
    model.get_layer("fc1").trainable = False
    model.compile("adam", "mse")
    pruned = dfprune.apply(model, sparsity=0.5)
    assert [layer.name for layer in pruned.layers] == [layer.name for layer in model.layers]
    assert isinstance(pruned, keras.Sequential) and pruned.name == model.name
    assert not pruned.get_layer("fc1").trainable and pruned.get_layer("fc2").trainable
    frozen, before = pruned.get_layer("fc1").kernel.numpy(), outputs(model, inputs_of(model))
    moving = pruned.get_layer("fc2").kernel.numpy()
    pruned.fit(np.ones((8, 6)), np.ones((8, 3)), verbose=0)
    np.testing.assert_array_equal(frozen, pruned.get_layer("fc1").kernel.numpy())
    assert np.any(moving != pruned.get_layer("fc2").kernel.numpy())
    np.testing.assert_array_equal(before, outputs(model, inputs_of(model)))
