"""A separable convolution is pruned as the depthwise and the pointwise convolution that it is."""

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from keras_dfprune.graph.read_graph import read_graph
from keras_dfprune.locate.locate import locate
from tests.support import random_graphs

layers = keras.layers
KINDS = {
    1: (layers.SeparableConv1D, layers.DepthwiseConv1D, layers.Conv1D),
    2: (layers.SeparableConv2D, layers.DepthwiseConv2D, layers.Conv2D),
}


def network(rank, separable, activation=None, use_bias=True, data_format=None, **arguments):
    """Build three blocks of separable layers, or the same function with pairs of layers."""
    whole, depthwise, pointwise = KINDS[rank]
    common = {"data_format": data_format, **arguments}
    last = {"activation": activation, "use_bias": use_bias}
    channels_first = data_format == "channels_first"
    hidden = inputs = keras.Input((3, *[12] * rank) if channels_first else (*[12] * rank, 3))
    for units in (8, 6, 4):
        if separable:
            hidden = whole(units, 3, **last, **common)(hidden)
        else:
            hidden = depthwise(3, use_bias=False, **common)(hidden)
            hidden = pointwise(units, 1, data_format=data_format, **last)(hidden)
        normalization = layers.BatchNormalization(axis=1 if channels_first else -1)
        hidden = layers.ReLU()(normalization(hidden))
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten(data_format=data_format)(hidden)))


@pytest.mark.parametrize("method", ["saliency", "moments"])
@pytest.mark.parametrize(
    "rank, arguments",
    [
        (1, {"depth_multiplier": 2}),
        (1, {"padding": "same", "activation": "tanh", "use_bias": False}),
        (2, {"depth_multiplier": 2, "use_bias": False}),
        (2, {"padding": "same", "dilation_rate": 2}),
        (2, {"padding": "same", "strides": 2, "activation": "relu"}),
    ],
)
def test_the_cut_is_that_of_the_pair(rank, arguments, method):
    model, pair = network(rank, True, **arguments), network(rank, False, **arguments)
    random_graphs.randomize(model, np.random.default_rng(0))
    pair.set_weights(model.get_weights())
    plans = [dfprune.plan(net, method=method, sparsity=0.5) for net in (model, pair)]
    narrow = [plan.apply(net) for plan, net in zip(plans, (model, pair), strict=True)]
    assert [group.units for group in plans[0].groups] == [8, 6, 4]
    assert all(type(layer) is KINDS[rank][0] for layer in narrow[0].layers[1:-3:3])
    for weight, other in zip(narrow[0].get_weights(), narrow[1].get_weights(), strict=True):
        np.testing.assert_array_equal(weight, other)


def test_channels_first():  # TensorFlow can't run such a model on a CPU
    whole, pair = (
        locate(read_graph(network(2, separable, data_format="channels_first"))).groups.values()
        for separable in (True, False)
    )
    assert [group.seams[0].seam.axis for group in whole] == [1, 1, 1]
    for group, other in zip(whole, pair, strict=True):
        assert group.seams[0].seam.tensor.shape == other.seams[0].seam.tensor.shape
        np.testing.assert_array_equal(group.inlets[0].columns, other.inlets[0].columns)


def test_the_state_and_the_settings_stay():
    model = network(2, True, padding="same")
    model.layers[1].trainable = False
    model.compile("adam", "mse")
    x, y = np.ones((4, 12, 12, 3), "float32"), np.zeros((4, 3))
    model.fit(x, y, verbose=0)
    before = model.get_weights()
    narrow = dfprune.apply(model, sparsity=0.5)
    assert [layer.trainable for layer in narrow.layers[1:5]] == [False, True, True, True]
    assert int(narrow.optimizer.iterations) == 1
    narrow.fit(x, y, verbose=0)
    for array, now in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(array, now)


@pytest.mark.parametrize("argument, whole", [("depthwise", 0), ("pointwise", 2), ("bias", 2)])
def test_a_constraint_counts_on_what_a_merge_changes(argument, whole):
    inputs = keras.Input((9, 9, 3))
    given = {f"{argument}_constraint": "non_neg"}
    first, second, third = (
        layers.SeparableConv2D(units, 3, activation="relu", **given) for units in (8, 6, 4)
    )
    model = keras.Model(inputs, layers.Dense(2)(third(second(first(inputs)))))
    model.set_weights([np.abs(weight) for weight in model.get_weights()])
    refusals = dfprune.plan(model, sparsity=0.5).refusals[:-1]
    assert [refusal.layer for refusal in refusals] == [first.name, second.name][:whole]
    assert all(f"set {argument}_constraint=None to prune" in each.reason for each in refusals)
