"""Kinds of models in which a layer is refused for a reason of its own."""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np

layers = keras.layers
Dense = layers.Dense


@dataclasses.dataclass(frozen=True)
class Row:
    """Kind of model in which a layer is refused.

    Attributes:
        build: Builds the model, as in `kinds`.
        layer: Name of the refused layer.
        reason: Pattern that the reason matches.
    """

    build: Callable
    layer: str
    reason: str


def table():
    """Return a dict of rows by name, and the decorator that enters a row."""
    rows = {}

    def row(reason, layer="whole"):
        def register(build):
            rows[build.__name__] = Row(build, layer, reason)
            return build

        return register

    return rows, row


def in_front_of(*steps, shape=(6,), activation="relu"):
    """Build a layer that is pruned, the layer `whole` that is refused, and the steps behind it."""
    inputs = keras.Input(shape)
    hidden = Dense(8, activation, name="whole")(Dense(7, "relu", name="copy1")(inputs))
    for step in steps:
        hidden = step(hidden)
    return keras.Model(inputs, hidden)


ROWS, row = table()


class Tied(layers.Layer):
    """Layer that multiplies by the transposed kernel of another layer."""

    def __init__(self, source, **kwargs):
        super().__init__(**kwargs)
        self.source = source

    def call(self, inputs):
        return inputs @ keras.ops.transpose(self.source.kernel)


@row("tied to those of refused, which stays whole: it feeds .*layer_normalization")
def residual_sum_with_a_refused_layer():
    inputs = keras.Input((4, 6))
    first = Dense(8, "relu", name="whole")(Dense(7, "relu", name="copy1")(inputs))
    second = Dense(8, "relu", name="refused")(inputs)
    normal = layers.LayerNormalization()(second)
    summed = layers.GlobalAveragePooling1D()(Dense(3)(first + second))
    return keras.Model(inputs, [summed, normal])


@row("its units are an output of the model")
def output_of_the_model():
    inputs = keras.Input((6,))
    hidden = Dense(8, "relu", name="whole")(Dense(7, "relu", name="copy1")(inputs))
    return keras.Model(inputs, {"hidden": hidden, "y": Dense(3)(hidden)})


@row("its units are an output of the model")
def output_behind_an_activation():
    inputs = keras.Input((6,))
    hidden = Dense(8, name="whole")(Dense(7, "relu", name="copy1")(inputs))
    activated = layers.ReLU()(hidden)
    return keras.Model(inputs, [Dense(3)(activated), layers.Dropout(0.1)(activated)])


@row("it starts from a state that is not made of all units of a layer")
def decoder_with_a_given_state():
    inputs, state = keras.Input((3, 6)), keras.Input((4,))
    hidden = Dense(7, "relu", name="copy1")(inputs)
    hidden = layers.GRU(4, name="whole")(hidden, initial_state=state)
    return keras.Model([inputs, state], Dense(3)(hidden))


@row("it is quantized; prune first, then quantize")
def int8_embedding():
    inputs = keras.Input((4,), dtype="int32")
    table = layers.Embedding(9, 4, name="whole")
    hidden = Dense(7, "relu", name="copy1")(table(inputs))
    return keras.Model(inputs, Dense(3)(hidden)), lambda: table.quantize("int8")


def attention(layer=layers.MultiHeadAttention, sizes=(2, 3), **arguments):
    """Attention in front of a Dense layer."""
    inputs = keras.Input((4, 6))
    attended = layer(*sizes, name="whole", **arguments)(inputs, inputs)
    return keras.Model(inputs, Dense(3)(Dense(7, "relu", name="copy1")(attended)))


@row("it has heads of a single dimension")
def heads_of_one_dimension():
    return attention(sizes=(2, 1))


@row("it has a constraint, which heads with other kernels might break")
def heads_with_a_constraint():
    return attention(kernel_constraint="max_norm")


@row("it gates its heads")
def heads_with_a_gate():
    return attention(use_gate=True)


@row("it is quantized; prune first, then quantize")
def int8_heads():
    model = attention()
    layer = model.get_layer("whole")
    parts = (layer.query_dense, layer.key_dense, layer.value_dense, layer.output_dense)
    return model, lambda: [part.quantize("int8") for part in parts]


@row("it is quantized or has adapters")
def heads_with_adapters():
    model = attention()
    return model, lambda: model.get_layer("whole").value_dense.enable_lora(2)


@row("it has one head_dim for queries, keys and values alike")
def grouped_query_attention():
    return attention(layers.GroupQueryAttention, (4, 4, 2))


@row("its activation can't be used.*softmax")
def softmax_of_its_own():
    return in_front_of(Dense(3), activation="softmax")


@row("its activation can't be used")
def activation_that_mixes():
    return in_front_of(Dense(3), activation=lambda x: x - keras.ops.mean(x, axis=-1, keepdims=True))


@row("it is quantized; prune first, then quantize")
def int8_layer():
    model = in_front_of(Dense(4), Dense(5, "relu", name="copy3"), Dense(3))
    return model, lambda: model.get_layer("whole").quantize("int8")


@row("it shares its weights with tied", "tied_source")
def kernel_of_another_layer():
    inputs = keras.Input((6,))
    source = Dense(8, "relu", name="tied_source")
    hidden = Dense(8, "relu")(source(inputs))
    hidden = Dense(7, "relu", name="copy1")(Tied(source, name="tied")(hidden))
    return keras.Model(inputs, Dense(3)(hidden))


@row("it has weights that are not finite")
def not_finite():
    model = in_front_of(Dense(5), Dense(5, "relu", name="copy3"), Dense(3))

    def finish():
        layer = model.get_layer("whole")
        kernel = layer.kernel.numpy()
        kernel[0, 0] = np.nan
        layer.kernel.assign(kernel)

    return model, finish


@row("it has fewer than two units")
def one_unit():
    inputs = keras.Input((6,))
    hidden = Dense(1, "relu", name="whole")(Dense(7, "relu", name="copy1")(inputs))
    return keras.Model(inputs, Dense(3)(hidden))
