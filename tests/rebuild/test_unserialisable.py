"""Layers that hold an object that Keras can't serialise are made anew with the object itself."""

import functools

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from keras_dfprune.exporting.result import ExportError
from tests.support.models import inputs_of, outputs, relative_difference

layers = keras.layers
Dense = layers.Dense
BENT = functools.partial(keras.activations.leaky_relu, negative_slope=0.3)


class Doubled:
    """Stand for an activation, an initializer, a regularizer or a constraint without a config."""

    def __call__(self, x, dtype=None):
        return keras.ops.ones(x, dtype) if isinstance(x, tuple) else 2 * keras.ops.tanh(x)


class Summed(Doubled):
    def __call__(self, x):
        return 0.01 * keras.ops.sum(x * x)


class Kept(Doubled):
    def __call__(self, x):
        return x


def stack(*front, shape=(6,)):
    parts = [keras.Input(shape), *front, Dense(8, "relu", name="plain"), Dense(3)]
    return keras.Sequential(parts)


def nested():
    inputs = keras.Input((6,))
    inner = keras.Sequential([keras.Input((6,)), Dense(8, BENT, name="odd")])
    return keras.Model(inputs, Dense(3)(Dense(8, "relu", name="plain")(inner(inputs))))


def separable():
    front = layers.SeparableConv1D(8, 2, activation=BENT, depthwise_initializer=Doubled())
    return stack(layers.Conv1D(6, 2, activation=Doubled()), front, layers.Flatten(), shape=(8, 2))


def recurrent(**arguments):
    front = Dense(8, "relu"), layers.LSTM(4, activation=BENT, **arguments)
    return stack(*front, shape=(4, 6))


MODELS = {
    "partial": lambda: stack(Dense(8, BENT)),
    "object": lambda: stack(Dense(8, Doubled())),
    "activation layer": lambda: stack(Dense(8), layers.Activation(BENT)),
    "initializer": lambda: stack(Dense(8, "relu", kernel_initializer=Doubled())),
    "regularizer": lambda: stack(Dense(8, "relu", kernel_regularizer=Summed())),
    "constraint": lambda: stack(Dense(8, "relu", bias_constraint=functools.partial(Kept()))),
    "nested": nested,
    "recurrent": recurrent,
    "cell": lambda: stack(layers.RNN(layers.GRUCell(5, activation=BENT)), shape=(4, 6)),
    "several in a cell": lambda: recurrent(recurrent_activation=Doubled(), unroll=True),
    "wrapped": lambda: stack(layers.TimeDistributed(Dense(8, BENT)), shape=(4, 6)),
    "wrapped lambda": lambda: stack(
        layers.TimeDistributed(Dense(8, lambda x: 2 * keras.ops.relu(x))), shape=(4, 6)
    ),
    "whole": lambda: stack(layers.Conv1DTranspose(2, 2, activation=BENT), shape=(4, 6)),
    "separable": separable,
}


@pytest.fixture(params=MODELS)
def model(request):
    keras.utils.set_random_seed(0)
    return MODELS[request.param]()


def test_the_rest_is_pruned_and_the_layer_computes_the_same(model):
    pruned = dfprune.apply(model, sparsity=0.5)
    assert pruned.get_layer("plain").units == 4
    assert not {id(each) for each in model.variables} & {id(each) for each in pruned.variables}
    whole, x = dfprune.apply(model, tolerance=0), inputs_of(model)
    assert relative_difference(outputs(whole, x), outputs(model, x)) <= 1e-5


def test_the_objects_themselves_are_in_the_new_layer():
    constraint, regularizer = functools.partial(Kept()), Summed()
    odd = Dense(8, BENT, bias_constraint=constraint, kernel_regularizer=regularizer)
    new = dfprune.apply(stack(odd), sparsity=0.5).layers[0]
    assert new.units == 4 and new is not odd
    assert new.activation is BENT and new.kernel_regularizer is regularizer
    assert new.bias_constraint is constraint and new.bias.constraint is constraint


def test_plans_and_formats(tmp_path):
    model = stack(Dense(8, BENT, name="odd"))
    plan = dfprune.plan(model, sparsity=0.5)
    plan.save(tmp_path / "plan.npz")
    pruned = dfprune.PruningPlan.load(tmp_path / "plan.npz").apply(model)
    dfprune.export(pruned, tmp_path / "m.tflite")
    with pytest.raises(ExportError, match="can't save the activation of layer 'odd'. Give"):
        dfprune.export(pruned, tmp_path / "m.keras")


def test_training_goes_on_if_the_file_can_t_be_saved(tmp_path):
    model = stack(Dense(8, BENT, name="odd"))
    model.compile("adam", "mse")
    callback = dfprune.PostTrainPrune(sparsity=0.5, export_path=tmp_path / "m.keras")
    with pytest.warns(UserWarning, match="can't save the activation of layer 'odd'"):
        model.fit(np.ones((4, 6)), np.ones((4, 3)), verbose=0, callbacks=[callback])
    assert callback.pruned_model.get_layer("plain").units == 4
    assert callback.pruned_model.optimizer.iterations == 1
