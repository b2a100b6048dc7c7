"""A callable into a verdict: is it the same function of one value everywhere?

Deterministic, in float32 and eager; a refusal says what was seen.
"""

import math
import re
from collections.abc import Callable, Iterator

import keras
import numpy as np

EPS = float(np.finfo(np.float32).eps)
CHECKED = 16.0  # it must be finite on +-16


class NotElementwise(ValueError):
    """Not an element-wise activation; the message is a clause that says what was seen."""


def call(function: Callable, array: np.ndarray) -> np.ndarray:
    """Calls `function` on a tensor of `array`, shape `(..., units)`, in the array's dtype."""
    return np.asarray(function(keras.ops.convert_to_tensor(array, dtype=str(array.dtype))))


def check_elementwise(function: Callable, units: int = 8) -> None:
    """Refuses a function that is not the same function of one value everywhere.

    Args:
        function: Called on float32 tensors of ranks 2, 3 and 4.
        units: Size of the last axis, at least 1; narrower tensors are tried too, because the
            layer will be: a function made for one width only is refused.

    Raises:
        NotElementwise: With what was seen.
    """
    units = max(units, 2)  # one unit alone can show no mixing
    rows = 16 * max(1, math.ceil(64 / units))
    generator = np.random.default_rng(0)
    inputs = _draw(generator, (rows, units))
    outputs = _seen(function, inputs)
    if _differ(outputs, _seen(function, inputs)):
        raise NotElementwise("two calls on the same input differ (random, or it keeps a state)")
    for axis, others in ((1, "units (softmax-like)"), (0, "rows of the batch")):
        for mask in _masks(inputs.shape[axis]):
            fresh = inputs.copy()
            view, kept = np.moveaxis(fresh, axis, 0), np.nonzero(~mask)[0]
            view[mask] = _draw(generator, view[mask].shape)
            if _differ(outputs.take(kept, axis), _seen(function, fresh).take(kept, axis)):
                raise NotElementwise(f"each value depends on the other {others}")
    for axis, what in ((1, "unit"), (0, "row of the batch")):
        rolled = _seen(function, np.roll(inputs, 1, axis))
        if _differ(np.roll(outputs, 1, axis), rolled):
            raise NotElementwise(f"each {what} has a function of its own")
    for shape in ((4, rows // 4, units), (4, 4, rows // 16, units)):
        if _differ(outputs.reshape(shape), _seen(function, inputs.reshape(shape))):
            raise NotElementwise(f"the values depend on the position at rank {len(shape)}")
    for width in sorted({units // 2, units - 1}):
        if _differ(outputs[:, :width], _seen(function, inputs[:, :width])):
            raise NotElementwise("the values depend on the number of units")


def _draw(generator: np.random.Generator, shape: tuple) -> np.ndarray:
    """Half of the values near zero, where activations bend; half spread over the checked range."""
    near, wide = generator.normal(size=shape), generator.uniform(-CHECKED, CHECKED, shape)
    return np.where(generator.random(shape) < 0.5, near, wide).astype(np.float32)


def _masks(size: int) -> Iterator[np.ndarray]:
    """Masks such that every ordered pair of positions is split by one: the bits of the index."""
    for bit in range((size - 1).bit_length()):
        ones = (np.arange(size) >> bit) % 2 == 1
        yield ones
        yield ~ones


def _seen(function: Callable, inputs: np.ndarray) -> np.ndarray:
    try:
        outputs = call(function, inputs)
    except Exception as error:
        text = re.sub(r"\{\{.*?\}\}", "", str(error)).strip()  # TensorFlow's node names
        reason = f"{type(error).__name__}: {text.splitlines()[0][:80] if text else 'no message'}"
        raise NotElementwise(f"on shape {inputs.shape} it raised {reason}") from error
    if outputs.shape != inputs.shape:
        raise NotElementwise(f"it turns shape {inputs.shape} into {outputs.shape}")
    if outputs.dtype.kind in "biuc":
        raise NotElementwise(f"it turns float32 into {outputs.dtype}")
    outputs = outputs.astype(np.float32)
    if not np.all(np.isfinite(outputs)):
        raise NotElementwise(f"it is not finite on [-{CHECKED:g}, {CHECKED:g}]")
    return outputs


def _differ(expected: np.ndarray, received: np.ndarray) -> bool:
    # The vectorised and the scalar code of one operation may round differently: a few eps of 16.
    return not np.allclose(expected, received, rtol=1e-5, atol=16 * EPS)
