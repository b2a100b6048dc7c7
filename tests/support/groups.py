"""Build groups of units as a method sees them."""

import keras
import numpy as np

from keras_dfprune.methods.base import GroupView
from keras_dfprune.methods.feed import Feed
from keras_dfprune.rules.activations import describe


def group_view(sets, outgoing, activation="relu", **changes):
    """Build a group from weight-sets with their biases last, and blocks of outgoing weights."""
    settings = {
        "name": "fc",
        "weights": sets[:, :-1],
        "constants": sets[:, -1:],
        "activation": describe(keras.activations.get(activation)),
        "constant_values": np.full(len(sets), np.nan),
        "outgoing": outgoing,
        "offset_allowed": True,
        "can_survive": np.ones(len(sets), bool),
        "batch_mean": None,
        "batch_std": None,
        "parameters_per_unit": 1.0,
    }
    return GroupView(**{**settings, **changes})


def a_group(seed=0, units=12, inputs=6, outputs=5, activation="relu", positions=1, **changes):
    """Build a group with random weights."""
    generator = np.random.default_rng(seed)
    sets = generator.normal(size=(units, inputs + 1))
    sets = changes.pop("weight_sets", sets)
    values = dict(
        name="fc1",
        weights=sets[:, :inputs],
        constants=sets[:, inputs:],
        activation=activation,
        constant_values=np.full(units, np.nan),
        outgoing=(generator.normal(size=(units, positions, outputs)),),
        offset_allowed=True,
        can_survive=np.ones(units, bool),
        batch_mean=None,
        batch_std=None,
        parameters_per_unit=float(inputs + 1 + outputs),
    )
    values.update(changes)
    if isinstance(values["activation"], str):
        values["activation"] = describe(getattr(keras.activations, values["activation"]))
    return GroupView(**values)


def a_feed(columns, group=None, units=(), origin=None, scale=1.0, shift=0.0):
    """Build a `Feed`, which says where some inputs of a group come from."""
    columns, ones = np.asarray(columns), np.ones(len(columns))
    return Feed(columns, group, np.asarray(units, int), scale * ones, shift * ones, origin)
