"""Kinds of models by their structure: nested, shared, joined, with several inputs and outputs."""

import keras
import numpy as np

from tests.support import kinds
from tests.support.kinds import chain

layers = keras.layers
Dense = layers.Dense
ROWS, row = kinds.table()


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
    """Keras takes a dict by names where a model was made with a list of inputs."""
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
