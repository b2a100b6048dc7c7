"""The result is compiled like the original, with new objects and the optimizer's slots."""

import warnings

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from keras_dfprune.graph.keras_private import is_decayed
from tests.support.models import dense_chain, plant_copy

optimizers = keras.optimizers


def apart_from_change(seen):
    """Return the warnings but that the outputs of a small random network change."""
    return [warning for warning in seen if "The outputs of model" not in str(warning.message)]


def data(seed=0):
    random = np.random.default_rng(seed)
    return random.normal(size=(32, 6)).astype("float32"), random.normal(size=(32, 3))


def with_dead_units(optimizer):
    """Train a model in which some units are unused, and get no gradient from training."""
    model = dense_chain([8, 6, 3])
    for name, dead in (("fc1", [1, 5]), ("fc2", [0, 4])):
        layer = model.get_layer(name)
        kernel, bias = layer.get_weights()
        kernel[:, dead], bias[dead] = 0.0, -1.0  # relu gives neither value nor gradient
        layer.set_weights([kernel, bias])
        consumer = model.get_layer(f"fc{int(name[-1]) + 1}")
        rows = consumer.kernel.numpy()
        rows[dead] = 0.0
        consumer.kernel.assign(rows)
    model.compile(optimizer, "mse")
    losses(model, 3)
    return model


def losses(model, steps):
    x, y = data()
    return [float(np.ravel(model.train_on_batch(x, y))[0]) for _ in range(steps)]


