"""Outputs are taken in front of the last activation, on the variables of the original."""

import keras
import numpy as np
import pytest

from keras_dfprune.graph.before_activation import before_activation, with_fronts
from tests.support.models import call_history, operations_of

layers = keras.layers


def on_dense(*behind):
    return keras.Sequential([keras.Input((6,)), layers.Dense(8, "relu"), *behind])


def on_convolution(*behind):
    return keras.Sequential([keras.Input((5, 4)), layers.Conv1D(6, 2, activation="relu"), *behind])


def by_operation(function):
    inputs = keras.Input((6,))
    return keras.Model(inputs, function(layers.Dense(8)(inputs)))


def nested(inner):
    inputs = keras.Input((6,))
    return keras.Model(inputs, inner(layers.Dense(6)(inputs)))


class OwnDense(layers.Dense):
    pass


SOFTMAX = {
    "built in": lambda: on_dense(layers.Dense(3, "softmax")),
    "log": lambda: on_dense(layers.Dense(3, "log_softmax")),
    "function of the user's": lambda: on_dense(layers.Dense(3, lambda x: keras.ops.softmax(x))),
    "layer as a function": lambda: on_dense(layers.Dense(3, layers.Softmax())),
    "subclass": lambda: on_dense(OwnDense(3, "softmax")),
    "convolution": lambda: on_convolution(layers.Conv1D(3, 2, activation="softmax")),
    "layer": lambda: on_dense(layers.Dense(3), layers.Softmax()),
    "other axis": lambda: on_convolution(layers.Softmax(axis=1)),
    "two axes": lambda: on_convolution(layers.Softmax(axis=(1, 2))),
    "activation layer": lambda: on_dense(layers.Dense(3), layers.Activation("softmax")),
    "operation": lambda: by_operation(keras.ops.softmax),
    "operation, other axis": lambda: by_operation(lambda x: keras.ops.softmax(x, axis=0)),
    "function on tensors": lambda: by_operation(keras.activations.softmax),
    "nested": lambda: nested(on_dense(layers.Dense(3, "softmax"))),
    "nested twice": lambda: nested(nested(on_dense(layers.Dense(3, "softmax")))),
    "at each position": lambda: on_convolution(layers.TimeDistributed(layers.Dense(3, "softmax"))),
    "in front of others": lambda: on_convolution(
        layers.Dense(3, "softmax"), layers.Dropout(0.1), layers.Activation("linear"),
        layers.Permute((2, 1)),
    ),
}  # fmt: skip
ELEMENTWISE = {
    "sigmoid": (lambda: on_dense(layers.Dense(3, "sigmoid")), keras.ops.sigmoid),
    "relu": (lambda: on_dense(layers.Dense(3), layers.ReLU()), keras.ops.relu),
    "tanh": (lambda: by_operation(keras.ops.tanh), keras.ops.tanh),
    "einsum": (lambda: on_dense(layers.EinsumDense("ab,bc->ac", 3, activation="elu")),
               keras.ops.elu),
    "separable": (lambda: on_convolution(layers.SeparableConv1D(3, 2, activation="tanh")),
                  keras.ops.tanh),
    "flattened": (lambda: on_convolution(layers.Dense(3, "sigmoid"), layers.Flatten()),
                  keras.ops.sigmoid),
}  # fmt: skip


def inputs_of(model):
    return np.random.default_rng(0).normal(size=(4, *model.input_shape[1:])).astype("float32")


def softmax_of(name, values):
    """Undo the removal: the softmax of each case, along its axis."""
    if name == "log":
        return keras.ops.log_softmax(values)
    axis = {
        "other axis": 1, "two axes": (1, 2), "operation, other axis": 0, "in front of others": 1,
    }.get(name, -1)  # fmt: skip
    return keras.ops.softmax(values, axis=axis)


@pytest.mark.parametrize("name", SOFTMAX)
def test_a_softmax_is_removed_and_each_row_has_mean_0(name):
    model = SOFTMAX[name]()
    front = before_activation(model)
    assert front.softmax == (True,)
    x = inputs_of(model)
    values = front.model(x)
    assert np.abs(values).max() > 1e-2
    np.testing.assert_allclose(softmax_of(name, values), model(x), rtol=1e-4, atol=1e-6)
    axes = {"two axes": (1, 2), "other axis": 1, "operation, other axis": 0,
            "in front of others": 1}.get(name, -1)  # fmt: skip
    np.testing.assert_allclose(np.mean(values, axis=axes), 0, atol=1e-5)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_an_elementwise_activation_is_removed(name):
    build, activation = ELEMENTWISE[name]
    model = build()
    front = before_activation(model)
    assert front.softmax == (False,)
    x = inputs_of(model)
    values = front.model(x)
    np.testing.assert_allclose(activation(values), model(x), rtol=1e-5, atol=1e-6)
    assert np.abs(values - model(x)).max() > 1e-2


