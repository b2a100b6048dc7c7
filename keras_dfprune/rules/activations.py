"""An activation into its properties: element-wise, largest slope, monotone, homogeneous, kinks.

Lemma 1 of Srinivas & Babu 2015 needs the slope: `(h(a) - h(b))^2 <= slope^2 (a - b)^2`. Known Keras
activations have theirs in a table; any other callable is measured by a deterministic probe.
"""

import bisect
import dataclasses
import functools
import math
from collections.abc import Callable

import keras
import numpy as np

from keras_dfprune.rules.activation_check import NotElementwise, call, check_elementwise
from keras_dfprune.rules.activation_curve import kinks_and_pieces, measure

__all__ = ["LINEAR", "Activation", "NotElementwise", "compose", "describe"]


@dataclasses.dataclass(frozen=True, eq=False)
class Activation:
    """One element-wise function and what the pruning methods must know of it.

    Attributes:
        name: What to call it in reports: `"relu"`, `"<lambda>"`, `"relu then tanh"`.
        function: On tensors of shape `(..., units)`, returns the same shape.
        slope: Upper bound of the absolute slope; `math.inf` where unbounded or jumping.
        monotone: Whether it never decreases, or never increases.
        homogeneous: Whether `f(c x) = c f(x)` for every `c > 0`.
        at_zero: `f(0)`.
        kinks: Ascending points where the slope (or the value) jumps.
        linear_pieces: `(slope, intercept)` of each of the `len(kinks) + 1` pieces between kinks,
            from -inf to +inf; `None` if any piece is curved.
    """

    name: str
    function: Callable
    slope: float
    monotone: bool
    homogeneous: bool
    at_zero: float
    kinks: tuple[float, ...] = ()
    linear_pieces: tuple[tuple[float, float], ...] | None = None

    def values(self, array: np.ndarray) -> np.ndarray:
        """Applies the function.

        Args:
            array: Float array, shape `(..., units)`.

        Returns:
            Float array of the same shape and dtype; computed in float32 where `function` takes
            no other dtype.
        """
        array = np.asarray(array)
        if array.dtype.kind != "f":
            array = array.astype(np.float32)
        try:
            result = call(self.function, array)
        except Exception:  # a function with float32 constants inside refuses other dtypes
            result = call(self.function, array.astype(np.float32))
        return result.astype(array.dtype)


# name: (largest slope, monotone, f(0), kinks). The slopes are exact, but for gelu, silu and mish,
# whose largest slope lies at the root of the second derivative (upper bounds, rounded up).
_SELU = 1.0507009873554805 * 1.6732632423543772
_CURVED = {
    "elu": (1.0, True, 0.0, ()),
    "celu": (1.0, True, 0.0, ()),
    "selu": (_SELU, True, 0.0, (0.0,)),
    "gelu": (1.12905, False, 0.0, ()),
    "silu": (1.09985, False, 0.0, ()),
    "mish": (1.08885, False, 0.0, ()),
    "hard_silu": (1.5, False, 0.0, (-3.0, 3.0)),
    "tanh": (1.0, True, 0.0, ()),
    "tanh_shrink": (1.0, True, 0.0, ()),
    "sigmoid": (0.25, True, 0.5, ()),
    "log_sigmoid": (1.0, True, -math.log(2.0), ()),
    "softplus": (1.0, True, math.log(2.0), ()),
    "squareplus": (1.0, True, 1.0, ()),
    "sparse_plus": (1.0, True, 0.25, ()),
    "softsign": (1.0, True, 0.0, ()),
    "exponential": (math.inf, True, 1.0, ()),
}
# name: (kinks, (slope, intercept) of each piece, whether it is continuous); all are monotone.
_STRAIGHT = {
    "linear": ((), ((1.0, 0.0),), True),
    "relu": ((0.0,), ((0.0, 0.0), (1.0, 0.0)), True),
    "leaky_relu": ((0.0,), ((0.2, 0.0), (1.0, 0.0)), True),
    "relu6": ((0.0, 6.0), ((0.0, 0.0), (1.0, 0.0), (0.0, 6.0)), True),
    "hard_tanh": ((-1.0, 1.0), ((0.0, -1.0), (1.0, 0.0), (0.0, 1.0)), True),
    "hard_sigmoid": ((-3.0, 3.0), ((0.0, 0.0), (1 / 6, 0.5), (0.0, 1.0)), True),
    "sparse_sigmoid": ((-1.0, 1.0), ((0.0, 0.0), (0.5, 0.5), (0.0, 1.0)), True),
    "soft_shrink": ((-0.5, 0.5), ((1.0, 0.5), (0.0, 0.0), (1.0, -0.5)), True),
    "hard_shrink": ((-0.5, 0.5), ((1.0, 0.0), (0.0, 0.0), (1.0, 0.0)), False),
}
_MIXING = {
    "softmax": "each value depends on the other units (softmax)",
    "log_softmax": "each value depends on the other units (log_softmax)",
    "sparsemax": "each value depends on the other units (sparsemax)",
    "glu": "one half of the units gates the other (glu)",
}


