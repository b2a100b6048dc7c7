"""Check that a callable is the same function of one value at every position.

The check is deterministic, in float32 and eager. The error says what was observed.
"""

import math
from collections.abc import Callable, Iterator

import keras
import numpy as np

from keras_dfprune.report.short_message import short_message

EPS = float(np.finfo(np.float32).eps)
CHECKED = 16.0  # the function must be finite on [-CHECKED, CHECKED]


class NotElementwise(ValueError):
    """Error raised for an activation that isn't element-wise; the message is a clause."""


def call(function: Callable, array: np.ndarray) -> np.ndarray:
    """Call a function on a tensor made from an array, shape `(..., units)`, in its dtype."""
    return np.asarray(function(keras.ops.convert_to_tensor(array, dtype=str(array.dtype))))


def check_elementwise(function: Callable, units: int = 8) -> None:
    """Check that a function is the same function of one value at every position.

    Args:
        function: Function on float32 tensors of ranks 2, 3 and 4.
        units: Size of the last axis, at least 1. The function is called on narrower tensors too,
            because the pruned layer is narrower.

    Raises:
        NotElementwise: If it isn't. The message says what was observed.
    """
    units = max(units, 2)  # with one unit no mixing would show
    rows = 16 * max(1, math.ceil(64 / units))
    generator = np.random.default_rng(0)
    inputs = _draw(generator, (rows, units))
    outputs = _outputs(function, inputs)
    if _differ(outputs, _outputs(function, inputs)):
        raise NotElementwise("two calls on the same input differ (random, or it keeps a state)")
    for axis, name in ((1, "units (softmax-like)"), (0, "rows of the batch")):
        if _mixes(function, inputs, outputs, axis, generator):
            raise NotElementwise(f"each value depends on the other {name}")
    if not np.all(np.isfinite(outputs)):
        raise NotElementwise(f"it is not finite on [-{CHECKED:g}, {CHECKED:g}]")
    for axis, name in ((1, "unit"), (0, "row of the batch")):
        rolled = _outputs(function, np.roll(inputs, 1, axis))
        if _differ(np.roll(outputs, 1, axis), rolled):
            raise NotElementwise(f"each {name} has a function of its own")
    for shape in ((4, rows // 4, units), (4, 4, rows // 16, units)):
        if _differ(outputs.reshape(shape), _outputs(function, inputs.reshape(shape))):
            raise NotElementwise(f"the values depend on the position at rank {len(shape)}")
    for width in sorted({units // 2, units - 1}):
        if _differ(outputs[:, :width], _outputs(function, inputs[:, :width])):
            raise NotElementwise("the values depend on the number of units")


def _mixes(
    function: Callable,
    inputs: np.ndarray,
    outputs: np.ndarray,
    axis: int,
    generator: np.random.Generator,
) -> bool:
    """Return whether outputs change when only inputs elsewhere along an axis change."""
    for mask in _masks(inputs.shape[axis]):
        changed = inputs.copy()
        view, unchanged = np.moveaxis(changed, axis, 0), np.nonzero(~mask)[0]
        view[mask] = _draw(generator, view[mask].shape)
        received = _outputs(function, changed)
        if _differ(outputs.take(unchanged, axis), received.take(unchanged, axis)):
            return True
    return False


def _draw(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw half of the values near zero, where activations bend, and half over the whole range."""
    near, wide = generator.normal(size=shape), generator.uniform(-CHECKED, CHECKED, shape)
    return np.where(generator.random(shape) < 0.5, near, wide).astype(np.float32)


def _masks(size: int) -> Iterator[np.ndarray]:
    """Iterate over masks that separate every ordered pair of positions: the bits of the index."""
    for bit in range((size - 1).bit_length()):
        ones = (np.arange(size) >> bit) % 2 == 1
        yield ones
        yield ~ones


def _outputs(function: Callable, inputs: np.ndarray) -> np.ndarray:
    """Return the outputs of a function as float32.

    Raises:
        NotElementwise: If it fails, or its outputs have another shape or dtype.
    """
    try:
        outputs = call(function, inputs)
    except Exception as error:
        reason = f"{type(error).__name__}: {short_message(error)}"
        raise NotElementwise(f"on shape {inputs.shape} it raised {reason}") from error
    if outputs.shape != inputs.shape:
        raise NotElementwise(f"it turns shape {inputs.shape} into {outputs.shape}")
    if outputs.dtype.kind in "biuc":
        raise NotElementwise(f"it turns float32 into {outputs.dtype}")
    return outputs.astype(np.float32)


def _differ(expected: np.ndarray, received: np.ndarray) -> bool:
    """Return whether two arrays differ by more than rounding.

    The vectorised and the scalar code of one operation may round differently: by a few eps of 16.
    """
    return not np.allclose(expected, received, rtol=1e-5, atol=16 * EPS, equal_nan=True)
