"""Models that can't be pruned are errors or warnings, and the model passed in isn't changed."""

import json
import math

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from keras_dfprune.graph.keras_private import all_layers
from keras_dfprune.report import progress
from tests.support.models import (
    call_history,
    dense_chain,
    inputs_of,
    operations_of,
    outputs,
    warnings_are_errors,
)

layers = keras.layers


class OwnLogic(keras.Model):
    def __init__(self):
        super().__init__(name="logic")
        self.first, self.last = layers.Dense(8, "relu"), layers.Dense(2)

    def call(self, x):
        return self.last(self.first(x))


@pytest.mark.parametrize("function", [dfprune.apply, dfprune.plan])
@pytest.mark.parametrize("value", [None, "model.keras", layers.Dense(3), dense_chain])
def test_an_argument_that_is_no_model(function, value):
    with pytest.raises(TypeError, match="Expected a `keras.Model`. Received: "):
        function(value, sparsity=0.5)


def test_a_subclass_of_a_keras_2_model_is_an_error_that_names_it():
    base = type("Model", (), {"__module__": "tf_keras.src.engine.training"})
    own = type("Mine", (base,), {"__module__": "my.code"})
    with pytest.raises(TypeError, match=r"this is a tf_keras \(Keras 2\) model.*my.code.Mine"):
        dfprune.apply(own())


@pytest.mark.parametrize("model", [keras.Sequential([]), keras.Sequential([layers.Dense(3)])])
def test_a_model_that_isn_t_built(model):
    with pytest.raises(ValueError, match=f"'{model.name}' isn't built yet.*Add a `keras.Input`"):
        dfprune.apply(model, sparsity=0.5)


def test_a_sequential_built_by_a_call_is_pruned():
    model = keras.Sequential([layers.Dense(8, "relu"), layers.Dense(2)])
    model(np.ones((1, 4)))
    assert dfprune.apply(model, sparsity=0.5).layers[0].units == 4


def test_a_subclassed_model_is_made_functional_for_the_inputs_that_it_was_built_with():
    model = OwnLogic()
    with pytest.raises(ValueError, match="'logic' isn't built yet.*Call it once on data"):
        dfprune.apply(model, sparsity=0.5)
    x = np.random.default_rng(0).normal(size=(5, 6)).astype("float32")
    model(x)
    plan = dfprune.plan(model, sparsity=0.5)
    assert "OwnLogic is pruned as a functional model of inputs of shape (None, 6)" in plan.notes[0]
    pruned = plan.apply(model)
    assert sorted(layer.units for layer in pruned.layers[1:]) == [2, 4]
    np.testing.assert_array_equal(pruned(x), dfprune.apply(model, sparsity=0.5)(x))
    np.testing.assert_allclose(dfprune.apply(model, sparsity=0.0)(x), model(x), rtol=1e-6)
    assert model.first.units == 8 and call_history([model.first]) == [(model.first.name, 0, 0)]


def test_a_subclassed_model_without_shapes_says_what_is_missing(monkeypatch):
    model = OwnLogic()
    model(np.ones((1, 6)))
    monkeypatch.setattr(OwnLogic, "get_build_config", lambda self: None)
    with pytest.raises(
        ValueError, match=r"\(OwnLogic\) that doesn't say.*functionalize\(model, ke"
    ):
        dfprune.apply(model, sparsity=0.5)


class Optional(OwnLogic):
    """Model of a second tensor that may be left out, and is when the model is built."""

    def call(self, x, further=None, training=False):
        return super().call(x if further is None else x + further)


def test_a_second_argument_of_call_is_never_left_out_in_silence():
    model = Optional()
    model(np.ones((1, 6)), further=np.ones((1, 6)))
    with pytest.raises(ValueError, match=r"\(Optional\) that doesn't say which inputs it takes"):
        dfprune.apply(model, sparsity=0.5)


class Tokens(keras.Model):
    """Model of two inputs, in a dict: one of them are tokens."""

    def __init__(self):
        super().__init__()
        self.table, self.hidden, self.head = (
            layers.Embedding(9, 4), layers.Dense(8, "relu"), layers.Dense(2)
        )  # fmt: skip

    def call(self, inputs):
        words = keras.ops.mean(self.table(inputs["words"]), axis=1)
        return self.head(self.hidden(keras.ops.concatenate([inputs["numbers"], words], axis=-1)))


def test_inputs_that_an_embedding_reads_are_integers():
    model = Tokens()
    x = {"words": np.array([[1, 2, 8], [0, 3, 3]]), "numbers": np.ones((2, 5), "float32")}
    before = model(x)
    pruned = dfprune.apply(model, tolerance=0)
    assert {tensor.dtype for tensor in pruned.inputs} == {"float32", "int32"}
    np.testing.assert_allclose(pruned(x), before, rtol=1e-5)
    assert dfprune.apply(model, max_params=0.7).count_params() <= 0.7 * model.count_params()


