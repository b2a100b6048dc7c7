"""Kept units with weighted sums of weight-sets: their pre-activations are the exact sums."""

import dataclasses

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from keras_dfprune.inputs.model_inputs import adapt_samples, run_model
from keras_dfprune.inputs.sample_inputs import draw_samples
from keras_dfprune.methods.lossless import lossless_removals
from keras_dfprune.methods.weighted_sums import summed, summed_tensor
from tests.support import conformance, random_graphs
from tests.support.models import relative_difference

layers = keras.layers
UNITS, SHARES = 6, np.array([0.5, 0.25, 1.0, 2.0, -0.5, 0.25])
KEPT, CLUSTER = np.array([0, 2, 3]), np.array([0, 0, 1, 2, 2, -1])
MIXED, LEVEL = SHARES * (CLUSTER == np.arange(3)[:, None]), np.array([0.5, -1.0, 0.25])


class Averages(dfprune.Method):
    """Method that rebuilds each unit as the weighted sum of its cluster above."""

    def curve(self, group, context):
        self.seen = group

        def merge(count):
            coefficients = np.zeros((3, UNITS))
            coefficients[CLUSTER[:5], np.arange(5)] = 1.0
            removed, level = np.array([1, 4, 5]), LEVEL * group.levels
            return dfprune.CentroidMerge(KEPT, removed, np.zeros(UNITS), coefficients, MIXED, level)

        return dfprune.Curve(np.array([1, 4, 5]), np.ones(3), merge)


class Copies(dfprune.Method):
    """Method that replaces copies by their mean, where the group allows it."""

    has_cutoff = True

    def curve(self, group, context):
        removals = lossless_removals(group)
        order = np.array([removal.unit for removal in removals], int)
        kept = np.setdiff1d(np.arange(group.units), order)

        def merge(count):
            cluster, factor = np.full(group.units, -1), np.zeros(group.units)
            cluster[kept], factor[kept] = np.arange(len(kept)), 1.0
            offset = np.zeros(group.units)
            for removal in removals[::-1]:
                offset[removal.unit] = removal.offset
                if removal.survivor >= 0:
                    cluster[removal.unit] = cluster[removal.survivor]
                    factor[removal.unit] = removal.scale * factor[removal.survivor]
                    offset[removal.unit] += removal.scale * offset[removal.survivor]
            coefficients = np.zeros((len(kept), group.units))
            member = cluster >= 0
            coefficients[cluster[member], np.flatnonzero(member)] = factor[member]
            if not group.averages:
                return dfprune.LinearMerge(kept, order, offset, coefficients[:, order])
            weight = np.zeros(group.units)
            weight[member] = 1.0 / (factor * np.bincount(cluster[member])[cluster])[member]
            shares = weight * (cluster == np.arange(len(kept))[:, None])
            return dfprune.CentroidMerge(
                kept, order, offset, coefficients, shares, np.zeros(len(kept))
            )

        return dfprune.Curve(order, np.zeros(len(order)), merge, automatic=len(order))


def normalized(**arguments):
    return layers.BatchNormalization(**arguments)


PRODUCERS = {
    "dense": lambda: ((5,), [layers.Dense(UNITS, name="fc")]),
    "no bias": lambda: ((5,), [layers.Dense(UNITS, use_bias=False, name="fc")]),
    "normalized": lambda: ((5,), [layers.Dense(UNITS, name="fc"), normalized()]),
    "normalized, no bias": lambda: (
        (5,),
        [layers.Dense(UNITS, use_bias=False, name="fc"), normalized(scale=False)],
    ),
    "twice": lambda: ((5,), [layers.Dense(UNITS, name="fc"), normalized(), normalized()]),
    "einsum": lambda: (
        (4, 5),
        [layers.EinsumDense("abc,cd->abd", (None, UNITS), bias_axes="d", name="fc")],
    ),
    "convolution": lambda: (
        (7, 6, 2),
        [layers.Conv2D(UNITS, 3, use_bias=False, name="fc"), normalized(center=False)],
    ),
    "separable": lambda: ((7, 6, 2), [layers.SeparableConv2D(UNITS, 3, name="fc"), normalized()]),
    "time": lambda: ((4, 5), [layers.TimeDistributed(layers.Dense(UNITS), name="fc")]),
}


