"""What can't be pruned is left whole, with the reason: the rest of the model still is."""

import re

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from tests.support import kinds

layers = keras.layers
Dense = layers.Dense
ROWS = {}


def row(reason, name="whole"):
    """Registers a model in which layer `name` is refused for a reason that matches."""

    def register(function):
        ROWS[function.__name__] = (function, name, reason)
        return function

    return register


def before(*behind, shape=(6,), activation="relu"):
    """A prunable layer, the layer to refuse, and what is behind it."""
    inputs = keras.Input(shape)
    hidden = Dense(8, activation, name="whole")(Dense(7, "relu", name="copy1")(inputs))
    for step in behind:
        hidden = step(hidden)
    return keras.Model(inputs, hidden)


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
        return self.first(inputs)


class Tied(layers.Layer):
    """Decodes with the transposed kernel of another layer."""

    def __init__(self, source, **kwargs):
        super().__init__(**kwargs)
        self.source = source

    def call(self, inputs):
        return inputs @ keras.ops.transpose(self.source.kernel)


@row("feeds my_dense .MyDense., which is a custom layer that no rule covers")
def dense_subclass_as_consumer():
    return before(MyDense(5), Dense(3))


@row("feeds add .Add., which joins the units, one by one, with a tensor that keeps its width")
def residual_sum_with_an_input():
    inputs = keras.Input((6,))
    hidden = Dense(6, "relu", name="whole")(Dense(7, "relu", name="copy1")(inputs))
    return keras.Model(inputs, Dense(3)(layers.Add()([inputs, hidden])))


@row("tied to those of refused, which stays whole: it feeds .*layer_normalization")
def residual_sum_with_a_refused_layer():
    inputs = keras.Input((4, 6))
    first = Dense(8, "relu", name="whole")(Dense(7, "relu", name="copy1")(inputs))
    second = Dense(8, "relu", name="refused")(inputs)
    normal = layers.LayerNormalization()(second)
    summed = layers.GlobalAveragePooling1D()(Dense(3)(first + second))
    return keras.Model(inputs, [summed, normal])


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


@row("its units are an output of the model")
def output_of_the_model():
    inputs = keras.Input((6,))
    hidden = Dense(8, "relu", name="whole")(Dense(7, "relu", name="copy1")(inputs))
    return keras.Model(inputs, {"hidden": hidden, "y": Dense(3)(hidden)})


@row("its units are an output of the model")
def output_behind_an_activation():
    inputs = keras.Input((6,))
    hidden = Dense(8, name="whole")(Dense(7, "relu", name="copy1")(inputs))
    bent = layers.ReLU()(hidden)
    return keras.Model(inputs, [Dense(3)(bent), layers.Dropout(0.1)(bent)])


@row("feeds gru .GRU., which takes them as its initial state")
def initial_state():
    inputs = keras.Input((3, 6))
    hidden = layers.GlobalAveragePooling1D()(Dense(7, "relu", name="copy1")(inputs))
    hidden = Dense(4, "relu", name="whole")(hidden)
    return keras.Model(inputs, Dense(3)(layers.GRU(4)(inputs, initial_state=hidden)))


@row("it feeds its units back to one another from step to step")
def recurrent_units():
    copied = Dense(7, "relu", name="copy1")
    steps = [keras.Input((3, 6)), copied, layers.LSTM(4, name="whole"), Dense(3)]
    return keras.Sequential(steps)


@row("feeds bidirectional .Bidirectional., which wraps a layer other than LSTM, GRU and SimpleRNN")
def cell_in_bidirectional():
    inner = layers.RNN(layers.LSTMCell(4))
    return before(layers.Bidirectional(inner), Dense(3), shape=(3, 6))


@row("feeds einsum_dense .EinsumDense., which multiplies by a kernel of several axes")
def heads_by_einsum():
    split = layers.EinsumDense("abc,cde->abde", (None, 2, 4))
    return before(split, Dense(3), shape=(3, 6))


@row("feeds embedding .Embedding., which takes them as indices into a table")
def units_as_indices():
    return before(layers.Embedding(9, 4), layers.Flatten(), Dense(3))


@row("it is quantized; prune first, then quantize")
def int8_embedding():
    inputs = keras.Input((4,), dtype="int32")
    table = layers.Embedding(9, 4, name="whole")
    hidden = Dense(7, "relu", name="copy1")(table(inputs))
    return keras.Model(inputs, Dense(3)(hidden)), lambda: table.quantize("int8")


@row("feeds layer_normalization .LayerNormalization., which mixes all units")
def layer_normalization():
    return before(layers.LayerNormalization(), Dense(3))


@row("feeds reshape .Reshape., which rearranges units and positions")
def reshaped():
    return before(layers.Reshape((4, 2)), Dense(3))


@row("feeds time_distributed .TimeDistributed., which wraps a layer other than Dense")
def model_in_time_distributed():
    inner = keras.Sequential([keras.Input((8,)), Dense(5, "relu"), Dense(4)])
    return before(layers.TimeDistributed(inner), Dense(3), shape=(4, 6))