def test_a_subclassed_model_inside_is_opened():
    inputs = keras.Input((6,))
    hidden = OwnLogic()(layers.Dense(6, "relu", name="before")(inputs))
    hidden = layers.Dense(8, "relu", name="behind")(hidden)
    model = keras.Model(inputs, layers.Dense(2, name="head")(hidden))
    plan = dfprune.plan(model, sparsity=0.5)
    assert [len(group.removed) for group in plan.groups] == [3, 4, 1, 4]
    assert plan.apply(model).count_params() == plan.parameters[1]
    assert model.get_layer("logic").first.units == 8


def without_dense():
    return keras.Sequential([keras.Input((4,)), layers.Rescaling(2.0), layers.ReLU()])


def one_dense():
    return keras.Sequential([keras.Input((4,)), layers.Dense(3, name="only")])


def not_finite():
    model = dense_chain([4, 3])
    model.get_layer("fc1").bias.assign(np.array([np.nan, 0, 0, 0]))
    return model


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (without_dense, "It has no layer with units"),
        (one_dense, "only: its units are an output of the model"),
        (not_finite, "fc1: .*not finite"),
        (lambda: dense_chain([1, 3]), "fc1: .*fewer than two units"),
    ],
)
def test_nothing_to_prune_is_one_warning(make, reason):
    model = make()
    with pytest.warns(
        UserWarning, match=f"'{model.name}' has nothing to prune. .*{reason}"
    ) as seen:
        pruned = dfprune.apply(model, sparsity=0.5)
    assert len(seen) == 1
    assert seen[0].filename == __file__  # the warning points at the caller
    assert pruned is not model and pruned.count_params() == model.count_params()
    x = inputs_of(model)
    np.testing.assert_array_equal(outputs(pruned, x), outputs(model, x))


def test_refused_layers_that_were_named_are_one_warning():
    inputs = keras.Input((6,))
    hidden = layers.Dense(8, "softmax", name="mixed")(inputs)
    hidden = layers.Dense(8, "relu", name="fine")(hidden)
    model = keras.Model(inputs, layers.Dense(2, name="head")(hidden))
    with pytest.warns(UserWarning, match="left whole although they were named: ") as seen:
        plan = dfprune.plan(model, sparsity=0.5, layers=["mixed", "fine", "head"])
    assert len(seen) == 1
    assert "mixed: " in str(seen[0].message) and "head: " in str(seen[0].message)
    assert [group.layer for group in plan.groups] == ["fine"]
    with warnings_are_errors():
        dfprune.plan(model, sparsity=0.5)  # without names the plan lists them, without a warning


def busy_model():
    """Build a nested, normalised model with a layer called twice; compile and train it."""
    block = keras.Sequential([keras.Input((8,)), layers.Dense(8, "relu", name="fc")], name="block")
    twice = layers.Dense(4, "tanh", name="twice")
    inputs = keras.Input((6,), name="x")
    hidden = layers.BatchNormalization(name="bn")(layers.Dense(8, name="first")(inputs))
    hidden = block(layers.ReLU()(hidden))
    hidden = layers.Add()([twice(hidden), twice(layers.Dropout(0.2)(hidden))])
    model = keras.Model(inputs, layers.Dense(3, name="head")(hidden))
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(np.ones((8, 6)), np.ones((8, 3)), verbose=0)
    return model


def everything_about(model):
    parts = all_layers(model)
    return {
        "calls": call_history(operations_of(model)),
        "built": [(part.built, part.trainable, part.name) for part in parts],
        "attributes": [sorted(vars(part)) for part in parts],
        "config": json.dumps(model.get_config(), default=str),
        "compile": json.dumps(model.get_compile_config(), default=str),
        "identities": [id(v) for v in [*model.variables, *model.optimizer.variables]],
        "values": [v.numpy().tolist() for v in [*model.variables, *model.optimizer.variables]],
        "metrics": [v.numpy().tolist() for v in model.metrics_variables],
    }


@pytest.mark.parametrize(
    "arguments",
    [
        {"sparsity": 0.5},
        {"max_params": 150},
        {"tolerance": 0},
        {"method": "saliency", "sparsity": 0.5},
        {"data": np.random.default_rng(0).normal(size=(8, 6)), "sparsity": 0.5},
    ],
)
def test_the_model_passed_in_is_not_changed(arguments, capsys):
    model = busy_model()
    before = everything_about(model)
    pruned = dfprune.apply(model, **arguments)
    after = everything_about(model)
    for name, value in before.items():
        assert after[name] == value, name
    if "tolerance" not in arguments:
        assert pruned.count_params() < model.count_params()
    original = {id(v) for v in [*model.variables, *model.optimizer.variables]}
    assert not original & {id(v) for v in [*pruned.variables, *pruned.optimizer.variables]}
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err == ""


def test_verbose_prints_the_plan_and_nothing_else(capsys, monkeypatch):
    monkeypatch.setattr(progress, "_PATIENCE", math.inf)  # no bar, however slow the machine is
    model = busy_model()
    method = dfprune.Moments(found_inputs=0)  # The search for inputs shows a bar.
    plan = dfprune.plan(model, method=method, sparsity=0.5, verbose=1)
    assert capsys.readouterr().out == f"{plan}\n"
