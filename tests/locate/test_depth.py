"""Assumptions about inputs are trusted near the inputs and behind normalisations only."""

import keras
import pytest

from keras_dfprune.graph.read_graph import read_graph
from keras_dfprune.locate.depth import why_untied

layers = keras.layers


def sequential(shape, *steps):
    return keras.Sequential([keras.Input(shape), *steps])


def dense(count, between=lambda: []):
    steps = []
    for number in range(1, count + 1):
        steps += [layers.Dense(5, "relu", name=f"fc{number}"), *between()]
    return sequential((4,), *steps)


def residual(branch):
    inputs = keras.Input((5,))
    deep = inputs
    for _ in range(branch):
        deep = layers.Dense(5)(deep)
    return keras.Model(inputs, layers.Dense(2, name="end")(layers.Add()([inputs, deep])))


def conv(*between):
    return sequential(
        (8, 8, 2), layers.Conv2D(4, 3, name="conv1"), *between, layers.Flatten(),
        layers.Dense(3, name="end"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("model", "layer"),
    [
        (lambda: dense(4), None),
        (lambda: dense(5), "fc5"),
        (lambda: dense(9, lambda: [layers.BatchNormalization()]), None),
        (lambda: dense(9, lambda: [layers.LayerNormalization()]), None),
        (lambda: dense(5, lambda: [layers.Dropout(0.1), layers.ReLU()]), "fc5"),
        (conv, "end"),
        (lambda: conv(layers.BatchNormalization()), None),
        (lambda: conv(layers.ReLU(), layers.MaxPooling2D()), "end"),
        (lambda: conv(layers.GroupNormalization(2)), None),
        (lambda: sequential((8, 8, 2), layers.Conv2D(4, 1), layers.Dense(3)), None),
        (
            lambda: sequential((8,), layers.Embedding(9, 4), *[layers.Dense(4) for _ in range(4)]),
            None,
        ),
        (lambda: residual(3), None),
        (lambda: residual(4), "end"),
    ],
)
def test_why_assumptions_about_a_model_are_not_trusted(model, layer):
    reason = why_untied(read_graph(model()))
    if layer is None:
        assert reason is None
    else:
        assert f"nothing normalises what '{layer}' gets" in reason
