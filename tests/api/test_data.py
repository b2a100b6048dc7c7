"""Rows of data of any kind make the same plan, and rows that make no sense are errors."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_dfprune as dfprune
from tests.support.models import dense_chain

layers = keras.layers
ROWS, INPUTS = 40, 6


def rows():
    return np.random.default_rng(3).standard_normal((ROWS, INPUTS)).astype("float32")


def given_as(kind, x, name):
    labels = np.arange(len(x))
    return {
        "array": lambda: x,
        "float64": lambda: x.astype("float64"),
        "dict": lambda: {name: x},
        "list": lambda: [x],
        "tf.data with labels": lambda: tf.data.Dataset.from_tensor_slices((x, labels)).batch(7),
        "generator": lambda: ((row, label) for row, label in zip(x, labels, strict=True)),
    }[kind]()


def assert_same(plan, other):
    for first, second in zip(plan.groups, other.groups, strict=True):
        np.testing.assert_array_equal(first.removed, second.removed)
        np.testing.assert_array_equal(first.saliency, second.saliency)
    assert plan.measured == other.measured


@pytest.mark.parametrize("kind", ["float64", "dict", "list", "tf.data with labels", "generator"])
def test_data_of_every_kind_makes_the_same_plan(kind):
    model, x = dense_chain([12, 8, 3]), rows()
    arrays = dfprune.plan(model, sparsity=0.5, data=x)
    given = given_as(kind, x, model.inputs[0].name)
    assert_same(dfprune.plan(model, sparsity=0.5, data=given), arrays)
    assert f"{ROWS} rows of `data`" in arrays.measured[0].source


def test_data_of_several_inputs():
    first, second = keras.Input((4,), name="first"), keras.Input((2,), name="second")
    hidden = layers.Dense(10, "relu")(layers.Concatenate()([first, second]))
    model = keras.Model([first, second], layers.Dense(3)(hidden))
    x = rows()
    pair = [x[:, :4], x[:, 4:]]
    plan = dfprune.plan(model, sparsity=0.5, data=pair)
    for other in (
        {"second": pair[1], "first": pair[0]},
        tf.data.Dataset.from_tensor_slices((tuple(pair), np.zeros(ROWS))).batch(8),
    ):
        assert_same(plan, dfprune.plan(model, sparsity=0.5, data=other))


def with_value(value):
    x = rows()
    x[5, 2] = value
    return x


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (with_value(np.nan), r"`data` has NaN in column 2 of input 'x'.*1 of 240 values"),
        (with_value(np.inf), "`data` has an infinity in column 2 of input 'x'"),
        (rows()[:1], "`data` must have at least 2 rows.*Received: 1 row"),
        (np.full((4, INPUTS), "many"), "`data` must hold numbers for input 'x', which takes float"),
        (rows()[:, :5], r"`data` doesn't fit input 'x'. Expected shape.*shape=\(40, 5\)"),
        ({"y": rows()}, r"`data` lacks the model's input \['x'\]"),
        ([], "`data`"),
    ],
)
def test_rows_that_make_no_sense_are_errors(data, message):
    inputs = keras.Input((INPUTS,), name="x")
    model = keras.Model(inputs, layers.Dense(2)(layers.Dense(8, "relu")(inputs)))
    with pytest.raises(ValueError, match=message):
        dfprune.plan(model, sparsity=0.5, data=data)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_a_few_rows_are_enough_to_plan(count):
    plan = dfprune.plan(dense_chain([12, 3]), sparsity=0.5, data=rows()[:count])
    assert len(plan.groups[0].removed) == 6
    assert np.isfinite(plan.measured[0].change)


def test_rows_that_the_model_fails_on_are_an_error():
    inputs = keras.Input((None,), dtype="int32", name="tokens")
    positions = layers.Embedding(10, 4)(inputs)
    fixed = layers.Reshape((20,))(positions)  # runs on five tokens only
    model = keras.Model(inputs, layers.Dense(2)(layers.Dense(8, "relu")(fixed)))
    with pytest.raises(ValueError, match="can't be run on the 8 rows of `data`"):
        dfprune.plan(model, sparsity=0.5, data=np.zeros((8, 4), int))


def test_the_seed_chooses_the_rows_that_are_held_out():
    model, x = dense_chain([40, 3]), rows()[:16]
    first, same, other = (
        dfprune.plan(model, sparsity=0.8, data=x, seed=seed).measured for seed in (0, 0, 1)
    )
    assert "held-out part of 16 rows of `data`" in first[0].source
    assert first == same != other