def without_decay_of_biases():
    optimizer = optimizers.AdamW(0.01, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


OPTIMIZERS = {
    "excluded from decay": without_decay_of_biases,
    "sgd": lambda: optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    "adam": lambda: optimizers.Adam(0.01),
    "adam, amsgrad": lambda: optimizers.Adam(0.01, amsgrad=True),
    "adamw": lambda: optimizers.AdamW(0.01),
    "rmsprop": lambda: optimizers.RMSprop(0.01, momentum=0.5, centered=True),
    "lion": lambda: optimizers.Lion(0.01),
    "loss scale": lambda: optimizers.LossScaleOptimizer(optimizers.Adam(0.01)),
    "average": lambda: optimizers.Adam(0.01, use_ema=True, ema_overwrite_frequency=4),
    "accumulation": lambda: optimizers.Adam(0.01, gradient_accumulation_steps=2),
    "schedule": lambda: optimizers.SGD(optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_result_trains_exactly_as_the_original(name):
    model = with_dead_units(OPTIMIZERS[name]())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pruned = dfprune.apply(model, tolerance=0)
    assert pruned.get_layer("fc1").units == 6 and pruned.get_layer("fc2").units == 4
    assert pruned.optimizer is not model.optimizer
    before = [v.numpy() for v in [*model.variables, *model.optimizer.variables]]
    received = losses(pruned, 6)
    for variable, value in zip([*model.variables, *model.optimizer.variables], before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    np.testing.assert_allclose(received, losses(model, 6), rtol=1e-5)


def test_slots_matter():
    """With a fresh optimizer the losses differ, so the comparison above can fail."""
    model = with_dead_units(OPTIMIZERS["adam"]())
    pruned = dfprune.apply(model, tolerance=0)
    pruned.compile(OPTIMIZERS["adam"](), "mse")
    assert abs(losses(pruned, 6)[-1] - losses(model, 6)[-1]) > 1e-4


def test_slots_that_can_t_be_cut_are_reset():
    model = dense_chain([8, 6, 3])
    model.compile(optimizers.Adafactor(0.01), "mse")
    losses(model, 2)
    with pytest.warns(UserWarning, match="state of optimizer Adafactor") as seen:
        pruned = dfprune.apply(model, sparsity=0.5)
    assert len(apart_from_change(seen)) == 1
    assert isinstance(pruned.optimizer, optimizers.Adafactor)
    losses(pruned, 1)


class OwnOptimizer(optimizers.SGD):
    def __init__(self, secret):
        super().__init__(0.1)


def test_an_optimizer_that_can_t_be_re_created_is_left_out():
    model = dense_chain([8, 3])
    model.compile(OwnOptimizer(3), "mse")
    with pytest.warns(UserWarning, match="without the original's optimizer OwnOptimizer"):
        pruned = dfprune.apply(model, sparsity=0.5)
    assert pruned.optimizer is None
    model.compile(None, "mse")
    pruned = dfprune.apply(model, sparsity=0.5)
    assert pruned.optimizer is None
    x, y = data()
    assert pruned.evaluate(x, y, verbose=0) > 0


def test_single_variables_stay_excluded_from_decay():
    model = dense_chain([8, 6, 3])
    optimizer = optimizers.AdamW(weight_decay=0.5)
    optimizer.exclude_from_weight_decay([model.get_layer("fc2").kernel])
    model.compile(optimizer, "mse")
    pruned = dfprune.apply(model, sparsity=0.5)
    decayed = [is_decayed(pruned.optimizer, layer.kernel) for layer in pruned.layers]
    assert decayed == [True, False, True]


def own_loss(y, prediction):
    return keras.ops.mean(keras.ops.abs(y - prediction))


class OwnMetric(keras.metrics.MeanSquaredError):
    def __init__(self, secret):
        super().__init__()
        self.secret = secret


def test_functions_are_reused_and_metrics_that_can_t_be_re_created_are_left_out():
    model = dense_chain([8, 3])
    model.compile("adam", own_loss, metrics=["mae", OwnMetric(3)])
    losses(model, 1)
    state = [variable.numpy() for variable in model.metrics_variables]
    with pytest.warns(UserWarning, match="without the original's metrics OwnMetric") as seen:
        pruned = dfprune.apply(model, sparsity=0.5)
    assert len(apart_from_change(seen)) == 1
    assert pruned.loss is own_loss
    x, y = data()
    assert set(pruned.evaluate(x, y, return_dict=True, verbose=0)) == {"loss", "mae"}
    for variable, value in zip(model.metrics_variables, state, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


@pytest.mark.parametrize(
    "metrics",
    [
        [OwnMetric(3), "mae"],
        [[OwnMetric(3)], ["mae"]],
        [["mae", OwnMetric(3)], "mse"],
        {"a": OwnMetric(3), "b": "mae"},
        {"a": [OwnMetric(3), "mse"]},
    ],
)
def test_metrics_stay_with_their_outputs(metrics):
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(8, "relu")(inputs)
    heads = [keras.layers.Dense(1, name=name)(hidden) for name in ("a", "b")]
    model = keras.Model(inputs, heads)
    model.compile("adam", ["mse", "mae"], metrics=metrics, weighted_metrics={"b": ["mse"]})
    x, y = np.ones((4, 4)), [np.ones((4, 1))] * 2
    expected = set(model.evaluate(x, y, return_dict=True, verbose=0)) - {"a_mean_squared_error"}
    with pytest.warns(UserWarning, match="without the original's metrics OwnMetric") as seen:
        pruned = dfprune.apply(model, sparsity=0.5)
    assert len(apart_from_change(seen)) == 1
    assert set(pruned.evaluate(x, y, return_dict=True, verbose=0)) == expected


def test_compile_settings_are_carried_over():
    model = dense_chain([8, 3])
    loss = keras.losses.Huber(delta=0.3)
    model.compile("sgd", loss, loss_weights=0.5, metrics=[keras.metrics.MeanSquaredError(name="m")],
                  run_eagerly=True)  # fmt: skip
    pruned = dfprune.apply(model, tolerance=0)
    assert pruned.run_eagerly
    x, y = data()
    assert pruned.evaluate(x, y, verbose=0) == pytest.approx(model.evaluate(x, y, verbose=0))


def test_a_model_that_is_not_compiled_stays_so():
    assert not dfprune.apply(dense_chain([8, 3]), sparsity=0.5).compiled


class OwnTraining(keras.Model):
    def train_step(self, data):
        return {"loss": 0.0}


class OwnMethods(keras.Model):
    temperature = 2.0

    def predict_step(self, data):
        return keras.ops.softmax(super().predict_step(data))

    def explain(self, x):
        return self(x)

    @property
    def classes(self):
        return ["a", "b", "c"]

    @classmethod
    def small(cls):
        return dense_chain([2, 3])

    def get_config(self):
        return super().get_config()


def test_a_warning_names_all_that_a_plain_model_lacks():
    chain = dense_chain([8, 3])
    model = OwnMethods(chain.inputs, chain.outputs)
    model.compile("adam", "mse")
    names = "OwnMethods defines: predict_step, explain, classes, small"
    with pytest.warns(UserWarning, match=rf"lacks what the class {names}\.") as seen:
        pruned = dfprune.apply(model, sparsity=0.5)
    assert len(apart_from_change(seen)) == 1 and pruned.compiled


def test_a_custom_train_step_is_left_out_with_a_warning():
    chain = dense_chain([8, 3])
    model = OwnTraining(chain.inputs, chain.outputs)
    model.compile("adam", "mse")
    message = "OwnTraining defines: train_step.*It is not compiled"
    with pytest.warns(UserWarning, match=message) as seen:
        pruned = dfprune.apply(model, sparsity=0.5)
    assert len(apart_from_change(seen)) == 1 and not pruned.compiled
    pruned.compile("adam", "mse")
    assert losses(pruned, 1)[0] > 0  # the loss of Keras's own train_step


def test_a_consumer_s_new_bias_is_trained():
    model = dense_chain([8, 3], "sigmoid", use_bias=False)
    plant_copy(model.get_layer("fc1"), 0, 5)
    kernel = model.get_layer("fc1").kernel.numpy()
    kernel[:, 2] = 0.0
    model.get_layer("fc1").kernel.assign(kernel)
    model.compile("adam", "mse")
    losses(model, 0)
    model.optimizer.build(model.trainable_variables)
    pruned = dfprune.apply(model, tolerance=0)
    bias = pruned.get_layer("fc2").bias.numpy()
    losses(pruned, 2)
    assert np.any(bias != pruned.get_layer("fc2").bias.numpy())