@row("feeds time_distributed .TimeDistributed., which wraps a layer other than Dense")
def dense_subclass_in_time_distributed():
    return before(layers.TimeDistributed(MyDense(5)), Dense(3), shape=(4, 6))


@row("feeds lambda .Lambda., which runs Python code that can't be seen through")
def python_lambda():
    return before(layers.Lambda(lambda x: 2 * x, output_shape=lambda shape: shape), Dense(3))


@row("feeds multi_head_attention .MultiHeadAttention., which attends from one tensor to another")
def cross_attention():
    inputs = keras.Input((4, 6))
    hidden = Dense(8, "relu", name="whole")(Dense(7, "relu", name="copy1")(inputs))
    return keras.Model(inputs, Dense(3)(layers.MultiHeadAttention(2, 3)(hidden, inputs)))


@row("it mixes its units in attention heads, which are not pruned")
def attention_heads():
    inputs = keras.Input((4, 6))
    hidden = Dense(7, "relu", name="copy1")(inputs)
    attend = layers.MultiHeadAttention(2, 3, name="whole")
    return keras.Model(inputs, Dense(3)(attend(hidden, hidden)))


@row("feeds multi_head_attention .MultiHeadAttention., which gates its heads")
def gated_attention():
    inputs = keras.Input((4, 6))
    hidden = Dense(8, "relu", name="whole")(Dense(7, "relu", name="copy1")(inputs))
    attend = layers.MultiHeadAttention(2, 3, use_gate=True)
    return keras.Model(inputs, Dense(3)(attend(hidden, hidden)))


@row("its activation can't be used.*softmax")
def softmax_of_its_own():
    return before(Dense(3), activation="softmax")


@row("feeds softmax .Softmax.: each value depends on the other units")
def softmax_layer():
    return before(layers.Softmax(), Dense(3))


@row("feeds activation.* .Activation.: each value.*softmax")
def softmax_as_activation_layer():
    return before(layers.Activation("softmax"), Dense(3))


@row("feeds depthwise_conv2d .DepthwiseConv2D.: each value depends on the other units")
def softmax_inside_a_depthwise_convolution():
    filtered = layers.DepthwiseConv2D(2, activation="softmax")
    return before(filtered, layers.Flatten(), Dense(3), shape=(4, 4, 6))


@row("feeds softmax .Softmax.: each value depends on the other units")
def softmax_operation():
    return before(keras.ops.softmax, Dense(3))


@row("its activation can't be used")
def activation_that_mixes():
    return before(Dense(3), activation=lambda x: x - keras.ops.mean(x, axis=-1, keepdims=True))


@row("feeds square .Square., which is a custom layer that no rule covers")
def custom_layer():
    return before(Square(), Dense(3))


@row("feeds get_item .GetItem., which takes only a part of the tensor")
def part_of_the_units():
    return before(lambda x: x[:, :5], Dense(3))


@row("feeds both, a shared consumer that is called on other units too")
def shared_consumer_of_an_input():
    one, two = keras.Input((6,)), keras.Input((8,))
    both = Dense(3, name="both")
    hidden = Dense(8, "relu", name="whole")(Dense(7, "relu", name="copy1")(one))
    return keras.Model([one, two], [both(two), both(hidden)])


@row("it is quantized; prune first, then quantize")
def int8_layer():
    model = before(Dense(4), Dense(5, "relu", name="copy3"), Dense(3))
    return model, lambda: model.get_layer("whole").quantize("int8")


@row("feeds dense .Dense., which is quantized; prune first")
def int8_consumer():
    model = before(Dense(4), Dense(5, "relu", name="copy3"), Dense(3))
    return model, lambda: model.get_layer("dense").quantize("int8")


@row("feeds inside .Inside., which is a subclassed model whose graph can't be seen")
def subclassed_model_inside():
    return before(Inside(), Dense(3))


@row("it shares its weights with tied", "tied_source")
def kernel_of_another_layer():
    inputs = keras.Input((6,))
    source = Dense(8, "relu", name="tied_source")
    hidden = Dense(8, "relu")(source(inputs))
    hidden = Dense(7, "relu", name="copy1")(Tied(source, name="tied")(hidden))
    return keras.Model(inputs, Dense(3)(hidden))


@row("feeds batch_normalization .*, which is called with training=True")
def normalization_in_training():
    return before(lambda x: layers.BatchNormalization()(x, training=True), Dense(3))


@row("feeds dropout .Dropout., which is called with training=True")
def dropout_in_training():
    return before(lambda x: layers.Dropout(0.5)(x, training=True), Dense(3))


@row("feeds inner/dropout .Dropout., which is called with training=True")
def dropout_in_a_model_in_training():
    inner = keras.Sequential([keras.Input((8,)), layers.Dropout(0.5)], name="inner")
    return before(lambda x: inner(x, training=True), Dense(3))


@row("feeds concatenate .Concatenate., which concatenates along another axis")
def concatenated_along_positions():
    return before(
        lambda x: layers.Concatenate(axis=1)([x, x]), layers.Flatten(), Dense(3), shape=(3, 6)
    )


