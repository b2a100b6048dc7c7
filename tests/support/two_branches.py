"""Provide a small model with two inputs by name, a shared layer and a fixed `training`."""

import keras

layers = keras.layers


def two_branches():
    """Build a model from `{"one": ..., "two": ...}` to `{"y": ...}`."""
    one, two = keras.Input((4,), name="one"), keras.Input((4,), name="two")
    shared = layers.Dense(5, name="shared")
    first, second = shared(one), layers.Dropout(0.5, name="drop")(shared(two), training=False)
    joined = layers.Concatenate(name="join")([first, second])
    return keras.Model({"one": one, "two": two}, {"y": layers.Dense(2, name="head")(joined)})
