"""Every way to put stock layers together: planted copies come out, and nothing else changes."""

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from tests import kinds
from tests.models import plant_copy

layers = keras.layers
Dense = layers.Dense
ROWS = {}


def row(function):
    ROWS[function.__name__] = function
    return function


def chain(*middle, shape=(6,)):
    """A functional model from its layers; each has to be an object that takes one tensor."""
    inputs = keras.Input(shape)
    hidden = inputs
    for step in middle:
        hidden = step(hidden)
    return keras.Model(inputs, hidden)


@row
def sequential():
    return keras.Sequential(
        [keras.Input((6,)), Dense(8, "relu", name="scaled1"), Dense(7, "tanh", name="copy2"),
         Dense(3)]
    )  # fmt: skip


@row
def sequential_built_by_a_call():
    model = keras.Sequential([Dense(8, "relu", name="scaled1"), Dense(7, name="scaled2"), Dense(3)])
    model(np.ones((2, 6), "float32"))
    return model


@row
def functional():
    return chain(Dense(8, "relu", name="scaled1"), Dense(7, "sigmoid", name="copy2"), Dense(3))


@row
def nested_twice():
    inner = keras.Sequential(
        [keras.Input((7,)), Dense(8, "relu", name="scaled2"), Dense(6, "gelu", name="copy3")]
    )
    middle = chain(inner, Dense(7, "elu", name="copy4"), shape=(7,))
    return chain(Dense(7, "relu", name="scaled1"), middle, Dense(3))


@row
def functional_inside_sequential():
    inner = chain(Dense(8, "relu", name="scaled2"), Dense(5, "tanh", name="copy3"), shape=(7,))
    return keras.Sequential([keras.Input((6,)), Dense(7, name="scaled1"), inner, Dense(2)])


@row
def shared_layer():
    one, two = keras.Input((6,)), keras.Input((6,))
    shared = Dense(8, "relu", name="scaled1")
    behind = Dense(6, "tanh", name="copy2")
    joined = layers.Concatenate()([behind(shared(one)), behind(shared(two))])
    return keras.Model([one, two], Dense(3)(joined))


@row
def shared_nested_model():
    inner = chain(Dense(8, "relu", name="scaled1"), Dense(6, "tanh", name="copy2"))
    one, two = keras.Input((6,)), keras.Input((6,))
    return keras.Model([one, two], Dense(3)(layers.Concatenate()([inner(one), inner(two)])))


@row
def residual_sum():
    inputs = keras.Input((6,))
    first = Dense(8, "relu", name="scaled1")(inputs)
    second = Dense(8, name="scaled2")(first)
    return keras.Model(inputs, Dense(3)(layers.ReLU()(layers.Add()([first, second]))))


@row
def residual_sum_by_operator():
    inputs = keras.Input((6,))
    first = Dense(8, "relu", name="scaled1")(Dense(7, "relu", name="scaled3")(inputs))
    return keras.Model(inputs, Dense(3)(first + Dense(8, "relu", name="scaled2")(inputs)))


@row
def gate():
    inputs = keras.Input((6,))
    gates = Dense(8, "sigmoid", name="copy1")(inputs)
    return keras.Model(inputs, Dense(3)(layers.Multiply()([Dense(8, name="copy2")(inputs), gates])))


@row
def shared_consumer_of_two_layers():
    inputs = keras.Input((6,))
    both = Dense(3, name="both")
    one, two = Dense(8, "relu", name="scaled1")(inputs), Dense(8, "relu", name="scaled2")(inputs)
    return keras.Model(inputs, [both(one), both(two)])


@row
def two_activations():
    inputs = keras.Input((6,))
    hidden = Dense(8, name="copy1")(inputs)
    return keras.Model(inputs, [Dense(3)(keras.ops.tanh(hidden)), Dense(3)(layers.ReLU()(hidden))])


@row
def dict_of_inputs_and_outputs():
    inputs = {"b": keras.Input((6,), name="b"), "a": keras.Input((4,), name="a")}
    one = Dense(8, "relu", name="scaled1")(inputs["b"])
    two = Dense(7, "tanh", name="copy2")(inputs["a"])
    joined = layers.Concatenate()([two, one])
    return keras.Model(inputs, {"y": Dense(3)(joined), "x": Dense(2)(one)})


@row
def concatenated_with_the_unpruned():
    inputs = keras.Input((6,))
    hidden = Dense(8, "relu", name="scaled1")(inputs)
    return keras.Model(inputs, Dense(3)(layers.Concatenate()([inputs, hidden, inputs])))


@row
def concatenated_with_itself():
    inputs = keras.Input((6,))
    hidden = Dense(8, "relu", name="scaled1")(inputs)
    other = Dense(5, "tanh", name="copy2")(inputs)
    return keras.Model(inputs, Dense(3)(layers.Concatenate()([hidden, other, hidden])))


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
    """Equal weights, but slopes of their own, so nothing may go."""
    dense = Dense(8, name="equal")
    return chain(dense, layers.PReLU(), Dense(3)), lambda: plant_copy(dense, 0, 1)


