"""Models read as calls, the calls run one by one, and models copied."""

import keras
import numpy as np

from keras_dfprune.graph.calls import Tensor, run_calls
from keras_dfprune.graph.copy_model import copy_model
from keras_dfprune.graph.read_graph import read_graph
from tests.support.models import dense_chain
from tests.support.two_branches import two_branches

layers = keras.layers


def test_graph_lists_calls_and_training():
    graph = read_graph(two_branches())
    assert sorted(call.path for call in graph.calls) == [
        "drop", "head", "join", "shared", "shared",
    ]  # fmt: skip
    assert {call.path: call.training for call in graph.calls}["drop"] is False
    assert all(isinstance(tensor, Tensor) for call in graph.calls for tensor in call.inputs)


def test_training_of_a_model_holds_for_the_layers_inside():
    inner = keras.Sequential([keras.Input((4,)), layers.Dropout(0.5, name="drop")], name="inner")
    symbol = keras.Input((4,))
    model = keras.Model(symbol, inner(symbol, training=True))
    calls = {call.path: call.training for call in read_graph(model).calls}
    assert calls["inner/drop"] is True


def test_nested_models_are_inlined_once_for_each_call():
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="fc")], name="inner")
    one, two = keras.Input((4,)), keras.Input((4,))
    graph = read_graph(keras.Model([one, two], [inner(one, training=True), inner(two)]))
    calls = [call for call in graph.calls if call.path == "inner/fc"]
    assert len(calls) == 2 and calls[0].operation is calls[1].operation
    assert sorted(str(call.training) for call in calls) == ["None", "True"]
    assert len(graph.outputs) == 2 and graph.outputs[0] is not graph.outputs[1]


def test_calls_run_as_the_model_does():
    model = two_branches()
    graph = read_graph(model)
    x = {name: np.random.default_rng(0).normal(size=(3, 4)) for name in ("one", "two")}
    given = dict(zip(graph.inputs, (x["one"], x["two"]), strict=True))
    values = run_calls(graph.calls, given)
    np.testing.assert_allclose(values[graph.outputs[0]], model(x)["y"], rtol=1e-6)


def test_some_calls_run_with_other_operations():
    model = dense_chain([4, 3, 2])
    graph = read_graph(model)
    first, second, _ = graph.calls
    x = np.ones((2, 4), "float32")
    values = run_calls([second], {first.outputs[0]: x}, {second: layers.Rescaling(2.0)})
    np.testing.assert_array_equal(values[second.outputs[0]], 2 * x)


def test_copy_calls_new_layers_in_the_same_way():
    model = two_branches()
    new, pairs = copy_model(model, lambda operation: type(operation).from_config(
        operation.get_config()))  # fmt: skip
    assert [layer.name for layer in new.layers] == [layer.name for layer in model.layers]
    assert not {id(layer) for layer in new.layers} & {id(layer) for layer in model.layers}
    assert {(old.name, made.name) for old, made in pairs} == {
        (layer.name, layer.name) for layer in [model, *model.layers]
    }
    new.set_weights(model.get_weights())
    x = {name: np.ones((2, 4)) for name in ("one", "two")}
    np.testing.assert_array_equal(new(x)["y"], model(x)["y"])
