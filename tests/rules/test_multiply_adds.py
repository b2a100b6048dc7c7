"""Multiply-adds are those of the loops that a layer stands for."""

import keras
import pytest

from keras_dfprune.graph.read_graph import read_graph
from keras_dfprune.rules.multiply_adds import multiply_adds

layers = keras.layers


def counted(*shape_and_layers):
    shape, *stack = shape_and_layers
    return multiply_adds(read_graph(keras.Sequential([keras.Input(shape), *stack])).calls)


@pytest.mark.parametrize(
    ("shape", "layer", "expected"),
    [
        ((6,), layers.Dense(5), 6 * 5),
        ((7, 6), layers.Dense(5), 7 * 6 * 5),
        ((7, 6), layers.TimeDistributed(layers.Dense(5)), 7 * 6 * 5),
        ((7, 6), layers.EinsumDense("abc,cd->abd", (7, 5)), 7 * 6 * 5),
        ((7, 6), layers.EinsumDense("...c,cd->...d", 5), 7 * 6 * 5),
        ((7, 6), layers.EinsumDense("abc,bd->acd", (6, 5)), 7 * 6 * 5),
        ((7, 6), layers.EinsumDense("abc,cde->abde", (7, 2, 5), bias_axes="de"), 7 * 6 * 2 * 5),
        ((7, 6), layers.EinsumDense("abc,bcd->ad", 5), 7 * 6 * 5),
        ((9, 3), layers.Conv1D(4, 3, padding="causal"), 9 * 3 * 3 * 4),
        ((9, 8, 3), layers.Conv2D(4, 3), 7 * 6 * 9 * 3 * 4),
        ((9, 8, 3), layers.Conv2D(4, 3, 2, padding="same"), 5 * 4 * 9 * 3 * 4),
        ((9, 8, 4), layers.Conv2D(6, 3, groups=2), 7 * 6 * 9 * 2 * 6),
        ((4, 9, 8), layers.Conv2D(6, 3, data_format="channels_first"), 7 * 6 * 9 * 4 * 6),
        ((5, 5, 5, 2), layers.Conv3D(3, 2), 64 * 8 * 2 * 3),
        ((9, 8, 3), layers.DepthwiseConv2D(3, 2, depth_multiplier=2), 4 * 3 * 9 * 3 * 2),
        ((9, 3), layers.DepthwiseConv1D(3), 7 * 3 * 3),
        ((9, 8, 3), layers.SeparableConv2D(5, 3, depth_multiplier=2), 42 * (9 * 6 + 6 * 5)),
        ((7, 6), layers.LSTM(5), 7 * 4 * (6 * 5 + 5 * 5)),
        ((7, 6), layers.GRU(5, return_sequences=True), 7 * 3 * (6 * 5 + 5 * 5)),
        ((7, 6), layers.Bidirectional(layers.SimpleRNN(5)), 2 * 7 * (6 * 5 + 5 * 5)),
        ((7,), layers.Embedding(9, 5), 0),
        ((6,), layers.BatchNormalization(), 0),
        ((6,), layers.PReLU(), 0),
        ((4, 9), layers.Conv1DTranspose(5, 3, padding="same"), 4 * 3 * 9 * 5),
        ((4, 4, 3), layers.Conv2DTranspose(5, 3, 2), 16 * 9 * 3 * 5),
        ((3, 4, 2, 2), layers.Conv3DTranspose(5, 2, 3), 24 * 8 * 2 * 5),
        ((3, 4, 2), layers.Conv2DTranspose(5, 3, data_format="channels_first"), 8 * 9 * 3 * 5),
    ],
)
def test_one_layer(shape, layer, expected):
    assert counted(shape, layer) == expected


def test_self_attention_counts_its_projections():
    sequence = keras.Input((7, 6))
    attention = layers.MultiHeadAttention(2, 5, value_dim=3)
    model = keras.Model(sequence, attention(sequence, sequence))
    assert multiply_adds(read_graph(model).calls) == 7 * 6 * 2 * (5 + 5 + 3 + 3)


def test_calls_of_a_shared_layer_and_of_nested_models_count_each():
    shared = keras.Sequential([keras.Input((6,)), layers.Dense(6)])
    inputs = keras.Input((6,))
    model = keras.Model(inputs, layers.Dense(2)(shared(shared(inputs))))
    assert multiply_adds(read_graph(model).calls) == 2 * 36 + 12


def test_unknown_lengths_are_refused():
    with pytest.raises(ValueError, match="Give the model's Input a fixed shape"):
        counted((None, 6), layers.Dense(5))
    assert counted((6,), layers.Dense(5)) == 30
