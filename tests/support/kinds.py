"""Prepare and check the models of the tables `kinds_*`: random weights, copies, two checks.

A row is a function that returns a model, or a model and a function to call after copies are
planted. In Dense layers whose names start with `copy`, unit 1 becomes a copy of unit 0. In layers
whose names start with `scaled`, unit 3 also becomes three times unit 2.
"""

import keras
import numpy as np

import keras_dfprune as dfprune
from tests.support.models import plant_copy, relative_difference

PLANTED = {"copy": 1, "scaled": 2}
UNITS = (keras.layers.Dense, keras.layers.TimeDistributed)


def table():
    """Return a dict of rows by name, and the decorator that enters a row."""
    rows = {}

    def row(function):
        rows[function.__name__] = function
        return function

    return rows, row


def chain(*middle, shape=(6,)):
    """Build a functional model from its layers, each of which takes one tensor."""
    inputs = keras.Input(shape)
    hidden = inputs
    for step in middle:
        hidden = step(hidden)
    return keras.Model(inputs, hidden)


def every_layer(model):
    """Return the layers of a model and of the models and wrappers inside it, each once."""
    layers, waiting = {}, list(model.layers)
    while waiting:
        layer = waiting.pop()
        layers[id(layer)] = layer
        if isinstance(layer, keras.Model):
            waiting += layer.layers
        elif isinstance(layer, keras.layers.TimeDistributed):
            waiting.append(layer.layer)
    return list(layers.values())


def randomize(model, seed=0):
    """Assign random weights, except to adapted layers and to variables that aren't floats."""
    random = np.random.default_rng(seed)
    for layer in sorted(every_layer(model), key=lambda layer: layer.name):
        if isinstance(layer, (keras.Model, keras.layers.Normalization)):
            continue
        for variable in layer.weights:
            if "variance" in variable.name:
                variable.assign(random.uniform(0.5, 2.0, variable.shape))
            elif "float" in variable.dtype:
                variable.assign(random.normal(0, 0.5, variable.shape))


def planted(name):
    """Return how many units of a layer with this name or path are copies."""
    last = name.rsplit("/")[-1]
    return sum(count for prefix, count in PLANTED.items() if last.startswith(prefix))


def prepare(row):
    """Build the row's model with random weights and planted copies."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    built = row()
    model, finish = built if isinstance(built, tuple) else (built, None)
    randomize(model)
    for layer in every_layer(model):
        if isinstance(layer, UNITS) and planted(layer.name):
            plant_copy(layer, 0, 1)
            if planted(layer.name) > 1:
                plant_copy(layer, 2, 3, 3.0)
    if finish is not None:
        finish()
    return model


def draw(model, rows=6, seed=1):
    """Draw inputs in the structure that the model takes."""
    random = np.random.default_rng(seed)

    def values(symbol):
        shape = [rows, *(5 if size is None else size for size in symbol.shape[1:])]
        if symbol.dtype == "string":
            return keras.ops.convert_to_tensor(random.choice(["a", "b", "c", "z"], shape))
        if "int" in symbol.dtype:
            return random.integers(0, 5, shape)
        return random.normal(size=shape).astype("float32")

    symbols = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    return keras.tree.map_structure(values, symbols)


def run(model, x):
    """Return all outputs as float arrays."""
    results = keras.tree.flatten(model(x, training=False))
    return [np.asarray(keras.ops.cast(result, "float32")) for result in results]


def assert_agree(received, expected, bound):
    """Assert that all outputs agree within `bound` of their scale, which must not be 0."""
    assert expected
    for output, reference in zip(received, expected, strict=True):
        assert np.abs(reference).max() > 0
        assert relative_difference(output, reference) <= bound


def check_exact(row, bound=1e-5):
    """Check that exactly the planted copies are removed, and that the outputs stay."""
    model = prepare(row)
    x = draw(model)
    before = run(model, x)
    plan = dfprune.plan(model, tolerance=0)
    expected = {layer.name for layer in every_layer(model) if planted(layer.name)}
    removed = {path: len(group.removed) for group in plan.groups for path in group.layers}
    assert expected == {path.rsplit("/")[-1] for path in removed if planted(path)}, plan.refusals
    assert removed == {path: planted(path) for path in removed}
    pruned = plan.apply(model)
    assert pruned.count_params() == plan.parameters[1]
    assert_agree(run(pruned, x), before, bound)
    assert_agree(run(model, x), before, 1e-7)


def check_half(row, path, load=None, bound=1e-5):
    """Check that half of the units are removed, and that the saved file gives the same outputs.

    Args:
        row: The row's function.
        path: Folder for the file.
        load: Arguments of `load_model`, or None if Keras can't read the file.
        bound: Largest relative difference of the outputs.
    """
    model = prepare(row)
    plan = dfprune.plan(model, sparsity=0.5)
    assert plan.groups
    for group in plan.groups:
        half = (group.units + 1) // 2  # half a unit is rounded up
        exact = planted(group.layer)  # all that is removed if the activation's slope is unbounded
        assert len(group.removed) in (half, exact)
    pruned = plan.apply(model)
    assert pruned.count_params() == plan.parameters[1] < model.count_params()
    assert isinstance(pruned, keras.Sequential) == isinstance(model, keras.Sequential)
    if load is None:
        return
    pruned.save(path / "pruned.keras")
    loaded = keras.saving.load_model(path / "pruned.keras", **load)
    x = draw(pruned)
    assert_agree(run(loaded, x), run(pruned, x), bound)
