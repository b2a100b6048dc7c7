"""Provide small models, planted copies and comparisons that many tests use."""

import contextlib
import warnings

import keras
import numpy as np

from keras_dfprune.methods.saliency.distances import PairDistances


def dense_chain(widths, activation="relu", inputs=6, use_bias=True, seed=0):
    """Build Dense layers fc1, fc2, ..., the last linear, with random weights and biases."""
    keras.utils.set_random_seed(seed)
    layers = [keras.Input((inputs,))]
    for number, width in enumerate(widths, start=1):
        last = number == len(widths)
        function = None if last else activation
        layers.append(keras.layers.Dense(width, function, name=f"fc{number}", use_bias=use_bias))
    model = keras.Sequential(layers)
    random = np.random.default_rng(seed)
    for variable in model.weights:
        variable.assign(random.normal(0, 0.5, variable.shape))
    return model


@contextlib.contextmanager
def warnings_are_errors():
    """Turn each UserWarning into an error, but not that a random network's outputs change."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", "The outputs of model")
        yield


def nested_model():
    """Build a model with two inner models whose layers have the same names."""

    def inner(name):
        return keras.Sequential(
            [
                keras.Input((6,)),
                keras.layers.Dense(8, "relu", name="fc1"),
                keras.layers.Dense(6, name="fc2"),
            ],
            name=name,
        )

    inputs = keras.Input((6,))
    hidden = inner("right")(keras.layers.Dense(6, "relu", name="first")(inner("left")(inputs)))
    return keras.Model(inputs, keras.layers.Dense(2, name="head")(hidden))


def operations_of(model):
    """Return a model and every operation inside it, those of inner models too."""
    operations = [model]
    for operation in model.layers if isinstance(model, keras.Sequential) else model.operations:
        inner = isinstance(operation, keras.Model)
        operations += operations_of(operation) if inner else [operation]
    return operations


def call_history(operations):
    """Count how often each operation was called, and how often its outputs were used.

    Keras has no public access to this, and a node too many keeps the pruned model alive.
    """
    return [
        (operation.name, len(operation._inbound_nodes), len(operation._outbound_nodes))
        for operation in operations
    ]


def widths(model):
    """Return the units of a model's Dense layers."""
    return [layer.units for layer in model.layers if isinstance(layer, keras.layers.Dense)]


def plant_copy(layer, source, target, scale=1.0):
    """Make unit `target` of a Dense layer `scale` times unit `source`."""
    for variable in layer.weights:
        values = variable.numpy()
        values[..., target] = scale * values[..., source]
        variable.assign(values)


def relative_difference(received, expected):
    """Return the largest difference over the largest expected value."""
    return float(np.abs(received - expected).max() / np.abs(expected).max())


def inputs_of(model, rows=16, seed=0):
    """Draw normal inputs for a model with one input."""
    random = np.random.default_rng(seed)
    return random.normal(size=(rows, *model.input_shape[1:])).astype("float32")


def outputs(model, x):
    """Return the model's output as an array."""
    return model(x, training=False).numpy()


def removed_units(plan):
    """Return the set of removed units of each group."""
    return {group.layer: set(group.removed.tolist()) for group in plan.groups}


def plain_distances(sets):
    """Return distances between weight-sets that are not normalised."""
    norms = np.linalg.norm(sets.astype(np.float64), axis=1)
    return PairDistances([sets], norms, normalize=False)


def matrix_of(distances):
    """Return all squared distances in one matrix."""
    block = distances.block(0, distances.units)
    return distances.between(block, block).numpy()
