"""Build a small model for each rule, in which pruned units cross a layer of that rule.

A row of the table is the name of a rule and a function that builds such a model.
"""

import keras
import numpy as np

from keras_dfprune.rules import registry
from tests.support.random_graphs import randomize

layers = keras.layers


def chain(*middle, shape=(5,), units=8, activation="relu"):
    """Build a Dense layer, then `middle`, then a Dense layer that consumes."""
    inputs = keras.Input(shape)
    hidden = layers.Dense(units, activation, name="producer")(inputs)
    for step in middle:
        hidden = step(hidden)
    return keras.Model(inputs, layers.Dense(3, name="consumer")(hidden))


def convolutions(*middle, padding="valid", **arguments):
    """Build a Conv2D layer, then `middle`, then a Conv2D layer that consumes."""
    inputs = keras.Input((7, 6, 2))
    hidden = layers.Conv2D(6, 2, activation="relu", name="producer", **arguments)(inputs)
    for step in middle:
        hidden = step(hidden)
    hidden = layers.Conv2D(3, 2, padding=padding, name="consumer")(hidden)
    return keras.Model(inputs, layers.GlobalAveragePooling2D()(hidden))


def concatenated():
    inputs = keras.Input((5,))
    one = layers.Dense(7, "relu", name="producer")(inputs)
    two = layers.Dense(6, "tanh")(inputs)
    return keras.Model(inputs, layers.Dense(3)(layers.Concatenate()([one, inputs, two, one])))


def nested():
    inputs = keras.Input((5,))
    hidden = layers.Dense(7, "relu", name="producer")(inputs)
    inner = keras.Sequential([keras.Input((7,)), layers.Dense(6, "relu"), layers.Dense(4)])
    return keras.Model(inputs, layers.Dense(2)(inner(hidden)))


def mixed():
    """Build casts such as mixed precision puts between layers of different policies."""
    inputs = keras.Input((5,))
    hidden = layers.Dense(8, "relu", name="producer")(inputs)
    hidden = keras.ops.cast(keras.ops.cast(hidden, "float64"), "float32")
    return keras.Model(inputs, layers.Dense(3)(hidden))


def shifted_vector():
    vector = np.linspace(0.5, 1.5, 8).astype("float32")
    return chain(lambda x: 2.0 * x, lambda x: x + vector, lambda x: x * vector[None, :])


def summed():
    inputs = keras.Input((5,))
    one = layers.Dense(8, "relu", name="producer")(inputs)
    two = layers.Dense(8, "tanh")(inputs)
    return keras.Model(inputs, layers.Dense(3, name="consumer")(layers.Add()([one, two])))


def residual(join, activation="relu"):
    """Build two residual blocks of Dense layers: three producers and two seams are one group."""
    inputs = keras.Input((5,))
    hidden = layers.Dense(8, activation, name="producer")(inputs)
    for _ in range(2):
        branch = layers.Dense(6, "relu")(hidden)
        branch = layers.BatchNormalization()(layers.Dense(8)(branch))
        hidden = layers.Activation(activation)(join(hidden, branch))
    return keras.Model(inputs, layers.Dense(3, name="consumer")(hidden))


def residual_convolutions():
    """Build a projected shortcut, an identity shortcut and a gate for each channel."""
    inputs = keras.Input((7, 6, 2))
    hidden = layers.Conv2D(6, 3, padding="same", name="producer")(inputs)
    shortcut = layers.BatchNormalization()(layers.Conv2D(6, 1, use_bias=False)(inputs))
    hidden = layers.ReLU()(layers.Add()([layers.BatchNormalization()(hidden), shortcut]))
    squeezed = layers.GlobalAveragePooling2D(keepdims=True)(hidden)
    gate = layers.Conv2D(6, 1, activation="sigmoid")(layers.Conv2D(4, 1)(squeezed))
    hidden = layers.Multiply()([hidden, gate])
    return keras.Model(inputs, layers.GlobalAveragePooling2D()(layers.Conv2D(3, 2)(hidden)))


