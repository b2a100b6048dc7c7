"""What `keras_private` assumes of Keras holds in the Keras that is installed."""

import keras
import numpy as np
import pytest

from keras_dfprune.graph.keras_private import (
    all_layers,
    call_signature,
    compile_arguments,
    copy_tensor,
    detached,
    functional_core,
    is_detached,
    is_preprocessing,
    is_stock,
    keeps_histories,
    mask_of,
    node_behind,
    operation_behind,
    optimizer_slots,
    ordered_nodes,
    stacked_layers,
    structures,
    unbuildable,
    unknown_arguments,
)
from keras_dfprune.graph.recreate import read_config
from tests.support.two_branches import two_branches

layers = keras.layers


class Scaled(layers.Layer):
    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor


def test_stock_and_preprocessing_classes():
    assert is_stock(layers.Dense(3)) and not is_stock(Scaled(2.0))
    assert is_stock(operation_behind(keras.Input((3,)) * 2.0))
    assert is_preprocessing(layers.StringLookup) and not is_preprocessing(layers.Dense)


def test_nodes_are_ordered_so_that_each_comes_after_those_it_needs():
    model = two_branches()
    seen = {id(tensor) for tensor in model.inputs}
    nodes = ordered_nodes(model)
    assert len(nodes) == 5
    for node in nodes:
        assert {id(tensor) for tensor in node.input_tensors} <= seen
        assert not node.is_input and node_behind(node.outputs[0]) is node
        seen |= {id(tensor) for tensor in node.outputs}
    assert {id(tensor) for tensor in model.outputs} <= seen
    assert all(node_behind(tensor).is_input for tensor in model.inputs)


def test_arguments_of_a_node_are_filled_in():
    symbol = keras.Input((4,))
    node = node_behind(layers.Dropout(0.5)(symbol, training=False))
    args, kwargs = node.arguments.fill_in({id(symbol): "value"})
    assert args == ("value",) and kwargs["training"] is False
    assert node.arguments.args[0] is symbol and node.arguments.kwargs["training"] is False


def test_structures_of_inputs_and_outputs():
    model = two_branches()
    inputs, outputs = structures(model)
    assert set(inputs) == {"one", "two"} and set(outputs) == {"y"}
    assert inputs["one"] is model.inputs[0] and operation_behind(inputs["one"]).name == "one"


def test_sequential_holds_its_layers_and_a_functional_model():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.ReLU()])
    names = [type(layer).__name__ for layer in stacked_layers(model)]
    assert names == ["InputLayer", "Dense", "ReLU"]
    assert len(functional_core(model).inputs) == 1
    assert functional_core(keras.Sequential([layers.Dense(3)])) is None


def test_models_with_a_call_of_their_own_have_no_visible_graph():
    class Own(keras.Model):
        def call(self, x):
            return x

    class OwnSequential(keras.Sequential):
        def call(self, x):
            return x

    assert functional_core(Own()) is None
    assert functional_core(OwnSequential([keras.Input((2,)), layers.Dense(3)])) is None


def test_copied_tensors_keep_their_mask():
    embedded = layers.Embedding(9, 6, mask_zero=True)(keras.Input((4,), dtype="int32"))
    copy = copy_tensor(embedded)
    assert (copy.shape, copy.dtype, copy.name) == (embedded.shape, embedded.dtype, embedded.name)
    assert mask_of(embedded) is not None and mask_of(copy) is mask_of(embedded)
    assert mask_of(keras.Input((4,))) is None


def test_signature_of_a_layer_s_call():
    assert list(call_signature(layers.Dropout(0.5)).parameters) == ["inputs", "training"]


def test_layers_inside_a_layer():
    wrapper = layers.TimeDistributed(layers.Dense(3))
    assert [type(layer).__name__ for layer in all_layers(wrapper)] == ["TimeDistributed", "Dense"]


def test_detached_layer_shares_its_contents_but_not_its_history():
    layer = layers.Dense(3)
    layer(keras.Input((4,)))
    copy = detached(layer)
    assert is_detached(copy, layer) and not is_detached(layers.Dense(3), layer)
    assert copy.kernel is layer.kernel
    copy(keras.Input((4,)))
    assert len(layer._inbound_nodes) == len(copy._inbound_nodes) == 1


def test_histories_are_restored():
    layer = layers.Dense(3)
    layer(keras.Input((4,)))
    with keeps_histories([layer]):
        layer(keras.Input((4,)))
    assert len(layer._inbound_nodes) == 1


def test_layers_are_unbuildable_for_a_while():
    layer = layers.Dense(3, name="late")
    with unbuildable(layer), pytest.raises(ValueError, match="layer 'late' isn't built yet"):
        layer(np.ones((2, 4)))
    assert layer(np.ones((2, 4))).shape == (2, 3)


def test_unknown_arguments_are_read_from_an_error():
    config = {"factor": 2.0, "half": 1.0, "name": "scaled"}
    with pytest.raises(TypeError) as raised:
        Scaled.from_config(config)
    assert unknown_arguments(raised.value, config) == {"half"}
    with pytest.raises(TypeError) as raised:
        Scaled.from_config({"name": "scaled"})
    assert unknown_arguments(raised.value, config) == set()


def test_compile_arguments_are_the_objects_themselves():
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
    assert [id(variable) for variable in trained] == [id(variable) for variable in variables]
    assert len(slots) == count
    for values in slots.values():
        assert [tuple(value.shape) for value in values] == [(3, 2), (2,)]


def test_optional_and_sparse_are_in_the_config_of_input_layers():
    symbol = keras.Input((4,), sparse=True, optional=True)
    config = read_config(operation_behind(symbol))
    assert config["sparse"] is True and config["optional"] is True
