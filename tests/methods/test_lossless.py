"""Lossless removals: every kind is found, and none changes the outputs."""

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from keras_dfprune.methods import lossless
from tests.support.groups import group_view
from tests.support.models import (
    dense_chain,
    inputs_of,
    outputs,
    plant_copy,
    relative_difference,
    removed_units,
)


def pruned_exactly(model, **arguments):
    """Plan the lossless removals, check the outputs of the pruned model, and return the plan."""
    plan = dfprune.plan(model, tolerance=0, **arguments)
    x = inputs_of(model)
    assert relative_difference(outputs(plan.apply(model), x), outputs(model, x)) <= 1e-5
    return plan


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "gelu"])
def test_copies(activation):
    model = dense_chain([10, 9, 3], activation)
    plant_copy(model.get_layer("fc1"), 2, 7)
    plant_copy(model.get_layer("fc1"), 2, 8)
    plant_copy(model.get_layer("fc2"), 0, 4)
    plan = pruned_exactly(model)
    assert removed_units(plan) == {"fc1": {2, 7}, "fc2": {0}}
    assert set(plan.groups[0].survivor.tolist()) == {8}


@pytest.mark.parametrize("scale", [3.0, 0.1, 1e3, 2.0])
@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "linear"])
def test_scaled_copies_behind_homogeneous_activations(activation, scale):
    model = dense_chain([10, 3], activation)
    plant_copy(model.get_layer("fc1"), 1, 6, scale)
    assert removed_units(pruned_exactly(model)) == {"fc1": {1}}


def test_scaled_copies_behind_other_activations_stay():
    model = dense_chain([10, 3], "tanh")
    plant_copy(model.get_layer("fc1"), 1, 6, 2.0)
    plant_copy(model.get_layer("fc1"), 2, 7, -1.0)
    assert removed_units(pruned_exactly(model)) == {"fc1": set()}


def test_negative_multiples_and_near_copies_stay():
    model = dense_chain([10, 3])
    layer = model.get_layer("fc1")
    plant_copy(layer, 1, 6, -1.0)
    plant_copy(layer, 2, 7)
    kernel = layer.kernel.numpy()
    kernel[0, 7] += 1e-3
    layer.kernel.assign(kernel)
    assert removed_units(pruned_exactly(model)) == {"fc1": set()}


@pytest.mark.parametrize("scaled", [1.0, 1e-25, 1e25])
@pytest.mark.parametrize("inputs", [1, 3, 700])
def test_all_multiples_are_found_at_any_scale(inputs, scaled):
    """Float32 rounds each multiple. The units of about 60 classes come in any order."""
    random = np.random.default_rng(inputs)
    classes = random.integers(0, 60, size=300)
    factors = np.exp(random.normal(scale=4.0, size=(300, 1)))
    sets = scaled * factors * random.normal(size=(60, inputs + 1))[classes]
    group = group_view(sets.astype("float32"), (random.normal(size=(300, 1, 2)),))
    wanted = {unit for unit in range(300) if np.any(classes[unit + 1 :] == classes[unit])}
    found = lossless.lossless_removals(group)
    assert {removal.unit for removal in found} == wanted
    for removal in found:
        assert classes[removal.survivor] == classes[removal.unit]
        ratio = factors[removal.unit, 0] / factors[removal.survivor, 0]
        assert removal.scale == pytest.approx(ratio, rel=1e-5)


@pytest.mark.parametrize("noise", [1e-3, 1e-5, 3e-6, 1e-6])
def test_weight_sets_that_nearly_agree_are_not_compared_pair_by_pair(monkeypatch, noise):
    """300 units around one direction make 44,850 pairs, of which three units are multiples."""
    random = np.random.default_rng(0)
    sets = random.normal(size=51) + noise * random.normal(size=(300, 51))
    sets[[10, 200]] = sets[[70, 70]] * [[3.7], [0.2]]
    group = group_view(sets.astype("float32"), (random.normal(size=(300, 1, 2)),))
    compared, multiple = [], lossless._are_multiples
    monkeypatch.setattr(
        lossless, "_are_multiples", lambda *args: compared.append(1) or multiple(*args)
    )
    found = lossless.lossless_removals(group)
    assert [(removal.unit, removal.survivor) for removal in found] == [(10, 70), (70, 200)]
    assert len(compared) < 20


def test_negative_zero_is_zero():
    model = dense_chain([6, 3], "tanh")
    layer = model.get_layer("fc1")
    kernel = layer.kernel.numpy()
    kernel[0, :2] = 0.0
    layer.kernel.assign(kernel)
    plant_copy(layer, 0, 1)
    kernel = layer.kernel.numpy()
    kernel[0, 1] = -0.0
    layer.kernel.assign(kernel)
    assert removed_units(pruned_exactly(model)) == {"fc1": {0}}


def test_units_that_nothing_reads():
    model = dense_chain([6, 3], "sigmoid")
    rows = model.get_layer("fc2").kernel.numpy()
    rows[[1, 4]] = 0.0
    model.get_layer("fc2").kernel.assign(rows)
    plan = pruned_exactly(model)
    assert removed_units(plan) == {"fc1": {1, 4}}
    assert plan.groups[0].survivor.tolist() == [-1, -1]


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "exponential"])
def test_constant_units_go_into_the_bias(activation):
    model = dense_chain([6, 3], activation)
    kernel, bias = model.get_layer("fc1").get_weights()
    kernel[:, 2], bias[2] = 0.0, 0.7
    model.get_layer("fc1").set_weights([kernel, bias])
    assert removed_units(pruned_exactly(model)) == {"fc1": {2}}