def grouped_bottleneck():
    """Build a ResNeXt bottleneck, and a gate for each channel as in RegNetY."""
    inputs = keras.Input((7, 6, 2))

    def block(hidden, filters, kernel, **arguments):
        hidden = layers.Conv2D(filters, kernel, use_bias=False, **arguments)(hidden)
        return layers.BatchNormalization()(hidden)

    hidden = shortcut = layers.ReLU()(block(inputs, 6, 1, name="producer"))
    hidden = layers.ReLU()(block(hidden, 12, 1))
    hidden = layers.ReLU()(block(hidden, 12, 3, groups=3, padding="same"))
    gate = layers.Conv2D(5, 1, activation="relu")(
        layers.GlobalAveragePooling2D(keepdims=True)(hidden)
    )
    hidden = layers.Multiply()([hidden, layers.Conv2D(12, 1, activation="sigmoid")(gate)])
    hidden = layers.ReLU()(layers.Add()([shortcut, block(hidden, 6, 1)]))
    return keras.Model(inputs, layers.GlobalAveragePooling2D()(layers.Conv2D(3, 2)(hidden)))


def separable_residual():
    """Build a model of separable layers with normalizations and residual connections, no other."""
    inputs = keras.Input((7, 6, 2))

    def block(hidden, **arguments):
        hidden = layers.SeparableConv2D(6, 3, padding="same", use_bias=False, **arguments)(hidden)
        return layers.BatchNormalization()(hidden)

    hidden = layers.ReLU()(block(inputs, name="producer"))
    for _ in range(2):
        hidden = layers.Add()([hidden, block(layers.ReLU()(block(hidden)))])
    hidden = layers.SeparableConv2D(3, 2, name="consumer")(layers.ReLU()(hidden))
    return keras.Model(inputs, layers.GlobalAveragePooling2D()(hidden))


def two_ways():
    """Build units that reach two consumers through different activations and normalizations."""
    inputs = keras.Input((5,))
    hidden = layers.Dense(8, name="producer")(inputs)
    one = layers.Dense(4)(layers.ReLU()(layers.BatchNormalization()(hidden)))
    two = layers.Dense(4)(layers.BatchNormalization()(hidden))
    outputs = [layers.Dense(2)(one), layers.Dense(2)(two)]
    return keras.Model(inputs, layers.Concatenate()(outputs))


def shared_by_two():
    """Build a consumer that is called on the units of two producers."""
    inputs = keras.Input((5,))
    consumer = layers.Dense(3, name="consumer")
    one = consumer(layers.Dense(8, "relu", name="producer")(inputs))
    two = consumer(layers.Dense(8, "tanh")(inputs))
    return keras.Model(inputs, layers.Concatenate()([one, two]))


def embedded(behind):
    """Build an Embedding and a layer behind it."""
    inputs = keras.Input((5,), dtype="int32")
    hidden = layers.Embedding(9, 8, mask_zero=True, name="producer")(inputs)
    return keras.Model(inputs, layers.Dense(3)(behind(hidden)))


def recurrent(layer):
    """Build a Dense layer on a sequence, an added constant and a recurrent layer."""
    return chain(lambda x: x + 0.5, layer, layers.Dense(4, "relu"), shape=(4, 5))


def recurrent_states():
    """Build two recurrent layers whose units are added, one of them with all outputs read."""
    inputs = keras.Input((4, 5))
    options = {"return_sequences": True, "return_state": True}
    hidden, *states = layers.LSTM(6, name="producer", **options)(inputs)
    hidden = layers.Add()([hidden, layers.GRU(6, return_sequences=True)(hidden)])
    joined = layers.Concatenate()([layers.Flatten()(hidden), *states])
    return keras.Model(inputs, layers.Dense(3, name="consumer")(joined))


def attention(**arguments):
    inputs = keras.Input((4, 5))
    hidden = layers.Dense(8, "relu", name="producer")(inputs)
    attend = layers.MultiHeadAttention(2, 3, **arguments)
    return keras.Model(inputs, layers.Dense(3)(attend(hidden, hidden)))


