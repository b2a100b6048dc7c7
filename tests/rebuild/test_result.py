"""The result is a plain Keras model with the same names, flags, settings and structures.

It loads and predicts without keras_dfprune, and can be trained further.
"""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from keras_dfprune.graph.keras_private import all_layers
from tests.support.models import dense_chain, inputs_of, outputs

layers = keras.layers


def test_a_sequential_model_stays_sequential():
    model = dense_chain([8, 6, 3])
    pruned = dfprune.apply(model, sparsity=0.5)
    assert isinstance(pruned, keras.Sequential)
    assert (pruned.name, pruned.input_shape, pruned.output_shape) == (
        model.name,
        model.input_shape,
        model.output_shape,
    )
    pruned.add(layers.Softmax())
    assert len(pruned.layers) == 4 and len(model.layers) == 3


def inner(name, trainable=True):
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(8, "relu", name="fc1"), layers.Dense(6, name="fc2")],
        name=name,
    )
    model.trainable = trainable
    return model


def nested():
    """Build a Sequential and a frozen Sequential inside functional models."""
    start = keras.Input((6,), name="start")
    middle = keras.Model(start, inner("deep", trainable=False)(start), name="middle")
    inputs = keras.Input((6,), name="x")
    hidden = layers.Dense(6, "relu", name="first", trainable=False)(inner("shallow")(inputs))
    return keras.Model(inputs, layers.Dense(2, name="head")(middle(hidden)), name="outer")


def test_nested_models_stay_nested():
    model = nested()
    pruned = dfprune.apply(model, sparsity=0.5)
    assert [layer.name for layer in pruned.layers] == ["x", "shallow", "first", "middle", "head"]
    assert isinstance(pruned.get_layer("shallow"), keras.Sequential)
    deep = pruned.get_layer("middle").get_layer("deep")
    assert isinstance(deep, keras.Sequential)
    assert [layer.units for layer in deep.layers] == [4, 3]
    assert [layer.name for layer in deep.layers] == ["fc1", "fc2"]
    assert pruned.get_layer("middle").input_shape == (None, 3)


def test_trainable_flags_stay():
    model = nested()
    pruned = dfprune.apply(model, sparsity=0.5)
    flags, kept_flags = (
        [(layer.name, layer.trainable) for layer in all_layers(net)] for net in (model, pruned)
    )
    assert kept_flags == flags
    paths = [variable.path for variable in model.trainable_variables]
    assert [variable.path for variable in pruned.trainable_variables] == paths
    assert [variable.path for variable in pruned.variables] == [v.path for v in model.variables]
    for net in (model, pruned):  # frozen layers can be unfrozen
        net.get_layer("middle").get_layer("deep").trainable = True
    paths = [variable.path for variable in model.trainable_variables]
    assert [variable.path for variable in pruned.trainable_variables] == paths
    assert len(paths) == 10


@pytest.mark.parametrize("policy", ["float32", "float64", "mixed_float16", "mixed_bfloat16"])
def test_dtypes_stay(policy):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,), name="x")
    hidden = layers.Dense(8, "relu", name="fc1", dtype=policy)(inputs)
    hidden = layers.BatchNormalization(name="bn", dtype=policy)(hidden)
    hidden = layers.Dense(6, "relu", name="fc2", dtype="float32")(hidden)
    model = keras.Model(inputs, layers.Dense(2, name="head", dtype=policy)(hidden))
    pruned = dfprune.apply(model, sparsity=0.5)
    assert pruned.get_layer("fc1").units == 4
    for layer in model.layers:
        assert pruned.get_layer(layer.name).dtype_policy.name == layer.dtype_policy.name
    assert [v.dtype for v in pruned.variables] == [v.dtype for v in model.variables]
    assert pruned.output.dtype == model.output.dtype


def test_integer_inputs_with_a_name_stay():
    inputs = keras.Input((4,), name="tokens", dtype="int32")
    hidden = layers.Flatten()(layers.Embedding(10, 3)(inputs))
    model = keras.Model(inputs, layers.Dense(2)(layers.Dense(8, "relu")(hidden)))
    pruned = dfprune.apply(model, sparsity=0.5)
    assert pruned.inputs[0].dtype == "int32" and pruned.inputs[0].name == "tokens"
    assert pruned.count_params() < model.count_params()


def structured():
    """Build a model with a dict of inputs, and a dict of outputs that holds a list."""
    inputs = {"b": keras.Input((4,), name="b"), "a": keras.Input((3,), name="a")}
    hidden = layers.Concatenate(name="both")([inputs["b"], inputs["a"]])
    hidden = layers.Dense(8, "relu", name="fc1")(hidden)
    results = {
        "score": layers.Dense(1, name="score")(hidden),
        "rest": [layers.Dense(2, name="one")(hidden), layers.Dense(3, name="two")(hidden)],
    }
    return keras.Model(inputs, results, name="structured")


