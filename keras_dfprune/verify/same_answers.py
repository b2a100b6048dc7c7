"""Check that a functional model computes what the model computes that it was made of."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_dfprune.graph.compare_outputs import compare_output, is_float
from keras_dfprune.graph.further_state import keeps_state
from keras_dfprune.graph.keras_private import all_layers
from keras_dfprune.graph.recreate import VariablePair
from keras_dfprune.inputs.model_inputs import compiled_if_recurrent
from keras_dfprune.inputs.sample_inputs import draw_samples

# Largest difference allowed, relative to the largest value, by dtype. Both models run the same
# operations on the same values; half precision may round in another order.
_TOLERANCE = {"float16": 1e-2, "bfloat16": 5e-2}
_TOLERANCE_ELSE = 1e-5
_SMALLEST_SCALE = 1e-30
_CHANGED = ", once the weights change: what it makes of weights and constants alone is fixed there"


def find_output_mismatch(
    model: keras.Model, new: keras.Model, symbols: Any, pairs: Sequence[VariablePair]
) -> str | None:
    """Find a difference between what a functional model computes and what the original computes.

    The models are compared at inference and in training, at the weights as they are and at other
    weights: a weight that is read outside of a layer is a constant in the functional model.

    Args:
        model: The original. It is not changed.
        new: The functional model made of it.
        symbols: The inputs, in the structure that both take.
        pairs: Each variable of the original's layers with that of the functional model.

    Returns:
        The difference as a clause for a message; None without any.
    """
    try:
        samples = draw_samples(new)
    except ValueError as error:
        return f"it could not be compared with the original: {error}"
    tensors = [keras.ops.convert_to_tensor(value) for value in samples.values()]
    x = keras.tree.pack_sequence_as(symbols, tensors)
    random = np.random.default_rng(0)
    variables = {id(part): part for layer in all_layers(model) for part in layer.variables}
    present = {key: variable.numpy() for key, variable in variables.items()}
    changed = {key: _change(value, random) for key, value in present.items()}
    originals = _Caller(model, list(variables.values()), [pair.old for pair in pairs], x)
    copies = _Caller(new, [pair.new for pair in pairs], [pair.new for pair in pairs], x)
    for values, condition in ((present, ""), (changed, _CHANGED)):
        for training in (False, True):
            received = copies.call([values[id(pair.old)] for pair in pairs], training)
            expected = originals.call(list(values.values()), training)
            if not _agree(expected, received):
                mode = "in training" if training else "at inference"
                return f"run on symbolic inputs it computes something else {mode}{condition}"
    return None


def _change(value: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return other values, positive ones still positive. Counters and random states stay."""
    if value.dtype.kind in "iub":
        return value
    shift = random.uniform(0.0, 0.1, value.shape)
    return (value * random.uniform(0.5, 1.5, value.shape) + shift).astype(value.dtype)


class _Caller:
    """Caller of a model that doesn't change it.

    Args:
        model: The model. A recurrent one is compiled.
        variables: Variables that get other values during a call.
        watched: Variables whose values after a call are returned.
        x: The model's inputs.
    """

    def __init__(
        self,
        model: keras.Model,
        variables: list[keras.Variable],
        watched: list[keras.Variable],
        x: Any,
    ):
        self._model, self._variables, self._watched, self._x = model, variables, watched, x
        self._functions: dict[bool, Callable] = {}

    def call(self, values: list[np.ndarray], training: bool) -> list[np.ndarray]:
        """Return the outputs, the sum of the losses, and the values of the watched variables.

        Args:
            values: Values for the variables during the call.
            training: Whether to call the model in training.
        """
        tensors = [
            keras.ops.convert_to_tensor(value, variable.dtype)
            for value, variable in zip(values, self._variables, strict=True)
        ]
        with keeps_state(self._model):
            if training not in self._functions:
                self._functions[training] = compiled_if_recurrent(
                    self._model, lambda *values: self._call(values, training), *tensors
                )
            return [np.asarray(value) for value in self._functions[training](*tensors)]

    def _call(self, values: Sequence[Any], training: bool) -> list[Any]:
        state = list(zip(self._variables, values, strict=True))
        with keras.StatelessScope(state, collect_losses=True) as scope:
            outputs = self._model(self._x, training=training)
            losses = [keras.ops.cast(loss, "float32") for loss in self._model.losses]
            updated = [scope.get_current_value(variable) for variable in self._watched]
        results = [*keras.tree.flatten(outputs), sum(losses), *updated]
        return [keras.ops.convert_to_tensor(value) for value in results]


def _agree(expected: list[np.ndarray], received: list[np.ndarray]) -> bool:
    return len(expected) == len(received) and all(map(_is_equal, expected, received))


def _is_equal(expected: np.ndarray, received: np.ndarray) -> bool:
    """Return whether two arrays have the same dtype and shape, and are equal but for rounding."""
    if expected.dtype != received.dtype:
        return False
    difference = compare_output(expected, received, strict_nonfinite=False)
    if not is_float(expected):
        return difference.absolute == 0
    tolerance = _TOLERANCE.get(expected.dtype.name, _TOLERANCE_ELSE)
    return difference.absolute <= tolerance * max(difference.scale, _SMALLEST_SCALE)
