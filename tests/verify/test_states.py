"""Models that keep a state or draw random numbers are verified, and their state is carried over."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_dfprune as dfprune
from keras_dfprune.graph.further_state import keeps_state

layers = keras.layers
X = np.random.default_rng(0).normal(size=(2, 6)).astype("float32")


class Encoder(keras.Model):
    """Nested model that can't be looked into."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(8, "relu")
        self.normalization = layers.BatchNormalization()

    def call(self, x):
        return self.normalization(self.dense(x))


class Sampling(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed = keras.random.SeedGenerator(7)

    def call(self, x):
        return x + keras.random.normal(keras.ops.shape(x), seed=self.seed)


class GlobalSampling(layers.Layer):
    def call(self, x):
        return x + keras.random.normal(keras.ops.shape(x))


class Running(layers.Layer):
    """Layer that adds its metric and a variable of TensorFlow, and changes both."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.mean = keras.metrics.Mean()
        self.held = {"count": [tf.Variable(1.0)]}

    def call(self, x):
        self.held["count"][0].assign_add(1.0)
        self.mean.update_state(keras.ops.mean(x))
        return x + self.mean.result() + tf.convert_to_tensor(self.held["count"][0])


class Counting(layers.Layer):
    """Layer whose state isn't in a variable."""

    calls = 0

    def call(self, x):
        self.calls += 1
        return x * self.calls


class Forgetful(layers.Layer):
    """Layer with weights that it makes outside of `build`."""

    def grow(self):
        self.inner = layers.LayerNormalization()
        self.inner.build((None, 6))

    def call(self, x):
        return self.inner(x) if hasattr(self, "inner") else x


def on_rows(layer):
    inputs = keras.Input((6,))
    hidden = layers.Dense(16, "relu", name="units")(layer(inputs))
    model = keras.Model(inputs, layers.Dense(3, "softmax")(hidden))
    model(X)  # now the states are other than at the start
    return model


def on_sequences(layer):
    inputs = keras.Input(batch_shape=(2, 4, 6))
    hidden = layers.Dense(16, "relu", name="units")(inputs)
    model = keras.Model(inputs, layers.Dense(3)(layer(hidden)))
    model(np.ones((2, 4, 6), "float32"))
    return model


def inside(layer):
    inputs = keras.Input((6,))
    return keras.Model(inputs, layers.Dense(5)(layer(inputs)), name="inner")


STATES = {
    "stateful": lambda: on_sequences(layers.LSTM(4, stateful=True, name="lstm")),
    "both ways": lambda: on_sequences(layers.Bidirectional(layers.GRU(3, stateful=True))),
    "opaque": lambda: on_rows(Encoder()),
    "opaque in a nested model": lambda: on_rows(inside(Encoder())),
    "seed": lambda: on_rows(Sampling()),
    "global seed": lambda: on_rows(GlobalSampling()),
    "dropout": lambda: on_rows(lambda x: layers.Dropout(0.5)(x, training=True)),
    "metric and TensorFlow's variable": lambda: on_rows(Running(name="running")),
}


@pytest.mark.parametrize("name", STATES)
def test_models_with_a_state_are_verified(name):
    model = STATES[name]()
    before = [variable.numpy() for variable in model.variables]
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*could not be verified")
        pruned = dfprune.apply(model, sparsity=0.5)
    assert pruned.get_layer("units").units == 8
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_the_result_goes_on_from_the_state_of_the_original():
    model = STATES["stateful"]()
    plan = dfprune.plan(model, sparsity=0.5)
    (kept,) = (group.kept for group in plan.groups if group.layer == "lstm")
    old, new = (model.get_layer("lstm").states for model in (model, plan.apply(model)))
    assert all(np.abs(state).max() > 0 for state in old)
    for state, copy in zip(old, new, strict=True):
        np.testing.assert_array_equal(np.array(state)[:, kept], copy)
    model = STATES["metric and TensorFlow's variable"]()
    old, new = (m.get_layer("running") for m in (model, dfprune.apply(model, sparsity=0.5)))
    assert float(new.held["count"][0]) == float(old.held["count"][0]) == 2
    assert float(new.mean.result()) == float(old.mean.result()) != 0


def test_a_call_leaves_the_variables_of_tensorflow_as_they_are():
    layer = Running()
    with keeps_state(layer):
        layer(X)
    assert float(layer.held["count"][0]) == 1 and float(layer.mean.result()) == 0


def test_a_layer_that_answers_differently_is_named():
    message = r"layer 'counting' .* by \d.+ of its largest value.+ verify=False"
    with pytest.warns(UserWarning, match=message) as seen:
        dfprune.apply(on_rows(Counting()), sparsity=0.5)
    assert len([w for w in seen if "could not be verified" in str(w.message)]) == 1


def test_a_layer_that_can_t_be_made_anew_is_named():
    layer = Forgetful()
    layer.grow()
    with pytest.raises(ValueError, match="'forgetful' .Forgetful., made anew from its config"):
        dfprune.apply(on_rows(layer), sparsity=0.5)


def test_the_callback_prunes_a_model_with_states():
    inputs = keras.Input(batch_shape=(2, 4, 6))
    hidden = layers.LSTM(4, stateful=True)(layers.Dense(16, "relu")(inputs))
    model = keras.Model(inputs, Sampling()(layers.Dense(3)(hidden)))
    model.compile("adam", "mse", metrics=["mae"])
    callback = dfprune.PostTrainPrune(sparsity=0.5, strict=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*could not be verified")
        model.fit(np.ones((4, 4, 6)), np.ones((4, 3)), 2, callbacks=[callback], verbose=0)
    assert callback.error is None and callback.pruned_model is not None