ROWS = {
    "dense": ("DenseRule", chain),
    "dense without bias": (
        "DenseRule",
        lambda: chain(layers.Dense(6, use_bias=False), layers.BatchNormalization(), layers.ReLU()),
    ),
    "time distributed": (
        "TimeDistributedRule",
        lambda: chain(layers.TimeDistributed(layers.Dense(6, "relu")), shape=(4, 5)),
    ),
    "time distributed, consumer only": (
        "TimeDistributedRule",
        lambda: chain(
            layers.TimeDistributed(layers.Dense(6)), layers.LayerNormalization(), shape=(4, 5)
        ),  # fmt: skip
    ),
    "einsum": (
        "EinsumDenseRule",
        lambda: chain(
            layers.EinsumDense("abc,cd->abd", (None, 7), bias_axes="d", activation="relu"),
            layers.EinsumDense("...x,xy->...y", 6),
            layers.ReLU(),
            shape=(4, 5),
        ),
    ),
    "embedding": ("EmbeddingRule", lambda: embedded(layers.GlobalAveragePooling1D())),
    "embedding, recurrent": ("EmbeddingRule", lambda: embedded(layers.GRU(3, use_bias=False))),
    "lstm": ("RecurrentRule", lambda: recurrent(layers.LSTM(3, return_sequences=True))),
    "lstm without bias": ("RecurrentRule", lambda: recurrent(layers.LSTM(3, use_bias=False))),
    "gru": ("RecurrentRule", lambda: recurrent(layers.GRU(3))),
    "gru, one bias": ("RecurrentRule", lambda: recurrent(layers.GRU(3, reset_after=False))),
    "simple rnn": ("RecurrentRule", lambda: recurrent(layers.SimpleRNN(3, go_backwards=True))),
    "bidirectional": ("RecurrentRule", lambda: recurrent(layers.Bidirectional(layers.GRU(3)))),
    "bidirectional without bias": (
        "RecurrentRule",
        lambda: recurrent(layers.Bidirectional(layers.LSTM(3, use_bias=False), "sum")),
    ),
    "recurrent states": ("RecurrentRule", recurrent_states),
    "attention": ("AttentionRule", attention),
    "attention with dropout": (
        "AttentionRule",
        lambda: attention(dropout=0.1, value_dim=4, output_shape=(2, 3)),
    ),
    "attention without bias": ("AttentionRule", lambda: attention(use_bias=False)),
    "convolution": ("ConvolutionRule", convolutions),
    "convolution, padded": (
        "ConvolutionRule",
        lambda: convolutions(
            layers.Conv2D(5, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
        ),  # fmt: skip
    ),
    "convolution, flat": (
        "ConvolutionRule",
        lambda: chain(layers.Conv1D(6, 2, strides=2), layers.Flatten(), shape=(6, 3)),
    ),
    "groups of channels": ("ConvolutionRule", grouped_bottleneck),
    "groups of channels in front and behind": (
        "ConvolutionRule",
        lambda: chain(
            layers.RepeatVector(5),
            layers.Conv1D(16, 3, padding="same", groups=4),
            layers.PReLU(shared_axes=[1]),
            layers.DepthwiseConv1D(2, depth_multiplier=2),
            layers.Conv1D(12, 2, groups=2, activation="relu", use_bias=False),
            layers.Conv1D(6, 2, groups=3),
            layers.ReLU(),
            units=16,
        ),
    ),
    "separable": (
        "DepthwiseConvolutionRule",
        lambda: chain(
            layers.RepeatVector(4), layers.SeparableConv1D(6, 2, activation="relu")
        ),  # fmt: skip
    ),
    "separable, all options": (
        "ConvolutionRule",
        lambda: convolutions(
            layers.SeparableConv2D(
                5, (3, 2), padding="same", dilation_rate=2, depth_multiplier=2, use_bias=False
            ),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.SeparableConv2D(4, 2, strides=2, activation="tanh"),
            padding="same",
        ),
    ),
    "transposed": (
        "TransposedConvolutionRule",
        lambda: convolutions(
            layers.Conv2DTranspose(5, 3, strides=2, activation="relu"),
            layers.Conv2DTranspose(4, (2, 3), strides=3, output_padding=1, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
        ),
    ),
    "transposed, flat": (
        "TransposedConvolutionRule",
        lambda: chain(
            layers.Conv1DTranspose(6, 2, padding="same", activation="tanh"),
            layers.Flatten(),
            shape=(4, 5),
        ),
    ),
    "activation": ("ActivationRule", lambda: chain(layers.LeakyReLU(0.3), activation=None)),
    "prelu": ("PReLURule", lambda: chain(layers.PReLU(), activation=None)),
    "prelu by position": (
        "PReLURule",
        lambda: chain(layers.PReLU(), layers.Flatten(), activation=None, shape=(3, 5)),
    ),
    "operation": ("ElementwiseOperationRule", lambda: chain(keras.ops.silu, activation=None)),
    "arithmetic": ("ArithmeticRule", shifted_vector),
    "sum": ("JoiningRule", summed),
    "separable, residual": ("JoiningRule", separable_residual),
    "residual sums": ("JoiningRule", lambda: residual(lambda a, b: layers.Add()([a, b]))),
    "subtraction": ("ArithmeticRule", lambda: residual(lambda a, b: a - b)),
    "product": ("JoiningRule", lambda: residual(lambda a, b: layers.Multiply()([a, b]))),
    "average": ("JoiningRule", lambda: residual(lambda a, b: layers.Average()([a, b]), "tanh")),
    "maximum": ("JoiningRule", lambda: residual(keras.ops.maximum)),
    "residual convolutions": ("JoiningRule", residual_convolutions),
    "two ways": ("BatchNormalizationRule", two_ways),
    "one consumer, two producers": ("DenseRule", shared_by_two),
    "normalization before": (
        "BatchNormalizationRule",
        lambda: chain(layers.BatchNormalization(), layers.ReLU(), activation=None),
    ),
    "normalization behind": ("BatchNormalizationRule", lambda: chain(layers.BatchNormalization())),
    "identity": ("IdentityRule", lambda: chain(layers.Dropout(0.5), layers.Identity())),
    "cast": ("CastRule", mixed),
    "input": ("InputRule", nested),
    "flatten": ("FlattenRule", lambda: chain(layers.Flatten(), shape=(3, 5))),
    "flatten, channels first": (
        "FlattenRule",
        lambda: chain(layers.Flatten(data_format="channels_first"), shape=(3, 5)),
    ),
    "repeat": ("RepeatVectorRule", lambda: chain(layers.RepeatVector(3), layers.Flatten())),
    "reshape": (
        "ReshapeRule",
        lambda: chain(layers.Reshape((2, 1, 8)), layers.Reshape((-1,)), shape=(2, 5)),
    ),
    "reshape, operation": (
        "ReshapeOperationRule",
        lambda: chain(
            lambda x: keras.ops.reshape(x, (-1, 2, 1, 8)),
            lambda x: keras.ops.reshape(x, (-1, 16)),
            shape=(2, 5),
        ),
    ),
    "reshape into channels, operation": (
        "ReshapeOperationRule",
        lambda: chain(
            lambda x: keras.ops.reshape(x, (-1, 2, 4, 4)),
            layers.Conv2D(5, 2, activation="relu"),
            lambda x: keras.ops.reshape(x, (-1, 15)),
            units=32,
        ),
    ),
    "split": (
        "SplitRule",
        lambda: convolutions(lambda x: layers.Add()(keras.ops.split(x, 2, axis=1)[::-1])),
    ),
    "pad": (
        "PadRule",
        lambda: convolutions(lambda x: keras.ops.pad(x, ((0, 0), (1, 1), (0, 2), (0, 0)))),
    ),
    "pad, reflected": (
        "PadRule",
        lambda: convolutions(
            lambda x: keras.ops.pad(x, ((0, 0), (1, 1), (0, 2), (0, 0)), mode="reflect")
        ),
    ),
    "reshape into channels": (
        "ReshapeRule",
        lambda: chain(
            layers.BatchNormalization(),
            layers.LeakyReLU(0.2),
            layers.Reshape((2, 4, 4)),
            layers.Conv2DTranspose(5, 3, strides=2, activation="relu"),
            layers.Flatten(),
            units=32,
            activation=None,
        ),
    ),
    "reshape into channels, joined": (
        "ReshapeRule",
        lambda: chain(
            layers.Reshape((3, -1)),
            layers.BatchNormalization(),
            lambda x: layers.Add()([x, layers.Conv1D(4, 3, padding="same")(x)]),
            layers.ReLU(),
            layers.Flatten(),
            units=12,
        ),
    ),
    "indexing": (
        "IndexingRule",
        lambda: chain(lambda x: x[:, ::2, None], lambda x: x[..., -1, 0, :], shape=(4, 5)),
    ),
    "permute": (
        "PermuteRule",
        lambda: chain(
            layers.Permute((2, 1)),
            layers.ReLU(),
            lambda x: keras.ops.transpose(x, (0, 2, 1)),
            shape=(4, 5),
        ),
    ),
    "new axes": (
        "NewAxisRule",
        lambda: chain(
            lambda x: keras.ops.expand_dims(x, 1),
            layers.LeakyReLU(),
            lambda x: keras.ops.squeeze(x, axis=1),
        ),
    ),
    "mean of positions": (
        "MeanRule",
        lambda: chain(lambda x: keras.ops.mean(x, axis=1), shape=(4, 5)),
    ),
    "sum of positions": (
        "SumRule",
        lambda: chain(lambda x: keras.ops.sum(x, axis=(1, 2)), shape=(2, 3, 5)),
    ),
    "maximum of positions": (
        "MaximumOfPositionsRule",
        lambda: chain(lambda x: keras.ops.max(x, axis=1, keepdims=True), shape=(4, 5)),
    ),
    "adaptive pooling": (
        "PositionRule",
        lambda: convolutions(
            layers.AdaptiveAveragePooling2D((4, 3)), layers.AdaptiveMaxPooling2D(3)
        ),  # fmt: skip
    ),
    "concatenate": ("ConcatenateRule", concatenated),
    "average pooling": (
        "PositionRule",
        lambda: chain(layers.AveragePooling1D(2), layers.GlobalAveragePooling1D(), shape=(6, 5)),
    ),
    "upsampling": ("PositionRule", lambda: convolutions(layers.UpSampling2D(2))),
    "zero padding": ("ZeroPaddingRule", lambda: convolutions(layers.ZeroPadding2D(1))),
    "zero padding, normalized in front": (
        "ZeroPaddingRule",
        lambda: convolutions(
            layers.BatchNormalization(),
            layers.ZeroPadding2D(1),
            layers.Conv2D(5, 3, activation="relu"),
            layers.BatchNormalization(),
            padding="same",
        ),
    ),
    "zero padding, normalized behind": (
        "ZeroPaddingRule",
        lambda: convolutions(layers.ZeroPadding2D(1), layers.BatchNormalization()),
    ),
    "max pooling": ("MaxPoolingRule", lambda: convolutions(layers.MaxPooling2D(2))),
    "depthwise": (
        "DepthwiseConvolutionRule",
        lambda: convolutions(layers.DepthwiseConv2D(2, depth_multiplier=2), layers.ReLU()),
    ),
}


if not hasattr(layers, "AdaptiveAveragePooling2D"):  # Keras before 3.13
    del ROWS["adaptive pooling"]


def build(name, seed=0):
    """Build the model of one row and draw its weights at random."""
    keras.utils.set_random_seed(seed)
    model = ROWS[name][1]()
    randomize(model, np.random.default_rng(seed))
    return model


def rule_of(name):
    """Return the rule that a row shows."""
    (rule,) = (rule for rule in registry.RULES if type(rule).__name__ == ROWS[name][0])
    return rule


def first_rows():
    """Return the first row of each rule, by rule."""
    rows = {}
    for name in ROWS:
        rows.setdefault(rule_of(name), name)
    return rows