def _known_straight(name: str) -> Activation:
    kinks, pieces, continuous = _STRAIGHT[name]
    return Activation(
        name,
        keras.activations.get(name),
        slope=max(abs(slope) for slope, _ in pieces) if continuous else math.inf,
        monotone=True,
        homogeneous=all(kink == 0 for kink in kinks) and all(b == 0 for _, b in pieces),
        at_zero=pieces[bisect.bisect_left(kinks, 0.0)][1],
        kinks=kinks,
        linear_pieces=pieces,
    )


def _known_curved(name: str) -> Activation:
    slope, monotone, at_zero, kinks = _CURVED[name]
    return Activation(name, keras.activations.get(name), slope, monotone, False, at_zero, kinks)


_KNOWN = {keras.activations.get(name): _known_straight(name) for name in _STRAIGHT}
_KNOWN |= {keras.activations.get(name): _known_curved(name) for name in _CURVED}
_REFUSED = {keras.activations.get(name): reason for name, reason in _MIXING.items()}
LINEAR = _KNOWN[keras.activations.linear]


def describe(function: Callable | None, units: int = 8) -> Activation:
    """Looks an activation up, or measures it.

    Args:
        function: `None` (linear), a Keras activation, or any callable on tensors `(..., units)`.
        units: The layer's width, at least 1: a function may be made for this one only.

    Returns:
        The `Activation`; its `slope` is an upper bound, `math.inf` where none was found.

    Raises:
        NotElementwise: If a value depends on anything but its own input.

    Example:
        >>> describe(keras.activations.relu).homogeneous
        True
    """
    if function is None:
        return LINEAR
    try:
        known, reason = _KNOWN.get(function), _REFUSED.get(function)
    except TypeError:  # an unhashable callable is none of Keras'
        known = reason = None
    if reason is not None:
        raise NotElementwise(reason)
    return known if known is not None else _probe(function, units)


def _probe(function: Callable, units: int) -> Activation:
    is_layer = isinstance(function, keras.layers.Layer)
    probed = _float32_copy(function, units) if is_layer else function
    check_elementwise(probed, units)
    return Activation(_name(function), probed, **vars(measure(probed, units)))


def _float32_copy(layer: keras.layers.Layer, units: int) -> keras.layers.Layer:
    """A layer to measure: calling the model's own could build it, or would round to its dtype."""
    try:
        copy = type(layer).from_config(layer.get_config() | {"dtype": "float32"})
        copy(np.zeros((1, units), np.float32))  # PReLU makes its variables when first called
    except Exception:  # a custom layer without a config: measured as it is
        copy = layer
    if layer.variables or copy.variables:
        raise NotElementwise("it holds variables of its own")
    return copy


def _name(function: Callable) -> str:
    if isinstance(function, functools.partial):
        return _name(function.func)
    return getattr(function, "__name__", type(function).__name__)


def compose(first: Activation, second: Activation) -> Activation:
    """Describes `second(first(x))`, conservatively.

    Args:
        first: Applied first.
        second: Applied to the result of `first`.

    Returns:
        The other one where either is linear; else the product of the slopes, monotone and
        homogeneous only if both are.
    """
    if first.linear_pieces == LINEAR.linear_pieces:
        return second
    if second.linear_pieces == LINEAR.linear_pieces:
        return first
    product = 0.0 if 0.0 in (first.slope, second.slope) else first.slope * second.slope

    def composed(x):
        return second.function(first.function(x))

    try:
        kinks, pieces = kinks_and_pieces(composed)
    except NotElementwise:  # it overflows, as exponential then exponential does
        kinks, pieces = first.kinks, None
    return Activation(
        f"{first.name} then {second.name}",
        composed,
        slope=product,
        monotone=first.monotone and second.monotone,
        homogeneous=first.homogeneous and second.homogeneous,
        at_zero=float(call(composed, np.zeros((1, 1), np.float32))[0, 0]),
        kinks=kinks,
        linear_pieces=pieces,
    )
