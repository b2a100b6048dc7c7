"""What graph.py assumes of Keras' private attributes, and that nobody else reads any."""

import ast
import pathlib

import keras
import numpy as np
import pytest

import keras_dfprune
from keras_dfprune.graph import (
    all_layers,
    compile_arguments,
    copy_model,
    detached,
    functional_core,
    optimizer_slots,
    read_graph,
)
from tests.models import dense_chain, inputs_of, outputs

PACKAGE = pathlib.Path(keras_dfprune.__file__).parent
layers = keras.layers


def test_what_is_assumed_of_a_functional_model():
    inputs = keras.Input((4,))
    tensor = layers.Dense(3)(inputs)
    model = keras.Model(inputs, tensor)
    nodes = [node for nodes in model._nodes_by_depth.values() for node in nodes]
    assert sorted(node.is_input for node in nodes) == [False, True]
    (node,) = [node for node in nodes if not node.is_input]
    assert node.operation is model.layers[1]
    assert [id(t) for t in node.input_tensors] == [id(inputs)]
    assert [id(t) for t in node.outputs] == [id(tensor)]
    args, kwargs = node.arguments.fill_in({id(inputs): "here"})
    assert args == ("here",) and kwargs == {}
    assert node.arguments.args == (inputs,) and node.arguments.kwargs == {}
    assert inputs._keras_history.operation is model.layers[0]
    assert model._inputs_struct is not None and model._outputs_struct is not None
    assert model.layers[1]._inbound_nodes == [node] and model.layers[0]._outbound_nodes == [node]
    assert "_tracker" in vars(model.layers[1])  # by which `recreate.is_reused` tells a shared one


def test_what_is_assumed_of_a_sequential_model():
    model = keras.Sequential([layers.Dense(3)])
    assert functional_core(model) is None
    model(np.ones((2, 4)))
    assert functional_core(model) is model._functional is not None
    assert isinstance(model._layers[0], layers.InputLayer)
    assert [layer.name for layer in all_layers(model)][0] == model.name


def test_what_is_assumed_of_compiling():
    model = dense_chain([4, 3])
    assert compile_arguments(model) == {}
    loss = keras.losses.MeanSquaredError()
    model.compile(keras.optimizers.Adam(0.1), loss)
    assert compile_arguments(model)["loss"] is loss
    model.train_on_batch(np.ones((2, 6)), np.ones((2, 3)))
    trained, slots = optimizer_slots(model.optimizer)
    assert [id(v) for v in trained] == [id(v) for v in model.trainable_variables]
    assert set(slots) == {"_momentums", "_velocities"}
    assert [tuple(slot.shape) for slot in slots["_momentums"]] == [v.shape for v in trained]


def test_models_that_overrule_their_graph_are_opaque():
    class Own(keras.Model):
        def call(self, x):
            return x

    class OwnSequential(keras.Sequential):
        def call(self, x):
            return x

    assert functional_core(Own()) is None
    model = OwnSequential([keras.Input((2,)), layers.Dense(3)])
    assert functional_core(model) is None


def test_nested_models_are_inlined():
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="fc")], name="inner")
    one, two = keras.Input((4,)), keras.Input((4,))
    model = keras.Model([one, two], [inner(one, training=True), inner(two)])
    graph = read_graph(model)
    calls = [call for call in graph.calls if call.path == "inner/fc"]
    assert len(calls) == 2 and calls[0].operation is calls[1].operation
    assert sorted(str(call.training) for call in calls) == ["None", "True"]
    assert len(graph.outputs) == 2 and graph.outputs[0] is not graph.outputs[1]


def test_a_copy_leaves_the_original_alone():
    model = dense_chain([5, 3])
    before = [len(layer._inbound_nodes) for layer in model.layers]

    def remake(operation):
        is_input = isinstance(operation, layers.InputLayer)
        return layers.InputLayer.from_config(operation.get_config()) if is_input else detached(
            operation)  # fmt: skip

    copy, pairs = copy_model(model, remake)
    assert [len(layer._inbound_nodes) for layer in model.layers] == before
    assert pairs[0] == (model, copy)
    x = inputs_of(model)
    np.testing.assert_array_equal(outputs(copy, x), outputs(model, x))


def sources():
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "graph.py"]


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nobody_else_reads_a_private_attribute(path):
    """`self._x`, `cls._x` and `super()._x` are one's own; `other._x` only of one's own class."""
    tree = ast.parse(path.read_text())
    own = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in ("self", "cls")
    }
    own |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    foreign = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not node.attr.startswith("__")
        and node.attr not in own
    }
    assert not foreign
    private = [
        node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and "keras.src" in node.module
    ]
    assert not private


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("keras_dfprune"):
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))


def module_name(path):
    name = ".".join(("keras_dfprune", *path.relative_to(PACKAGE).with_suffix("").parts))
    return name.removesuffix(".__init__")


def test_imports_go_one_way():
    names = {module_name(path): path for path in PACKAGE.rglob("*.py")}
    graph = {
        name: {found for found in imports(path) if found in names and found != name}
        for name, path in names.items()
    }
    finished, active = set(), []

    def visit(name):
        assert name not in active, " -> ".join([*active, name])
        if name not in finished:
            active.append(name)
            for found in sorted(graph[name]):
                # importing a module of a package runs the package, but needs nothing of it
                if not name.startswith(found + "."):
                    visit(found)
            active.pop()
            finished.add(name)

    for name in sorted(graph):
        visit(name)
    assert "keras_dfprune.api" not in graph["keras_dfprune.plan"]
    for name in names:
        if name.startswith("keras_dfprune.methods."):
            assert not {"keras_dfprune.graph", "keras_dfprune.locate"} & graph[name], name
