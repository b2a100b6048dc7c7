"""Kinds of models in which a layer is refused because of a layer that it feeds."""

import keras
import numpy as np
import tensorflow as tf

from tests.support.kinds_refused import in_front_of, table

layers = keras.layers
Dense = layers.Dense
ROWS, row = table()


class Square(layers.Layer):
    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], 3))

    def call(self, inputs):
        return inputs @ self.kernel


class MyDense(Dense):
    pass


class Inside(keras.Model):
    def __init__(self):
        super().__init__()
        self.first = Dense(5, "relu")

    def call(self, inputs):
        return tf.identity(self.first(inputs))  # which runs on no symbolic tensor


@row("feeds my_dense .MyDense., which is a custom layer that no rule covers")
def dense_subclass_as_consumer():
    return in_front_of(MyDense(5), Dense(3))


@row("feeds add .Add., which joins the units, one by one, with a tensor that keeps its width")
def residual_sum_with_an_input():
    inputs = keras.Input((6,))
    hidden = Dense(6, "relu", name="whole")(Dense(7, "relu", name="copy1")(inputs))
    return keras.Model(inputs, Dense(3)(layers.Add()([inputs, hidden])))


@row("feeds add .Add., which combines units of several layers side by side")
def sum_with_a_concatenation():
    inputs = keras.Input((6,))
    hidden = Dense(8, "relu", name="whole")(Dense(7, "relu", name="copy1")(inputs))
    parts = layers.Concatenate()([Dense(3)(inputs), Dense(5)(inputs)])
    return keras.Model(inputs, Dense(3)(layers.Add()([hidden, parts])))


@row("feeds multiply .Multiply., which combines tensors of different shapes")
def product_with_a_number_for_each_example():
    inputs = keras.Input((6,))
    hidden = Dense(8, "relu", name="whole")(Dense(7, "relu", name="copy1")(inputs))
    return keras.Model(inputs, Dense(3)(layers.Multiply()([hidden, Dense(1)(inputs)])))


@row("divides one tensor by another")
def quotient():
    inputs = keras.Input((6,))
    hidden = Dense(8, "relu", name="whole")(Dense(7, "relu", name="copy1")(inputs))
    return keras.Model(inputs, Dense(3)(hidden / Dense(8, "softplus")(inputs)))


@row("feeds gru .GRU., which takes them as its initial state")
def initial_state():
    inputs = keras.Input((3, 6))
    hidden = layers.GlobalAveragePooling1D()(Dense(7, "relu", name="copy1")(inputs))
    hidden = Dense(4, "relu", name="whole")(hidden)
    state = layers.Concatenate()([hidden, inputs[:, 0]])
    return keras.Model(inputs, Dense(3)(layers.GRU(10)(inputs, initial_state=state)))


@row("feeds bidirectional .Bidirectional., which wraps a layer other than LSTM, GRU and SimpleRNN")
def cell_in_bidirectional():
    inner = layers.RNN(layers.LSTMCell(4))
    return in_front_of(layers.Bidirectional(inner), Dense(3), shape=(3, 6))


@row("feeds einsum_dense .EinsumDense., which multiplies by a kernel of several axes")
def heads_by_einsum():
    split = layers.EinsumDense("abc,cde->abde", (None, 2, 4))
    return in_front_of(split, Dense(3), shape=(3, 6))


@row("feeds embedding .Embedding., which takes them as indices into a table")
def units_as_indices():
    return in_front_of(layers.Embedding(9, 4), layers.Flatten(), Dense(3))


@row("feeds layer_normalization .LayerNormalization., which mixes all units")
def layer_normalization():
    return in_front_of(layers.LayerNormalization(), Dense(3))


@row("feeds reshape .Reshape., which rearranges units and positions")
def reshaped():
    return in_front_of(layers.Reshape((4, 6)), Dense(3), shape=(3, 6))


@row("feeds time_distributed .TimeDistributed., which wraps a layer other than Dense")
def model_in_time_distributed():
    inner = keras.Sequential([keras.Input((8,)), Dense(5, "relu"), Dense(4)])
    return in_front_of(layers.TimeDistributed(inner), Dense(3), shape=(4, 6))


@row("feeds time_distributed .TimeDistributed., which wraps a layer other than Dense")
def dense_subclass_in_time_distributed():
    return in_front_of(layers.TimeDistributed(MyDense(5)), Dense(3), shape=(4, 6))


@row("feeds lambda .Lambda., which runs Python code that can't be analyzed")
def python_lambda():
    return in_front_of(layers.Lambda(lambda x: 2 * x, output_shape=lambda shape: shape), Dense(3))


@row("feeds multi_head_attention .MultiHeadAttention., which attends from one tensor to another")
def cross_attention():
    inputs = keras.Input((4, 6))
    hidden = Dense(8, "relu", name="whole")(Dense(7, "relu", name="copy1")(inputs))
    return keras.Model(inputs, Dense(3)(layers.MultiHeadAttention(2, 3)(hidden, inputs)))