def test_structures_and_names_of_inputs_and_outputs_stay():
    model = structured()
    pruned = dfprune.apply(model, sparsity=0.5)
    random = np.random.default_rng(0)
    x = {"b": random.normal(size=(5, 4)), "a": random.normal(size=(5, 3))}
    assert pruned.get_layer("fc1").units == 4
    assert [tensor.name for tensor in pruned.inputs] == [tensor.name for tensor in model.inputs]
    assert pruned.output_names == model.output_names
    assert keras.tree.map_structure(lambda t: t.shape, pruned.input) == keras.tree.map_structure(
        lambda t: t.shape, model.input
    )
    results = pruned(x)
    keras.tree.assert_same_structure(model(x), results)
    assert results["rest"][1].shape == (5, 3)
    whole = dfprune.apply(model, sparsity=0)(x)
    keras.tree.map_structure(np.testing.assert_array_equal, whole, model(x))


def test_settings_of_the_layers_stay():
    keras.utils.set_random_seed(0)
    settings = dict(
        kernel_initializer=keras.initializers.HeNormal(seed=3),
        bias_initializer="ones",
        kernel_regularizer=keras.regularizers.L2(0.01),
        bias_regularizer="l1",
        activity_regularizer=keras.regularizers.L1(0.5),
    )
    # A merge might break the constraints of a consumer, which would then be refused.
    constraints = dict(
        kernel_constraint=keras.constraints.MaxNorm(2.0),
        bias_constraint="non_neg",
    )
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, "gelu", name="fc1", **settings, **constraints),
            layers.Dense(3, name="fc2", **settings),
        ]
    )
    pruned = dfprune.apply(model, sparsity=0.5)
    for name in ("fc1", "fc2"):
        expected = model.get_layer(name).get_config()
        if name == "fc1":
            expected["units"] = 4
        assert pruned.get_layer(name).get_config() == expected
    layer = pruned.get_layer("fc1")
    assert layer.kernel.regularizer.l2 == pytest.approx(0.01)
    assert layer.kernel.constraint.max_value == 2.0
    penalty = sum(float(variable.regularizer(variable)) for variable in pruned.weights)
    kernels = [part.kernel.numpy() for part in pruned.layers]
    biases = [part.bias.numpy() for part in pruned.layers]
    expected = sum(0.01 * (k**2).sum() for k in kernels) + sum(0.01 * abs(b).sum() for b in biases)
    assert penalty == pytest.approx(expected, rel=1e-5)


LOADER = """
import sys
sys.modules["keras_dfprune"] = None  # importing it fails
import keras, numpy
model = keras.saving.load_model(sys.argv[1])
numpy.save(sys.argv[3], model.predict(numpy.load(sys.argv[2]), verbose=0))
"""


def test_it_loads_where_keras_dfprune_is_not_installed(tmp_path):
    model = nested()
    model.compile("adam", "mse")
    pruned = dfprune.apply(model, sparsity=0.5, method="moments")
    x = inputs_of(model)
    pruned.save(tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", x)
    files = [str(tmp_path / name) for name in ("model.keras", "x.npy", "y.npy")]
    settings = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", LOADER, *files], env=settings, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(files[2]), outputs(pruned, x), rtol=1e-5, atol=1e-6)


def test_both_models_can_be_trained_independently():
    model = nested()
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    x, y = inputs_of(model), np.ones((16, 2), "float32")
    model.fit(x, y, verbose=0)
    pruned = dfprune.apply(model, sparsity=0.5)
    original = [variable.numpy() for variable in model.variables]
    before = [variable.numpy() for variable in pruned.variables]
    pruned.fit(x, y, epochs=2, verbose=0)
    for variable, value in zip(model.variables, original, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    for variable, value in zip(pruned.variables, before, strict=True):
        frozen = variable.path.split("/")[0] in ("first", "deep", "middle")
        assert np.array_equal(variable.numpy(), value) == frozen, variable.path
    values = [variable.numpy() for variable in pruned.variables]
    model.fit(x, y, verbose=0)
    for variable, value in zip(pruned.variables, values, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_initializers_that_are_arrays_of_the_old_shape_do_not_come_back(tmp_path):
    constant = keras.initializers.Constant
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(6, "relu", kernel_initializer=constant(np.ones((4, 6)))),
            layers.BatchNormalization(gamma_initializer=constant(np.ones(6))),
            layers.Dense(2, bias_initializer=constant(0.5)),
        ]
    )
    pruned = dfprune.apply(model, sparsity=0.5)
    pruned.save(tmp_path / "pruned.keras")
    loaded = keras.saving.load_model(tmp_path / "pruned.keras")
    x = inputs_of(model)
    assert np.array_equal(outputs(loaded, x), outputs(pruned, x))
    assert loaded.layers[-1].bias_initializer.value == 0.5
