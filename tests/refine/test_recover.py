"""Recovery of whole models on rows: any graph, what stays as it is, and several devices."""

import keras
import numpy as np
import pytest

from keras_dfprune.inputs.rows import split_rows
from keras_dfprune.inputs.sample_inputs import draw_rows
from keras_dfprune.refine import recover as recover_module
from keras_dfprune.refine.recover import recover
from tests.support.models import dense_chain

layers = keras.layers


def residual(width):
    inputs = keras.Input((8, 8, 2))
    x = layers.Conv2D(width, 3, padding="same", use_bias=False)(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    y = layers.Conv2D(width, 3, padding="same", activation="relu")(x)
    x = layers.GlobalAveragePooling2D()(layers.Dropout(0.5)(layers.add([x, y])))
    return keras.Model(inputs, layers.Dense(3, "softmax")(x))


def sequence(width):
    inputs = keras.Input((5,), dtype="int32")
    x = layers.Embedding(2, 4, mask_zero=True)(inputs)
    x = layers.LSTM(width)(x)
    return keras.Model(inputs, layers.Dense(2)(x))


def two_of_each(width):
    one, two = keras.Input((4,), name="first"), keras.Input((3,), name="second")
    x = layers.Dense(width, "tanh")(layers.concatenate([one, two]))
    outputs = {"big": layers.Rescaling(100.0)(layers.Dense(2)(x)), "small": layers.Dense(1)(x)}
    return keras.Model({"first": one, "second": two}, outputs)


def sequential(width):
    return dense_chain([width, 3], inputs=5)


MODELS = {"residual": residual, "sequence": sequence, "two": two_of_each, "chain": sequential}


def pair(make, narrow=4, wide=16):
    keras.utils.set_random_seed(1)
    return make(narrow), make(wide)


def rows_of(model, count=160):
    rows = split_rows(draw_rows(model, count, seed=0), "draws")
    return rows.fit, rows.held_out


def weights(model):
    return [np.array(weight) for weight in model.get_weights()]


def assert_equal_weights(one, two):
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("mixtures", [False, True])
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_a_narrow_model_follows(make, mixtures):
    narrow, wide = pair(make)
    before, statistics = weights(wide), weights(narrow)
    rows, held_out = rows_of(wide)
    reached = recover(narrow, wide, rows, held_out, steps=120, batch_size=32, mixtures=mixtures)
    assert reached.after < 0.95 * reached.before
    assert_equal_weights(weights(wide), before)
    for variable, start in zip(narrow.weights, statistics, strict=True):
        if not variable.trainable:
            np.testing.assert_array_equal(variable, start)


def test_each_output_counts_by_its_variance():
    narrow, wide = pair(two_of_each)
    rows, held_out = rows_of(wide)
    reached = recover(narrow, wide, rows, held_out, steps=0)
    everything = {name: np.concatenate([rows[name], held_out[name]]) for name in rows}
    ratios = []
    for name, wanted in wide(held_out).items():
        variance = np.sum(np.var(wide(everything)[name], axis=0))
        ratios.append(
            np.mean(np.sum(np.square(wanted - narrow(held_out)[name]), axis=1)) / variance
        )
    assert reached.before == reached.after == pytest.approx(np.mean(ratios), rel=1e-4)


def test_outputs_are_compared_in_front_of_a_saturated_softmax():
    narrow, wide = (keras.Sequential([keras.Input((5,)), layers.Dense(3, "softmax")]) for _ in "12")
    narrow.set_weights([100 * np.ones((5, 3)) * [1, 0, 0], np.ones(3)])
    wide.set_weights([np.ones((5, 3)) * [1, 0, 0], np.zeros(3)])
    rows, held_out = rows_of(wide)
    assert recover(narrow, wide, rows, held_out, steps=0).before > 1000
    narrow.set_weights([np.ones((5, 3)) * [1, 0, 0], 7 * np.ones(3)])  # the softmax ignores it
    assert recover(narrow, wide, rows, held_out, steps=0).before < 1e-9


def test_it_never_gets_worse(monkeypatch):
    monkeypatch.setattr(recover_module, "LEARNING_RATE", 1e3)
    narrow, wide = pair(sequential)
    start = weights(narrow)
    reached = recover(narrow, wide, *rows_of(wide), steps=20)
    assert (reached.after, reached.step) == (reached.before, 0)
    assert_equal_weights(weights(narrow), start)


def test_frozen_and_shared_weights_stay():
    wide = dense_chain([16, 8, 3])
    keras.utils.set_random_seed(3)
    shared = wide.layers[-1]
    narrow = keras.Sequential(
        [keras.Input((6,)), layers.Dense(6, "relu"), layers.Dense(6, "relu"),
         layers.Dense(8, "relu"), shared]
    )  # fmt: skip
    narrow.layers[1].trainable = False
    start = weights(narrow)
    recover(narrow, wide, *rows_of(wide), steps=20, untouched=[narrow.layers[2].bias])
    moved = [bool(np.any(a != b)) for a, b in zip(weights(narrow), start, strict=True)]
    trained = [v.trainable for v in narrow.weights]
    assert trained == [True, True, False, False, True, True, True, True]
    # In the order of `weights`: two layers that move, one frozen, the bias untouched, one shared.
    assert moved == [True, True, False, False, True, False, False, False]


def test_constraints_that_hold_at_the_start_are_kept():
    wide = dense_chain([16, 3])
    narrow = dense_chain([5, 3], seed=2)
    first, last = narrow.layers
    first.kernel.assign(np.abs(first.kernel))
    first.kernel.constraint = keras.constraints.NonNeg()
    last.kernel.constraint = keras.constraints.NonNeg()  # broken at the start
    recover(narrow, wide, *rows_of(wide), steps=60)
    assert np.array(first.kernel).min() >= 0
    assert np.array(first.kernel).max() > 0
    assert np.array(last.kernel).min() < 0


def test_a_stateful_model_of_fixed_batch_size_keeps_its_state():
    def make(width):
        inputs = keras.Input(batch_shape=(4, 6, 3))
        return keras.Model(inputs, layers.Dense(2)(layers.LSTM(width, stateful=True)(inputs)))

    narrow, wide = pair(make)
    for model in (narrow, wide):
        model(np.ones((4, 6, 3), "float32"))
    states = [np.array(v) for m in (narrow, wide) for v in m.non_trainable_variables]
    assert any(np.any(state) for state in states)
    random = np.random.default_rng(0)
    rows = {"x": random.normal(size=(30, 6, 3)).astype("float32")}
    held_out = {"x": random.normal(size=(10, 6, 3)).astype("float32")}
    reached = recover(narrow, wide, rows, held_out, steps=60)
    assert reached.after < reached.before
    after = [np.array(v) for m in (narrow, wide) for v in m.non_trainable_variables]
    assert_equal_weights(after, states)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16", "float64"])
def test_other_precisions(policy):
    keras.config.set_dtype_policy(policy)
    try:
        narrow, wide = pair(residual)
    finally:
        keras.config.set_dtype_policy("float32")
    reached = recover(narrow, wide, *rows_of(wide), steps=60, batch_size=32)
    assert reached.after < 0.95 * reached.before
    assert all(np.all(np.isfinite(np.asarray(w, np.float64))) for w in weights(narrow))


def test_replicas_share_the_batches(strategy):
    plain, wide = pair(residual)
    start = weights(plain)
    with strategy.scope():
        mirrored = residual(4)
        mirrored.set_weights(start)
    rows = rows_of(wide)
    expected = recover(plain, wide, *rows, steps=10, batch_size=30)
    with strategy.scope():
        reached = recover(mirrored, wide, *rows, steps=10, batch_size=30)
    assert reached.after < reached.before
    assert reached.after == pytest.approx(expected.after, rel=1e-2)
    for variable in mirrored.trainable_variables:
        values = strategy.experimental_local_results(variable.value)
        assert len(values) == 4
        for value in values[1:]:
            np.testing.assert_array_equal(value.numpy(), values[0].numpy())


def test_rows_whose_outputs_are_not_finite_are_an_error():
    narrow, wide = pair(sequential)
    rows = {"x": np.full((8, 5), np.nan, "float32")}
    with pytest.raises(ValueError, match="are not finite"):
        recover(narrow, wide, rows, rows, steps=2)


def test_a_model_without_outputs_of_floats_is_an_error():
    inputs = keras.Input((5,))
    model = keras.Model(inputs, keras.ops.argmax(layers.Dense(3)(inputs), axis=-1))
    with pytest.raises(ValueError, match="no output of floats"):
        recover(model, model, *rows_of(model), steps=2)