@row("feeds multi_head_attention .MultiHeadAttention., which gates its heads")
def gated_attention():
    inputs = keras.Input((4, 6))
    hidden = Dense(8, "relu", name="whole")(Dense(7, "relu", name="copy1")(inputs))
    attend = layers.MultiHeadAttention(2, 3, use_gate=True)
    return keras.Model(inputs, Dense(3)(attend(hidden, hidden)))


@row("feeds softmax .Softmax.: each value depends on the other units")
def softmax_layer():
    return in_front_of(layers.Softmax(), Dense(3))


@row("feeds activation.* .Activation.: each value.*softmax")
def softmax_as_activation_layer():
    return in_front_of(layers.Activation("softmax"), Dense(3))


@row("feeds depthwise_conv2d .DepthwiseConv2D.: each value depends on the other units")
def softmax_inside_a_depthwise_convolution():
    filtered = layers.DepthwiseConv2D(2, activation="softmax")
    return in_front_of(filtered, layers.Flatten(), Dense(3), shape=(4, 4, 6))


@row("feeds softmax .Softmax.: each value depends on the other units")
def softmax_operation():
    return in_front_of(keras.ops.softmax, Dense(3))


@row(r"feeds softmax .Softmax.: each value depends on the others along axis 1 .softmax.")
def softmax_over_positions():
    return in_front_of(lambda x: keras.ops.softmax(x, axis=1), Dense(3), shape=(4, 6))


@row(r"feeds softmax .Softmax.: each value depends on the others along axis 1 .softmax.")
def softmax_layer_over_positions():
    return in_front_of(layers.Softmax(axis=1), Dense(3), shape=(4, 6))


@row("activation can't be used: each value depends on the other units .softmax-like.")
def shares_that_may_be_nan():
    def share(x):
        return keras.ops.relu(x) / keras.ops.sum(keras.ops.relu(x), axis=-1, keepdims=True)

    return in_front_of(Dense(3), activation=share)


@row("feeds square .Square., which is a custom layer that no rule covers")
def custom_layer():
    return in_front_of(Square(), Dense(3))


@row("feeds get_item .GetItem., which takes only a part of the units")
def part_of_the_units():
    return in_front_of(lambda x: x[:, :5], Dense(3))


@row("feeds both, a shared consumer that is called on other units too")
def shared_consumer_of_an_input():
    one, two = keras.Input((6,)), keras.Input((8,))
    both = Dense(3, name="both")
    hidden = Dense(8, "relu", name="whole")(Dense(7, "relu", name="copy1")(one))
    return keras.Model([one, two], [both(two), both(hidden)])


@row("feeds dense .Dense., which is quantized; prune first")
def int8_consumer():
    model = in_front_of(Dense(4), Dense(5, "relu", name="copy3"), Dense(3))
    return model, lambda: model.get_layer("dense").quantize("int8")


@row("feeds inside .Inside., which is a subclassed model whose graph can't be seen")
def subclassed_model_inside():
    return in_front_of(Inside(), Dense(3))


@row("feeds batch_normalization .*, which is called with training=True")
def normalization_in_training():
    return in_front_of(lambda x: layers.BatchNormalization()(x, training=True), Dense(3))


@row("feeds dropout .Dropout., which is called with training=True")
def dropout_in_training():
    return in_front_of(lambda x: layers.Dropout(0.5)(x, training=True), Dense(3))


@row("feeds inner/dropout .Dropout., which is called with training=True")
def dropout_in_a_model_in_training():
    inner = keras.Sequential([keras.Input((8,)), layers.Dropout(0.5)], name="inner")
    return in_front_of(lambda x: inner(x, training=True), Dense(3))


@row("feeds concatenate .Concatenate., which concatenates along another axis")
def concatenated_along_positions():
    return in_front_of(
        lambda x: layers.Concatenate(axis=1)([x, x]), layers.Flatten(), Dense(3), shape=(3, 6)
    )


@row("feeds dense .Dense., which has weights that are not finite")
def consumer_that_is_not_finite():
    model = in_front_of(Dense(5), Dense(3))

    def finish():
        layer = model.get_layer("dense")
        layer.bias.assign(np.full(5, np.inf))

    return model, finish


@row("feeds batch_normalization .*, which has weights that are not finite")
def normalization_that_is_not_finite():
    norm = layers.BatchNormalization()
    return in_front_of(norm, Dense(3)), lambda: norm.beta.assign(np.full(8, np.nan))


@row("feeds batch_normalization .*, which normalizes another axis than the units'")
def normalization_of_positions():
    return in_front_of(layers.BatchNormalization(axis=1), layers.Flatten(), Dense(3), shape=(3, 6))
