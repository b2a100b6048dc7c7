"""Small models, planted copies and comparisons that many tests use."""

import keras
import numpy as np

from keras_dfprune.methods.saliency.distances import PairDistances


def dense_chain(widths, activation="relu", inputs=6, use_bias=True, seed=0):
    """Dense layers fc1, fc2, ..., the last one linear, with random weights and biases."""
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


def nested_model():
    """Two inner models whose layers have the same names."""

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


def widths(model):
    """Units of a model's Dense layers."""
    return [layer.units for layer in model.layers if isinstance(layer, keras.layers.Dense)]


def plant_copy(layer, source, target, scale=1.0):
    """Makes unit `target` of a Dense layer `scale` times unit `source`."""
    for variable in layer.weights:
        values = variable.numpy()
        values[..., target] = scale * values[..., source]
        variable.assign(values)


def relative_difference(found, wanted):
    """Largest difference over the largest wanted value."""
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def inputs_of(model, rows=16, seed=0):
    """Normal inputs for a model with one input."""
    random = np.random.default_rng(seed)
    return random.normal(size=(rows, *model.input_shape[1:])).astype("float32")


def outputs(model, x):
    """What the model says, as an array."""
    return model(x, training=False).numpy()


def removed_units(plan):
    """The set of removed units of each group."""
    return {group.layer: set(group.removed.tolist()) for group in plan.groups}


def plain_distances(sets):
    """Between weight-sets as they are."""
    norms = np.linalg.norm(sets.astype(np.float64), axis=1)
    return PairDistances([sets], norms, normalize=False)


def matrix_of(distances):
    """All squared distances in one piece."""
    block = distances.block(0, distances.units)
    return distances.between(block, block).numpy()
