"""Joined units whose parts read the same features: draws against brute force and independence."""

import keras
import numpy as np

from keras_dfprune.graph.read_graph import read_graph
from keras_dfprune.locate.locate import locate
from keras_dfprune.methods.base import Context
from keras_dfprune.methods.moments import moments as module
from keras_dfprune.surgery.group_view import view_group
from keras_dfprune.surgery.weights import LayerStates

layers = keras.layers


def gated(gate_reads_itself=True):
    """Build `up(x) * gate(x)` behind a LayerNormalization, or with a gate of other features."""
    inputs = keras.Input((16,))
    x = layers.LayerNormalization(name="norm")(inputs)
    other = x if gate_reads_itself else layers.LayerNormalization()(inputs)
    hidden = layers.Multiply()([layers.Dense(12, name="up")(x), layers.Dense(12, "silu")(other)])
    return keras.Model(inputs, layers.Dense(3)(hidden))


def moments_of(model, seed=0):
    layout = locate(read_graph(model))
    states = LayerStates(layout)
    (group,) = layout.groups.values()
    view = view_group(group, layout, states)
    method = module.Moments()
    context = Context(seed=seed)
    return method._prior_moments(view, context)


def error_of(second, wanted):
    """Return the relative error of the shape: the scale of the inputs is only assumed."""
    shape, wanted = second / np.trace(second), wanted / np.trace(wanted)
    return np.linalg.norm(shape - wanted) / np.linalg.norm(wanted)


def independent_moments_of(model, monkeypatch):
    monkeypatch.setattr(module, "with_shared_inputs", lambda joined, moments, *_: moments)
    return moments_of(model)


def test_products_of_one_tensor_are_drawn(monkeypatch):
    keras.utils.set_random_seed(3)
    model = gated()
    hidden = keras.Model(model.inputs, model.layers[-1].input)
    x = np.random.default_rng(0).normal(size=(50_000, 16)).astype("float32")
    values = np.asarray(hidden([x]), np.float64)
    wanted = values.T @ values / len(values)
    drawn = moments_of(model).moments.second.numpy()
    independent = independent_moments_of(model, monkeypatch).moments.second.numpy()
    assert error_of(drawn, wanted) < 0.7 * error_of(independent, wanted)


def test_products_of_two_tensors_are_independent(monkeypatch):
    model = gated(gate_reads_itself=False)
    found = moments_of(model).moments.second.numpy()
    independent = independent_moments_of(model, monkeypatch).moments.second.numpy()
    np.testing.assert_array_equal(found, independent)
