"""What `graph/` assumes about Keras holds in the Keras that is installed."""

import keras
import numpy as np
import pytest

from keras_dfprune.graph.calls import Tensor, run_calls
from keras_dfprune.graph.copy_model import copy_model
from keras_dfprune.graph.keras_private import (
    all_layers,
    compile_arguments,
    detached,
    functional_core,
    is_detached,
    optimizer_slots,
)
from keras_dfprune.graph.read_graph import read_graph

layers = keras.layers


def model_with_two_branches():
    one, two = keras.Input((4,), name="one"), keras.Input((4,), name="two")
    shared = layers.Dense(5, name="shared")
    first, second = shared(one), layers.Dropout(0.5, name="drop")(shared(two), training=False)
    joined = layers.Concatenate(name="join")([first, second])
    return keras.Model({"one": one, "two": two}, {"y": layers.Dense(2, name="head")(joined)})


# What Keras itself keeps in private attributes


def test_nodes_by_depth_hold_each_call_behind_those_it_needs():
    model = model_with_two_branches()
    assert sum(len(nodes) for nodes in model._nodes_by_depth.values()) == 7
    seen = set()
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            assert {id(tensor) for tensor in node.input_tensors} <= seen
            assert node.is_input == isinstance(node.operation, layers.InputLayer)
            seen |= {id(tensor) for tensor in node.outputs}
    assert {id(tensor) for tensor in model.outputs} <= seen


def test_arguments_of_a_node_are_filled_in():
    symbol = keras.Input((4,))
    output = layers.Dropout(0.5)(symbol, training=False)
    node = output._keras_history.operation._inbound_nodes[0]
    args, kwargs = node.arguments.fill_in({id(symbol): "value"})
    assert args == ("value",) and kwargs["training"] is False
    assert node.arguments.args[0] is symbol and node.arguments.kwargs["training"] is False


def test_structures_of_inputs_and_outputs():
    model = model_with_two_branches()
    assert set(model._inputs_struct) == {"one", "two"} and set(model._outputs_struct) == {"y"}
    assert model._inputs_struct["one"] is model.inputs[0]
    assert model._inputs_struct["one"]._keras_history.operation.name == "one"


def test_sequential_holds_its_layers_and_a_functional_model():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.ReLU()])
    assert [type(layer).__name__ for layer in model._layers] == ["InputLayer", "Dense", "ReLU"]
    assert functional_core(model) is model._functional
    assert len(model._functional.inputs) == 1
    assert functional_core(keras.Sequential([layers.Dense(3)])) is None


def test_compile_config_holds_the_objects():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    assert compile_arguments(model) == {}
    loss, metric = keras.losses.Huber(), keras.metrics.MeanSquaredError()
    model.compile("sgd", loss, metrics=[metric], jit_compile=False, steps_per_execution=3)
    arguments = compile_arguments(model)
    assert arguments["loss"] is loss and arguments["metrics"][0] is metric
    assert arguments["jit_compile"] is False and arguments["steps_per_execution"] == 3


@pytest.mark.parametrize("name, count", [("adam", 2), ("sgd", 0), ("rmsprop", 1), ("lion", 1)])
def test_slots_of_an_optimizer(name, count):
    optimizer = keras.optimizers.get(name)
    variables = [keras.Variable(np.ones((3, 2))), keras.Variable(np.ones(2))]
    optimizer.build(variables)
    trained, slots = optimizer_slots(optimizer)
    assert all(one is other for one, other in zip(trained, variables, strict=True))
    assert len(slots) == count
    for values in slots.values():
        assert [tuple(value.shape) for value in values] == [(3, 2), (2,)]


def test_layers_inside_a_layer():
    wrapper = layers.TimeDistributed(layers.Dense(3))
    assert [type(layer).__name__ for layer in all_layers(wrapper)] == ["TimeDistributed", "Dense"]


def test_detached_layer_shares_its_contents_but_not_its_history():
    layer = layers.Dense(3)
    layer(keras.Input((4,)))
    twin = detached(layer)
    assert is_detached(twin, layer) and not is_detached(layers.Dense(3), layer)
    assert twin.kernel is layer.kernel
    twin(keras.Input((4,)))
    assert len(layer._inbound_nodes) == len(twin._inbound_nodes) == 1


def test_optional_and_sparse_are_attributes_of_input_layers():
    symbol = keras.Input((4,), sparse=True, optional=True)
    config = symbol._keras_history.operation.get_config()
    assert config["sparse"] is True and config["optional"] is True


# What graph/ makes of it


def test_graph_lists_calls_and_training():
    graph = read_graph(model_with_two_branches())
    assert sorted(call.path for call in graph.calls) == [
        "drop", "head", "join", "shared", "shared",
    ]  # fmt: skip
    assert {call.path: call.training for call in graph.calls}["drop"] is False
    assert all(isinstance(tensor, Tensor) for call in graph.calls for tensor in call.inputs)


def test_training_of_a_model_rules_the_layers_inside():
    inner = keras.Sequential([keras.Input((4,)), layers.Dropout(0.5, name="drop")], name="inner")
    symbol = keras.Input((4,))
    model = keras.Model(symbol, inner(symbol, training=True))
    calls = {call.path: call.training for call in read_graph(model).calls}
    assert calls["inner/drop"] is True


def test_models_that_overrule_their_graph_are_opaque():
    class Own(keras.Model):
        def call(self, x):
            return x

    class OwnSequential(keras.Sequential):
        def call(self, x):
            return x

    assert functional_core(Own()) is None
    assert functional_core(OwnSequential([keras.Input((2,)), layers.Dense(3)])) is None


def test_nested_models_are_inlined_once_for_each_call():
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="fc")], name="inner")
    one, two = keras.Input((4,)), keras.Input((4,))
    graph = read_graph(keras.Model([one, two], [inner(one, training=True), inner(two)]))
    calls = [call for call in graph.calls if call.path == "inner/fc"]
    assert len(calls) == 2 and calls[0].operation is calls[1].operation
    assert sorted(str(call.training) for call in calls) == ["None", "True"]
    assert len(graph.outputs) == 2 and graph.outputs[0] is not graph.outputs[1]


def test_calls_run_as_the_model_does():
    model = model_with_two_branches()
    graph = read_graph(model)
    x = {name: np.random.default_rng(0).normal(size=(3, 4)) for name in ("one", "two")}
    given = dict(zip(graph.inputs, (x["one"], x["two"]), strict=True))
    known = run_calls(graph, given)
    np.testing.assert_allclose(known[graph.outputs[0]], model(x)["y"], rtol=1e-6)


def test_copy_calls_new_layers_in_the_same_way():
    model = model_with_two_branches()
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