@pytest.mark.parametrize("name", PRODUCERS)
def test_new_pre_activations_are_weighted_sums_of_the_old(name):
    shape, front = PRODUCERS[name]()
    inputs = keras.Input(shape)
    hidden = inputs
    for layer in front:
        hidden = layer(hidden)
    activated = layers.Activation("gelu", name="gelu")(hidden)
    model = keras.Model(inputs, layers.Dense(3)(activated))
    random_graphs.randomize(model, np.random.default_rng(1))
    method = Averages()
    narrow = dfprune.apply(model, method=method, sparsity=0.5)
    assert method.seen.averages
    rows = np.random.default_rng(0).normal(size=(4, *shape)).astype("float32")

    def before_activation(net):
        return keras.Model(net.inputs, net.get_layer("gelu").input)(rows)

    wide = np.asarray(before_activation(model))
    expected = np.stack([wide[..., CLUSTER == k] @ SHARES[CLUSTER == k] for k in range(3)], axis=-1)
    expected = expected + LEVEL * method.seen.levels
    assert method.seen.levels == (name != "no bias")
    np.testing.assert_allclose(before_activation(narrow), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "shares",
    [
        [[0.5, 0.0, 0.25], [0.0, 2.0, 0.0]],  # each unit in one sum
        [[0.5, 0.0, 0.25], [0.75, 0.0, 0.0]],  # a unit in two sums, a unit in none
        [[0.5, 1.0, 0.25], [0.75, 3.0, 0.0]],
        [[0.5, 1.0, 0.0], [0.0, 0.0, 0.0]],
    ],
    ids=["one each", "two and none", "most in two", "none"],
)
def test_sums_are_the_matrix_product(shares):
    matrix = np.arange(12.0).reshape(3, 4)
    for function in (summed, summed_tensor):
        np.testing.assert_allclose(function(np.array(shares), matrix), np.array(shares) @ matrix)


def test_outputs_are_those_of_the_new_units():
    model = keras.Sequential([keras.Input((5,)), layers.Dense(UNITS, "tanh"), layers.Dense(3)])
    random_graphs.randomize(model, np.random.default_rng(1))
    narrow = dfprune.apply(model, method=Averages(), sparsity=0.5)
    rows = np.random.default_rng(0).normal(size=(4, 5))
    (w, b, a, c) = (np.asarray(weight, np.float64) for weight in model.get_weights())
    expected = c + np.zeros((4, 3))
    for k in range(3):
        members = CLUSTER == k
        new = np.tanh(
            rows @ (w[:, members] @ SHARES[members]) + b[members] @ SHARES[members] + LEVEL[k]
        )
        expected += np.outer(new, a[members].sum(axis=0))
    np.testing.assert_allclose(narrow(rows.astype("float32")), expected, rtol=1e-4, atol=1e-5)


WITH_SUMS = ("Dense", "TimeDistributed", "EinsumDense", "Embedding", "Convolution",
         "BatchNormalization", "Joining")  # fmt: skip


ROWS = [
    row for row, (rule, _) in conformance.ROWS.items() if rule.removesuffix("Rule") in WITH_SUMS
]


@pytest.mark.parametrize("row", ROWS)
def test_means_of_copies_are_exact(row):
    model = conformance.build(row)
    random_graphs.plant_copies(model)
    samples = draw_samples(model)
    before = run_model(model, samples)
    narrow = dfprune.apply(model, method=Copies())
    after = run_model(narrow, adapt_samples(samples, narrow))
    assert before
    for expected, received in zip(before.values(), after.values(), strict=True):
        assert relative_difference(received, expected) <= 1e-5


