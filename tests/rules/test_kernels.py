"""Rules of producers, tried on single layers."""

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from keras_dfprune.rules import registry

layers = keras.layers
IMAGES = np.random.default_rng(0).normal(size=(2, 5, 4, 3)).astype("float32")
TOKENS = np.array([[0, 3], [2, 4]])
PRODUCERS = {
    "dense": (layers.Dense(6), IMAGES),
    "dense without bias": (layers.Dense(6, use_bias=False), IMAGES),
    "time distributed": (layers.TimeDistributed(layers.Dense(6, use_bias=False)), IMAGES[0]),
    "einsum": (layers.EinsumDense("...x,xy->...y", 6), IMAGES),
    "convolution": (layers.Conv2D(6, 2, use_bias=False), IMAGES),
    "transposed": (layers.Conv2DTranspose(6, 2, strides=2, use_bias=False), IMAGES),
    "embedding": (layers.Embedding(5, 6), TOKENS),
}


@pytest.mark.parametrize("name", PRODUCERS)
def test_an_offset_is_added_to_the_preactivations(name):
    layer, inputs = PRODUCERS[name]
    before, offset = layer(inputs), np.arange(6.0)
    rule = registry.find_rule(layer)
    assert rule.unit_count(layer) == 6 and rule.returns_preactivations(layer)
    state = rule.with_offset(rule.read(layer), offset)
    shifted = type(layer).from_config(state.config)
    shifted.build(inputs.shape)
    for variable_name, variable in rule.variables(shifted).items():
        variable.assign(state.variables[variable_name])
    np.testing.assert_allclose(shifted(inputs), before + offset, rtol=1e-5, atol=1e-6)


def test_adapters_of_a_wrapped_dense_layer_are_folded():
    inputs = keras.Input((4, 5))
    hidden = layers.Dense(8, "relu")(inputs)
    hidden = layers.TimeDistributed(layers.Dense(6, "relu"), name="wrapped")(hidden)
    model = keras.Model(inputs, layers.Dense(3)(hidden))
    model.get_layer("wrapped").layer.enable_lora(2)
    pruned = dfprune.apply(model, sparsity=0.5)
    assert not pruned.get_layer("wrapped").layer.lora_enabled
    assert pruned.count_params() == (5 * 4 + 4) + (4 * 3 + 3) + (3 * 3 + 3)