def test_one_weight_among_many_zeros_is_enough_to_stay():
    model = dense_chain([40, 40], "tanh", inputs=40)
    layer, consumer = model.get_layer("fc1"), model.layers[-1]
    kernel, outgoing = layer.kernel.numpy(), consumer.kernel.numpy()
    kernel[:, [3, 5]], outgoing[[8, 9]] = 0, 0
    kernel[-1, 5] = outgoing[9, -1] = 1
    layer.kernel.assign(kernel)
    consumer.kernel.assign(outgoing)
    assert removed_units(pruned_exactly(model)) == {"fc1": {3, 8}}


def test_a_constant_unit_of_infinite_value_stays():
    model = dense_chain([6, 3], "exponential")
    kernel, bias = model.get_layer("fc1").get_weights()
    kernel[:, 2], bias[2] = 0.0, 1000.0
    model.get_layer("fc1").set_weights([kernel, bias])
    assert removed_units(dfprune.plan(model, tolerance=0)) == {"fc1": set()}


def test_a_consumer_without_bias_gets_one():
    model = dense_chain([6, 3], "sigmoid", use_bias=False)
    kernel = model.get_layer("fc1").kernel.numpy()
    kernel[:, 2] = 0.0
    model.get_layer("fc1").kernel.assign(kernel)
    plan = pruned_exactly(model)
    assert removed_units(plan) == {"fc1": {2}}
    assert "fc2 gets a bias" in str(plan)
    assert plan.apply(model).get_layer("fc2").use_bias


def test_zero_units_of_relu_need_no_bias():
    model = dense_chain([6, 3], use_bias=False)
    kernel = model.get_layer("fc1").kernel.numpy()
    kernel[:, 2] = 0.0
    model.get_layer("fc1").kernel.assign(kernel)
    plan = pruned_exactly(model)
    assert removed_units(plan) == {"fc1": {2}}
    assert not plan.apply(model).get_layer("fc2").use_bias


@pytest.mark.parametrize("activation", ["relu", "sigmoid"])
def test_one_unit_stays_of_a_layer_of_zeros(activation):
    model = dense_chain([6, 3], activation)
    model.get_layer("fc1").set_weights([np.zeros((6, 6)), np.zeros(6)])
    plan = pruned_exactly(model)
    assert len(plan.groups[0].kept) == 1


def test_one_unit_stays_of_equal_units():
    model = dense_chain([6, 3], "tanh")
    for target in range(1, 6):
        plant_copy(model.get_layer("fc1"), 0, target)
    plan = pruned_exactly(model)
    assert len(plan.groups[0].kept) == 1
    narrow = dfprune.apply(model, sparsity=0.99)
    assert narrow.get_layer("fc1").units == 1


@pytest.mark.parametrize("method", ["saliency", "moments"])
def test_every_method_removes_copies_first(method):
    model = dense_chain([12, 4])
    for target in (3, 5, 9):
        plant_copy(model.get_layer("fc1"), 0, target, 1.0 + target)
    plan = pruned_exactly(model, method=method)
    assert len(plan.groups[0].removed) == 3
    half = dfprune.plan(model, method=method, sparsity=0.5)
    assert set(plan.groups[0].removed.tolist()) <= set(half.groups[0].removed.tolist())


def test_without_surgery_copies_are_not_lossless():
    model = dense_chain([8, 3])
    plant_copy(model.get_layer("fc1"), 0, 5)
    plan = dfprune.plan(model, tolerance=0, method=dfprune.Saliency(surgery=False))
    assert len(plan.groups[0].removed) == 0


def test_a_copy_that_is_multiplied_by_zero_is_no_survivor():
    """A unit whose gamma is 0 in a BatchNormalization can't take over for its copy."""
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(5, "relu", name="fc1")(inputs)
    hidden = keras.layers.BatchNormalization(name="bn")(hidden)
    model = keras.Model(inputs, keras.layers.Dense(2)(hidden))
    plant_copy(model.get_layer("fc1"), 0, 3)
    gamma = np.ones(5)
    gamma[3] = 0.0
    model.get_layer("bn").gamma.assign(gamma)
    plan = pruned_exactly(model)
    assert 0 not in removed_units(plan)["fc1"]


@pytest.mark.parametrize("shared_axes, gone", [(None, 0), ([1], 1), ([1, 2], 1), ([2], 0)])
def test_slopes_that_differ_between_positions_bend_a_constant(shared_axes, gone):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((5, 3)),
            keras.layers.Dense(6, name="fc1"),
            keras.layers.PReLU(shared_axes=shared_axes, name="bend"),
            keras.layers.Flatten(),
            keras.layers.Dense(2),
        ]
    )
    random = np.random.default_rng(0)
    kernel, bias = model.get_layer("fc1").get_weights()
    kernel[:, 4], bias[4] = 0, -1
    model.get_layer("fc1").set_weights([kernel, bias])
    alpha = model.get_layer("bend").alpha
    alpha.assign(random.uniform(0.1, 0.9, alpha.shape))
    assert len(pruned_exactly(model).groups[0].removed) == gone


@pytest.mark.parametrize("activation, gone", [("relu", 1), ("sigmoid", 0), ("relu6", 0)])
def test_the_activation_of_a_depthwise_convolution_bends_multiples(activation, gone):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((4, 4, 2)),
            keras.layers.Conv2D(6, 1, activation="relu", name="fc1"),
            keras.layers.DepthwiseConv2D(2, activation=activation, use_bias=False, name="blur"),
            keras.layers.Flatten(),
            keras.layers.Dense(2),
        ]
    )
    model.get_layer("blur").set_weights([np.full((2, 2, 6, 1), 2.0)])
    plant_copy(model.get_layer("fc1"), 1, 4, 5.0)
    assert len(pruned_exactly(model).groups[0].removed) == gone
