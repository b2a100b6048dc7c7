"""The answers of two models on the same values, at several weights and in training, compared."""

from typing import Any

import keras
import numpy as np

from keras_dfprune.graph.keras_private import all_layers
from keras_dfprune.graph.recreate import VariablePair
from keras_dfprune.inputs.sample_inputs import draw_samples

# Both run the same operations on the same values; half precision may round in another order.
_TOLERANCE = {"float16": 1e-2, "bfloat16": 5e-2}
_TOLERANCE_ELSE = 1e-5
_CHANGED = ", once the weights change: what it makes of weights and constants alone is fixed there"


def difference(
    model: keras.Model, new: keras.Model, symbols: Any, variables: list[VariablePair]
) -> str | None:
    """How the answers of a functional model differ from the original's.

    Compared at inference and in training, at the weights as they are and at others: a weight that
    was read outside of a layer is a mere constant in the functional model.

    Args:
        model: The original. It is not changed.
        new: The functional model made of it.
        symbols: The inputs, in the structure that both take.
        variables: Each variable of the original's layers with that of the functional model.

    Returns:
        What is wrong, or None.
    """
    try:
        samples = draw_samples(new)
    except ValueError as error:
        return f"it could not be compared with the original: {error}"
    tensors = [keras.ops.convert_to_tensor(value) for value in samples.values()]
    x = keras.tree.pack_sequence_as(symbols, tensors)
    random = np.random.default_rng(0)
    olds = {id(part): part for layer in all_layers(model) for part in layer.variables}
    own = {key: variable.numpy() for key, variable in olds.items()}
    other = {key: _changed(value, random) for key, value in own.items()}
    for values, words in ((own, ""), (other, _CHANGED)):
        for training in (False, True):
            mine = [(pair.new, values[id(pair.old)]) for pair in variables]
            theirs = [(variable, values[key]) for key, variable in olds.items()]
            received = _answers(new, x, training, mine, [pair.new for pair in variables])
            expected = _answers(model, x, training, theirs, [pair.old for pair in variables])
            if not _agree(expected, received):
                mode = "in training" if training else "at inference"
                return f"run on symbolic inputs it computes something else {mode}{words}"
    return None


def _changed(value: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Other values, positive ones still positive; counters and random states as they are."""
    if value.dtype.kind in "iub":
        return value
    shift = random.uniform(0.0, 0.1, value.shape)
    return (value * random.uniform(0.5, 1.5, value.shape) + shift).astype(value.dtype)


def _answers(model, x, training: bool, state, watched) -> list[np.ndarray]:
    """Outputs, the sum of the losses and the updated variables of a call that changes nothing."""
    with keras.StatelessScope(state, collect_losses=True) as scope:
        outputs = model(x, training=training)
        losses = [float(loss) for loss in model.losses]
        updated = [scope.get_current_value(variable) for variable in watched]
    found = [*keras.tree.flatten(outputs), sum(losses), *updated]
    return [np.asarray(keras.ops.convert_to_tensor(value)) for value in found]


def _agree(expected: list[np.ndarray], received: list[np.ndarray]) -> bool:
    if len(expected) != len(received):
        return False
    for a, b in zip(expected, received, strict=True):
        bound = _TOLERANCE.get(a.dtype.name, _TOLERANCE_ELSE)
        if a.shape != b.shape or a.dtype != b.dtype:
            return False
        if a.dtype.kind not in "fV":
            if not np.array_equal(a, b):
                return False
            continue
        a, b = a.astype(np.float64), b.astype(np.float64)
        if not np.array_equal(np.isfinite(a), np.isfinite(b)):
            return False
        a, b = (np.nan_to_num(one, posinf=0, neginf=0) for one in (a, b))
        if not np.abs(a - b).max(initial=0) <= bound * max(np.abs(a).max(initial=0), 1e-30):
            return False
    return True