def tie(normalization, *pairs):
    """Gives units the same parameters."""
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
    """Copies by their folded weight-sets alone: what is behind them undoes what differs."""
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
    """Masked tokens, an initial state of a layer that stays, all outputs taken."""
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
    """A constant part goes into the moving mean, so the consumer gets no bias."""
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


@row
def two_heads():
    inputs = keras.Input((6,))
    trunk = Dense(8, "relu", name="scaled1")(inputs)
    left = Dense(6, "tanh", name="copy2")(trunk)
    return keras.Model(inputs, [Dense(2)(left), Dense(1, use_bias=False)(trunk)])


@row
def intermediate_tensor():
    whole = chain(Dense(9), Dense(8, "relu", name="scaled1"), Dense(6), Dense(3))
    return keras.Model(whole.layers[1].output, whole.layers[3].output)


@row
def same_names_inside_two_models():
    one = keras.Sequential(
        [keras.Input((6,)), Dense(8, "relu", name="scaled1"), Dense(5, name="out")], name="one"
    )
    two = keras.Sequential(
        [keras.Input((5,)), Dense(7, "relu", name="scaled1"), Dense(4, name="out")], name="two"
    )
    return chain(one, two, Dense(2))


@row
def nested_model_called_by_names():
    """Keras finds the inputs of a model that takes a list by their names in a dict."""
    one, two = keras.Input((8,), name="b"), keras.Input((8,), name="a")
    joined = layers.Concatenate()([one, 2.0 * two])
    inner = keras.Model([one, two], Dense(7, "tanh", name="copy3")(joined))
    inputs = keras.Input((6,))
    first = Dense(8, "relu", name="scaled1")(inputs)
    second = Dense(8, "sigmoid", name="copy2")(inputs)
    return keras.Model(inputs, Dense(3)(inner({"a": second, "b": first})))


@row
def called_for_inference():
    inputs = keras.Input((6,))
    hidden = Dense(8, "relu", name="scaled1")(inputs)
    hidden = layers.Dropout(0.5)(hidden, training=False)
    return keras.Model(inputs, Dense(3)(hidden))


@pytest.mark.parametrize("name", ROWS)
def test_exactly_the_planted_units_go(name):
    kinds.check_exact(ROWS[name])


@pytest.mark.parametrize("name", ROWS)
def test_half_of_the_units_go(name, tmp_path):
    kinds.check_half(ROWS[name], tmp_path, load={})


def consumer_without_bias_is_an_output_too():
    """The normalization behind can't take a constant, since the output in front would miss it."""
    inputs = keras.Input((6,))
    hidden = Dense(8, "sigmoid", name="copy1")(inputs)
    between = Dense(5, use_bias=False, name="consumer")(hidden)
    behind = layers.ReLU()(layers.BatchNormalization()(between))
    return keras.Model(inputs, [between, Dense(3)(behind)])


def constant_unit(build):
    """The row's model, unit 5 of its first layer made a constant."""
    model = kinds.prepare(build)
    layer = next(layer for layer in model.layers if isinstance(layer, Dense))
    kernel, bias = layer.get_weights()
    kernel[:, 5], bias[5] = 0.0, 1.7
    layer.set_weights([kernel, bias])
    return model, dfprune.plan(model, method="moments", tolerance=0)


def test_constant_part_becomes_a_new_bias():
    model, plan = constant_unit(consumer_without_bias)
    assert 5 in plan.groups[0].removed
    assert any("gets a bias" in note for note in plan.notes)
    pruned = plan.apply(model)
    assert pruned.layers[-1].use_bias and not model.layers[-1].use_bias
    assert pruned.count_params() == plan.parameters[1]
    x = kinds.draw(model)
    kinds.assert_agree(kinds.run(pruned, x), kinds.run(model, x), 1e-5)


def test_constant_part_goes_into_the_normalization_behind():
    model, plan = constant_unit(normalization_behind_a_consumer_without_bias)
    assert 5 in plan.groups[0].removed and plan.notes == ()
    pruned = plan.apply(model)
    assert not pruned.get_layer("consumer").use_bias
    x = kinds.draw(model)
    kinds.assert_agree(kinds.run(pruned, x), kinds.run(model, x), 1e-5)


def test_constant_part_is_not_missed_where_the_consumer_is_an_output():
    model, plan = constant_unit(consumer_without_bias_is_an_output_too)
    assert 5 in plan.groups[0].removed
    pruned = plan.apply(model)
    assert pruned.get_layer("consumer").use_bias
    x = kinds.draw(model)
    kinds.assert_agree(kinds.run(pruned, x), kinds.run(model, x), 1e-5)
