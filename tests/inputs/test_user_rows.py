"""Rows of every accepted kind are read, and messages name the user's argument."""

import numpy as np
import pytest
import tensorflow as tf

from keras_dfprune.inputs.user_rows import read_rows
from tests.support.exported import chain, rows, several


@pytest.mark.parametrize("kind", ["array", "dict", "list", "rows", "dataset", "single", "function"])
def test_kinds_of_data(kind):
    model, data = chain(), np.random.default_rng(3).standard_normal((9, 16)).astype("float32")
    labels = np.arange(9)
    name = model.inputs[0].name
    given = {
        "array": data,
        "dict": {name: data},
        "list": [data],
        "rows": [list(row) for row in data],
        "dataset": tf.data.Dataset.from_tensor_slices((data, labels)).batch(4),
        "single": tf.data.Dataset.from_tensor_slices(data),
        "function": lambda: ((row, label) for row, label in zip(data, labels, strict=True)),
    }[kind]
    got = read_rows(model, given, "data")
    np.testing.assert_array_equal(got[name], data)


def test_two_inputs():
    model = several()
    data = rows(model)
    pair = (data["number"], data["word"])  # in the order of model.inputs
    labels = np.zeros(16)
    for given in (
        pair,
        tf.data.Dataset.from_tensor_slices(pair).batch(5),
        tf.data.Dataset.from_tensor_slices((pair, labels)),
        tf.data.Dataset.from_tensor_slices((data, labels)).batch(5),
        iter([pair]),
    ):
        got = read_rows(model, given, "data")
        np.testing.assert_array_equal(got["number"], data["number"])
        np.testing.assert_array_equal(got["word"], data["word"])


def test_number_of_rows_is_limited():
    model = chain()
    taken = []

    def endless():
        while len(taken) < 10_000:
            taken.append(1)
            yield np.zeros(16)

    assert len(next(iter(read_rows(model, endless, "data").values()))) == len(taken) == 512
    spread = np.repeat(np.arange(2000.0)[:, None], 16, axis=1)
    got = next(iter(read_rows(model, spread, "data").values()))
    assert len(got) == 512 and got[0, 0] == 0 and got[-1, 0] == 1999


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((4, 15)), r"`rows` doesn't fit input .*shape=\(4, 15\)"),
        (np.zeros((0, 16)), "Expected `rows` with the same positive number"),
        ({"other": np.zeros((4, 16))}, "`rows` lacks the model's input"),
        (iter([[np.zeros((4, 16))] * 2]), r"Expected `rows` for 1 input\(s\)"),
        (iter([]), "Expected `rows` with at least one row"),
    ],
)
def test_messages_name_the_argument(data, message):
    with pytest.raises(ValueError, match=message):
        read_rows(chain(), data, "rows")