class OwnCall(layers.Dense):
    def call(self, inputs):
        return 2 * super().call(inputs)


@pytest.mark.parametrize(
    "build",
    [
        lambda: on_dense(layers.Dense(3)),
        lambda: on_dense(OwnCall(3, "softmax")),
        lambda: on_dense(layers.Dense(4, "glu")),
        lambda: on_dense(layers.Dense(4), layers.Activation("glu")),
        lambda: on_dense(layers.Dense(3, lambda x: x * np.ones(3, "float32"))),
        lambda: on_dense(layers.Dense(3, "softmax"), layers.Dense(2)),
        lambda: on_dense(layers.Dense(3, "softmax"), layers.LayerNormalization()),
        lambda: on_convolution(layers.LSTM(4)),
        lambda: keras.Model(*2 * [keras.Input((6,))]),
    ],
    ids=[
        "linear",
        "own call",
        "glu",
        "glu layer",
        "width",
        "inside",
        "normalized",
        "recurrent",
        "input",
    ],
)
def test_other_outputs_stay(build):
    model = build()
    front = before_activation(model)
    x = inputs_of(model)
    assert front.softmax == (False,)
    np.testing.assert_array_equal(front.model(x), model(x))


def several_outputs():
    """Build a model that uses an output in front of which a softmax stands, and returns it."""
    inputs = {"a": keras.Input((6,), name="a"), "b": keras.Input((6,), name="b")}
    hidden = layers.Dense(6, "relu", name="hidden")(layers.Add()(list(inputs.values())))
    shared = layers.Dense(3, "softmax", name="shared")
    heads = keras.Model(hidden, [shared(hidden), layers.Dense(2, "sigmoid")(hidden)], name="heads")
    first, second = heads(layers.Dense(6)(hidden), training=False)
    return keras.Model(
        inputs, {"y": shared(hidden), "z": second, "w": first, "v": layers.Dense(2)(first)}
    )


def test_structures_are_kept_and_a_layer_may_be_called_again():
    model = several_outputs()
    front = before_activation(model)
    x = {key: np.random.default_rng(1).normal(size=(4, 6)) for key in ("a", "b")}
    expected, values = model(x), front.model(x)
    assert list(values) == list(expected)
    by_name = dict(zip(sorted(expected), front.softmax, strict=True))
    assert by_name == {"y": True, "z": False, "w": True, "v": False}
    for key in ("y", "w"):
        np.testing.assert_allclose(keras.ops.softmax(values[key]), expected[key], rtol=1e-5)
    np.testing.assert_allclose(keras.ops.sigmoid(values["z"]), expected["z"], rtol=1e-5)
    np.testing.assert_array_equal(values["v"], expected["v"])


def test_a_mask_of_the_softmax_stays_in_force():
    inputs = keras.Input((5,), dtype="int32")
    scores = layers.Dense(5)(layers.Embedding(4, 6, mask_zero=True)(inputs))
    model = keras.Model(inputs, layers.Softmax()(scores))
    front = before_activation(model)
    x = np.array([[1, 2, 3, 0, 0]])
    assert front.softmax == (False,)
    np.testing.assert_array_equal(front.model(x), model(x))


def attributes(operation):
    """Return the `id` of each attribute's value; the call history is compared by its length."""
    histories = ("_inbound_nodes", "_outbound_nodes")
    return {key: id(value) for key, value in vars(operation).items() if key not in histories}


def test_the_original_stays_and_its_variables_are_shared():
    model = several_outputs()
    operations = operations_of(model)
    before = call_history(operations), [attributes(operation) for operation in operations]
    front = before_activation(model)
    assert (call_history(operations), list(map(attributes, operations))) == before
    assert {id(v) for v in front.model.variables} == {id(v) for v in model.variables}


def test_outputs_and_what_stands_in_front_of_them_in_one_model():
    model = several_outputs()
    x = {key: np.random.default_rng(1).normal(size=(4, 6)) for key in ("a", "b")}
    outputs, fronts = with_fronts(model)(x)
    expected = keras.tree.flatten(model(x)), keras.tree.flatten(before_activation(model).model(x))
    for received, wanted in zip(outputs, expected[0], strict=True):
        np.testing.assert_array_equal(received, wanted)
    softmax = before_activation(model).softmax
    for received, wanted, centred in zip(fronts, expected[1], softmax, strict=True):
        mean = np.mean(received, axis=-1, keepdims=True) if centred else 0
        np.testing.assert_allclose(received - mean, wanted, rtol=1e-5, atol=1e-6)