def models_without_sums():
    """Build models in which weighted sums of weight-sets are not exact, by the reason."""
    inputs = keras.Input((5,))
    fc = layers.Dense(UNITS, name="fc")

    def model(*tensors):
        return keras.Model(inputs, layers.Dense(3)(tensors[0] if len(tensors) == 1
                                                   else layers.Concatenate()(tensors)))  # fmt: skip

    activated = layers.ReLU()(fc(inputs))
    slopes = layers.PReLU(alpha_initializer="random_normal")
    both = layers.Add()([fc(inputs), layers.Dense(UNITS)(inputs)])
    return {
        "parameters between activations": model(layers.ReLU()(normalized()(activated))),
        "slopes of their own": model(slopes(fc(inputs))),
        "two producers": model(layers.ReLU()(both)),
        "two activations": model(activated, layers.Activation("tanh")(fc(inputs))),
        "scaled away": model(layers.ReLU()(normalized(gamma_initializer="zeros")(fc(inputs)))),
    }


@pytest.mark.parametrize("name", models_without_sums())
def test_weight_sets_stay_where_sums_are_not_exact(name):
    model = models_without_sums()[name]
    if name != "scaled away":
        random_graphs.randomize(model, np.random.default_rng(1))
    groups = []

    class Recorded(dfprune.Moments):
        def curve(self, group, context):
            groups.append(group)
            return super().curve(group, context)

    plan = dfprune.plan(model, method=Recorded(), sparsity=0.5)
    assert groups and not any(group.averages for group in groups)
    assert not any(isinstance(group.merge, dfprune.CentroidMerge) for group in plan.groups)


def test_moments_returns_weighted_sums_and_the_plan_is_saved(tmp_path):
    model = keras.Sequential(
        [keras.Input((20,)), layers.Dense(40, "relu", name="fc"), layers.Dense(9)]
    )
    random = np.random.default_rng(1)
    random_graphs.randomize(model, random)
    near = np.repeat(random.normal(size=(20, 8)), 5, axis=1)
    near += 0.5 * random.normal(size=(20, 40))
    model.get_layer("fc").kernel.assign(near)
    plan = dfprune.plan(model, method="moments", sparsity=0.8)
    assert isinstance(plan.groups[0].merge, dfprune.CentroidMerge)
    plan.save(tmp_path / "plan.npz")
    loaded = dfprune.PruningPlan.load(tmp_path / "plan.npz")
    pruned = plan.apply(model)
    for weight, same in zip(pruned.weights, loaded.apply(model).weights, strict=True):
        np.testing.assert_array_equal(weight.numpy(), same.numpy())
    before, after = (
        {tuple(column) for column in net.get_layer("fc").kernel.numpy().T}
        for net in (model, pruned)
    )
    assert not after <= before  # new weight-sets, not only kept ones


def normalized_net():
    model = keras.Sequential(
        [keras.Input((5,)), layers.Dense(UNITS, use_bias=False, name="fc"), normalized(),
         layers.ReLU(), layers.Dense(3)]
    )  # fmt: skip
    random_graphs.randomize(model, np.random.default_rng(1))
    return model


def test_a_layer_frozen_since_the_plan_is_an_error():
    model = normalized_net()
    plan = dfprune.plan(model, method=Averages(), sparsity=0.5)
    model.get_layer("fc").trainable = False
    with pytest.raises(ValueError, match="layer 'fc' can't get weighted sums.*make a new plan"):
        plan.apply(model)


@pytest.mark.parametrize("name", ["two producers", "two activations", "scaled away"])
def test_sums_where_the_group_allows_none_are_an_error(name):
    with pytest.raises(ValueError, match="can't get weighted sums of weight-sets"):
        dfprune.plan(models_without_sums()[name], method=Averages(), sparsity=0.5)


def test_a_level_without_a_bias_is_an_error():
    class Raised(Averages):
        def curve(self, group, context):
            return super().curve(dataclasses.replace(group, levels=True), context)

    model = keras.Sequential(
        [keras.Input((5,)), layers.Dense(UNITS, "relu", use_bias=False), layers.Dense(3)]
    )
    with pytest.raises(ValueError, match="no bias .* `GroupView.levels` is False"):
        dfprune.plan(model, method=Raised(), sparsity=0.5)
