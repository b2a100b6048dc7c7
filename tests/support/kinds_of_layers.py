"""Kinds of models by the layers that units pass, and by the layers that consume them."""

import keras
import numpy as np

from tests.support import kinds
from tests.support.kinds import chain
from tests.support.models import plant_copy

layers = keras.layers
Dense = layers.Dense
ROWS, row = kinds.table()


@row
def activation_layers():
    return chain(
        Dense(8, name="scaled1"), layers.ReLU(), Dense(7, name="scaled2"), layers.LeakyReLU(0.2),
        Dense(7, name="copy3"), layers.ELU(), layers.Dropout(0.5),
        Dense(6, name="copy4"), layers.Activation("tanh"),
        Dense(6, name="scaled5"), layers.Activation("relu"), layers.GaussianNoise(0.3), Dense(3),
    )  # fmt: skip


@row
def activation_layers_with_settings():
    return chain(
        Dense(8, name="copy1"), layers.ReLU(max_value=1.0), Dense(7, name="copy2"),
        layers.ReLU(threshold=0.5), Dense(7, name="scaled3"), layers.ReLU(negative_slope=0.1),
        Dense(3),
    )  # fmt: skip


@row
def prelu():
    slopes = layers.PReLU()

    def finish():
        alpha = slopes.alpha.numpy()
        alpha[1] = alpha[0]
        slopes.alpha.assign(alpha)

    return chain(Dense(8, name="copy1"), slopes, Dense(3)), finish


@row
def prelu_with_other_slopes():
    """Two units have equal weights but different slopes, so nothing may be removed."""
    dense = Dense(8, name="equal")
    return chain(dense, layers.PReLU(), Dense(3)), lambda: plant_copy(dense, 0, 1)


def tie(normalization, *pairs):
    """Give the second unit of each pair the parameters of the first."""
    for variable in normalization.weights:
        values = variable.numpy()
        for source, target in pairs:
            values[target] = values[source]
        variable.assign(values)


@row
def normalization_behind_the_activation():
    norm = layers.BatchNormalization()

    def finish():
        tie(norm, (0, 1), (2, 3))

    return chain(Dense(8, "relu", name="copy1"), norm, Dense(3)), finish


@row
def normalization_before_the_activation():
    """Two units are copies only after the BatchNormalization is folded into their weight-sets."""
    dense, norm = Dense(8, name="copy1"), layers.BatchNormalization()

    def finish():
        kernel, bias = (variable.numpy() for variable in dense.weights)
        gamma, beta, mean, variance = (variable.numpy() for variable in norm.weights)
        gamma[4], gamma[5] = -1.3, 0.0
        deviation = np.sqrt(variance + norm.epsilon)
        factor = (gamma / deviation)[0] / (gamma / deviation)[1]
        kernel[:, 1] = kernel[:, 0] * factor
        bias[1] = mean[1] + (
            (bias[0] - mean[0]) * (gamma / deviation)[0] + beta[0] - beta[1]
        ) / (gamma / deviation)[1]  # fmt: skip
        dense.set_weights([kernel, bias])
        norm.set_weights([gamma, beta, mean, variance])

    return chain(dense, norm, layers.Activation("tanh"), Dense(3)), finish


@row
def normalization_without_scale():
    norm = layers.BatchNormalization(scale=False)
    model = chain(Dense(8, name="copy1"), norm, layers.Activation("tanh"), Dense(3))
    return model, lambda: tie(norm, (0, 1))


@row
def normalization_without_center():
    norm = layers.BatchNormalization(center=False)
    model = chain(Dense(8, name="copy1"), norm, layers.Activation("tanh"), Dense(3))
    return model, lambda: tie(norm, (0, 1))


@row
def convolutions_before():
    return chain(
        layers.Conv2D(5, 3, activation="relu"), layers.MaxPooling2D(), layers.Flatten(),
        Dense(8, "relu", name="scaled1"), Dense(3), shape=(8, 8, 2),
    )  # fmt: skip


@row
def flat_sequence():
    return chain(
        Dense(8, "relu", name="scaled1"), layers.Flatten(), Dense(6, "tanh", name="copy2"),
        Dense(3), shape=(3, 5),
    )  # fmt: skip