@row("it has weights that are not finite")
def not_finite():
    model = before(Dense(5), Dense(5, "relu", name="copy3"), Dense(3))

    def finish():
        layer = model.get_layer("whole")
        kernel = layer.kernel.numpy()
        kernel[0, 0] = np.nan
        layer.kernel.assign(kernel)

    return model, finish


@row("feeds dense .Dense., which has weights that are not finite")
def consumer_that_is_not_finite():
    model = before(Dense(5), Dense(3))

    def finish():
        layer = model.get_layer("dense")
        layer.bias.assign(np.full(5, np.inf))

    return model, finish


@row("feeds batch_normalization .*, which has weights that are not finite")
def normalization_that_is_not_finite():
    norm = layers.BatchNormalization()
    return before(norm, Dense(3)), lambda: norm.beta.assign(np.full(8, np.nan))


@row("feeds batch_normalization .*, which normalizes another axis than the units'")
def normalization_of_positions():
    return before(layers.BatchNormalization(axis=1), layers.Flatten(), Dense(3), shape=(3, 6))


@row("it has fewer than two units")
def one_unit():
    inputs = keras.Input((6,))
    hidden = Dense(1, "relu", name="whole")(Dense(7, "relu", name="copy1")(inputs))
    return keras.Model(inputs, Dense(3)(hidden))


RANDOM = {name for name in ROWS if name.endswith("in_training")}
BROKEN = {name for name in ROWS if "not_finite" in name}


@pytest.mark.parametrize("name", ROWS)
def test_layer_is_refused_with_the_reason(name):
    build, layer, reason = ROWS[name]
    model = kinds.prepare(build)
    plan = dfprune.plan(model, tolerance=0)
    reasons = {refusal.layer: refusal.reason for refusal in plan.refusals}
    assert layer not in {group.layer for group in plan.groups}
    assert re.search(reason, reasons[layer]), reasons[layer]


@pytest.mark.parametrize("name", ROWS)
def test_the_rest_is_pruned_and_the_layer_stays(name):
    build, layer, _ = ROWS[name]
    model = kinds.prepare(build)
    plan = dfprune.plan(model, tolerance=0)
    removed = {group.layer: len(group.removed) for group in plan.groups}
    # a layer that can't be read can't take over the units in front of it either
    assert removed["copy3" if name in ("int8_layer", "not_finite") else "copy1"] == 1
    assert removed == {path: kinds.planted(path) for path in removed}
    pruned = plan.apply(model)
    for width in ("units", "output_dim", "num_heads"):
        kept, was = pruned.get_layer(layer), model.get_layer(layer)
        assert getattr(kept, width, None) == getattr(was, width, None)
    if name not in RANDOM | BROKEN:
        x = kinds.draw(model)
        kinds.assert_agree(kinds.run(pruned, x), kinds.run(model, x), 1e-5)


def test_tables_that_units_point_into_are_compared_as_a_whole():
    """Nine tokens behind eight units: two columns that differ for the last token are no copies."""
    model = before(layers.Embedding(9, 4, name="table"), layers.Flatten(), Dense(3))
    table = model.get_layer("table").embeddings
    values = np.random.default_rng(0).normal(size=(9, 4))
    values[:8, 3] = values[:8, 1]
    table.assign(values)
    removed = {group.layer: len(group.removed) for group in dfprune.plan(model, tolerance=0).groups}
    assert removed["table"] == 0
    values[8, 3] = values[8, 1]
    table.assign(values)
    (group,) = [one for one in dfprune.plan(model, tolerance=0).groups if one.layer == "table"]
    assert group.removed.tolist() == [1]


def test_layers_with_kernels_that_no_rule_covers_are_listed_too():
    inputs = keras.Input((4, 4, 6))
    hidden = layers.LayerNormalization()(Square(name="mine")(inputs))
    hidden = layers.Conv2DTranspose(3, 2, name="transposed")(hidden)
    outputs = layers.SpectralNormalization(Dense(3), name="wrapped")(layers.Flatten()(hidden))
    plan = dfprune.plan(keras.Model(inputs, Dense(2, name="last")(outputs)), verify=False)
    reasons = {refusal.layer: refusal.reason for refusal in plan.refusals}
    assert list(reasons) == ["mine", "transposed", "wrapped", "last"]
    assert reasons["mine"].startswith("it is a custom layer that no rule covers")
    assert reasons["transposed"].startswith("it has weights of its own for each unit")
    assert reasons["wrapped"] == "it rescales the whole kernel of the layer that it wraps"


def test_naming_a_refused_layer_warns():
    model = kinds.prepare(layer_normalization)
    with pytest.warns(UserWarning, match="whole: it feeds layer_normalization"):
        dfprune.plan(model, sparsity={"whole": 0.5, "copy1": 0.5})


def test_dense_subclass_is_no_producer():
    model = kinds.prepare(lambda: before(Dense(5), MyDense(8, "relu", name="mine"), Dense(3)))
    plan = dfprune.plan(model, sparsity=0.5)
    assert "mine" not in {group.layer for group in plan.groups}
    assert plan.apply(model).get_layer("mine").units == 8