@row
def flat_sequence_channels_first():
    return chain(
        Dense(8, "relu", name="scaled1"), layers.Flatten(data_format="channels_first"),
        Dense(6, "tanh", name="copy2"), Dense(3), shape=(3, 5),
    )  # fmt: skip


@row
def flat_image_of_dense_features():
    return chain(Dense(6, "relu", name="scaled1"), layers.Flatten(), Dense(3), shape=(2, 3, 4))


@row
def time_distributed():
    return chain(
        layers.TimeDistributed(Dense(8, "relu", name="inner"), name="scaled1"),
        layers.TimeDistributed(Dense(3)), shape=(4, 5),
    )  # fmt: skip


@row
def pooled_features():
    return chain(
        Dense(8, "relu", name="scaled1"), layers.AveragePooling1D(2),
        Dense(6, "tanh", name="copy2"), layers.GlobalAveragePooling1D(), Dense(3), shape=(6, 4),
    )  # fmt: skip


@row
def einsum_as_dense():
    return chain(
        Dense(8, "relu", name="scaled1"), layers.EinsumDense("abc,cd->abd", (None, 6)),
        Dense(5, "tanh", name="copy2"), layers.EinsumDense("...x,xy->...y", 3), shape=(3, 5),
    )  # fmt: skip


@row
def recurrent_consumers():
    """The consumers get masked tokens and an initial state of a layer that stays."""
    inputs = keras.Input((4,), dtype="int32")
    hidden = layers.Embedding(7, 6, mask_zero=True)(inputs)
    hidden = Dense(8, "relu", name="scaled1")(hidden)
    start = layers.SimpleRNN(2)(hidden)
    rest = Dense(8, "relu", name="scaled2")(hidden)
    sequence, state = layers.GRU(2, return_sequences=True, return_state=True)(
        rest, initial_state=start
    )
    both = layers.Bidirectional(layers.LSTM(3, return_sequences=True), "concat")
    joined = layers.Concatenate()([sequence, both(Dense(5, "tanh", name="copy3")(rest))])
    return keras.Model(inputs, [Dense(3)(joined), state])


@row
def attention_as_consumer():
    inputs = keras.Input((4,), dtype="int32")
    hidden = Dense(8, "relu", name="scaled1")(layers.Embedding(7, 6, mask_zero=True)(inputs))
    attend = layers.MultiHeadAttention(2, 3, use_bias=False, output_shape=5)
    hidden, scores = attend(hidden, hidden, use_causal_mask=True, return_attention_scores=True)
    return keras.Model(inputs, [Dense(3)(hidden), scores])


@row
def repeated_vector():
    return chain(
        Dense(8, "relu", name="scaled1"), layers.RepeatVector(3), Dense(5, "tanh", name="copy2"),
        layers.Flatten(), Dense(3),
    )  # fmt: skip


@row
def consumer_without_bias():
    return chain(Dense(8, "relu", name="scaled1"), Dense(3, use_bias=False))


@row
def no_biases():
    return chain(
        Dense(8, "relu", name="scaled1", use_bias=False),
        Dense(7, "tanh", name="copy2", use_bias=False), Dense(3, use_bias=False),
    )  # fmt: skip


@row
def normalization_behind_a_consumer_without_bias():
    """An offset goes into the moving mean, so the consumer gets no bias."""
    dense = Dense(8, "sigmoid", name="copy1")
    consumer = Dense(5, use_bias=False, name="consumer")
    return chain(dense, consumer, layers.BatchNormalization(), layers.ReLU(), Dense(3))


@row
def operations():
    vector = np.linspace(-1, 1, 8).astype("float32")
    vector[1], vector[3] = vector[0], vector[2]
    inputs = keras.Input((6,))
    hidden = keras.ops.relu(Dense(8, name="scaled1")(inputs))
    hidden = 2.0 * hidden + vector
    other = keras.ops.tanh(Dense(6, name="copy2")(inputs) * 0.5)
    joined = keras.ops.concatenate([other, hidden, inputs], axis=-1)
    return keras.Model(inputs, Dense(3)(joined))
