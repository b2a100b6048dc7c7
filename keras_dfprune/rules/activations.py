"""Describe an activation: largest slope, monotone or not, homogeneous or not, kinks.

Lemma 1 of Srinivas & Babu 2015 needs the slope: `(h(a) - h(b))^2 <= slope^2 (a - b)^2`. A table
holds the properties of Keras's activations; those of any other callable are measured.
"""

import bisect
import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_dfprune.rules.activation_check import NotElementwise, call, check_elementwise
from keras_dfprune.rules.activation_curve import kinks_and_pieces, measure

__all__ = ["LINEAR", "Activation", "NotElementwise", "affine", "compose", "describe"]


@dataclasses.dataclass(frozen=True, eq=False)
class Activation:
    """Element-wise function with the properties that the pruning methods use.

    Attributes:
        name: Name in reports: `"relu"`, `"<lambda>"`, `"relu then tanh"`.
        function: Function from tensors of shape `(..., units)` to tensors of the same shape.
        slope: Upper bound of the absolute slope; `math.inf` if it is unbounded or the values jump.
        monotone: Whether the function never decreases, or never increases.
        homogeneous: Whether `f(c x) = c f(x)` for every `c > 0`.
        at_zero: `f(0)`.
        kinks: Ascending points where the slope (or the value) jumps.
        linear_pieces: `(slope, intercept)` of each of the `len(kinks) + 1` pieces between the
            kinks, from -inf to +inf; `None` if any piece is curved.
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
        """Apply the function to an array.

        Args:
            array: Float array, shape `(..., units)`.

        Returns:
            Float array of the same shape and dtype, NaN where `array` is; computed in float32 if
            `function` takes no other dtype.
        """
        array = np.asarray(array)
        if array.dtype.kind != "f":
            array = array.astype(np.float32)
        try:
            result = call(self.function, array)
        except Exception:  # A function with float32 constants inside takes no other dtype.
            result = call(self.function, array.astype(np.float32))
        result = result.astype(array.dtype)
        result[np.isnan(array)] = np.nan  # A comparison inside the function would hide it.
        return result


_SELU = 1.0507009873554805 * 1.6732632423543772
# name: (largest slope, monotone, f(0), kinks). The slopes are exact except those of gelu, silu and
# mish, which are taken at the root of the second derivative and rounded up.
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
# name: (kinks, (slope, intercept) of each piece, continuous or not). All are monotone.
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
    """Return a Keras activation of straight pieces."""
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
    """Return a Keras activation with at least one curved piece."""
    slope, monotone, at_zero, kinks = _CURVED[name]
    return Activation(name, keras.activations.get(name), slope, monotone, False, at_zero, kinks)


_BY_FUNCTION = {keras.activations.get(name): _known_straight(name) for name in _STRAIGHT}
_BY_FUNCTION |= {keras.activations.get(name): _known_curved(name) for name in _CURVED}
_REFUSED = {keras.activations.get(name): reason for name, reason in _MIXING.items()}
LINEAR = _BY_FUNCTION[keras.activations.linear]


def describe(function: Callable | None, units: int = 8) -> Activation:
    """Describe an activation: by the table if Keras defines it, else by measuring it.

    Args:
        function: `None` (linear), a Keras activation, or any callable on tensors `(..., units)`.
        units: The layer's width, at least 1. The function is measured at this width, because it
            may work at no other.

    Returns:
        The `Activation`. Its `slope` is an upper bound, `math.inf` if none was found.

    Raises:
        NotElementwise: If a value depends on anything but its own input.

    Examples:
        >>> describe(keras.activations.relu).homogeneous
        True
    """
    if function is None:
        return LINEAR
    try:
        known, reason = _BY_FUNCTION.get(function), _REFUSED.get(function)
    except TypeError:  # An unhashable callable is not one of Keras's.
        known = reason = None
    if reason is not None:
        raise NotElementwise(reason)
    return known if known is not None else _measured(function, units)


def _measured(function: Callable, units: int) -> Activation:
    """Check that a callable is element-wise and measure its properties."""
    is_layer = isinstance(function, keras.layers.Layer)
    tested = _float32_copy(function, units) if is_layer else function
    check_elementwise(tested, units)
    return Activation(_name(function), tested, **vars(measure(tested, units)))


def _float32_copy(layer: keras.layers.Layer, units: int) -> keras.layers.Layer:
    """Copy an activation layer in float32, to measure the copy.

    Calling the model's own layer could build it, and would round to the layer's dtype.
    """
    try:
        copy = type(layer).from_config(layer.get_config() | {"dtype": "float32"})
        copy(np.zeros((1, units), np.float32))  # A PReLU makes its variables when first called.
    except Exception as error:  # A custom layer without a config is measured itself.
        if not layer.built:  # which would build it
            raise NotElementwise("it is a layer that can't be made anew from its config") from error
        copy = layer
    if layer.variables or copy.variables:
        raise NotElementwise("it holds variables of its own")
    return copy


def _name(function: Callable) -> str:
    """Return a callable's name for reports."""
    if isinstance(function, functools.partial):
        return _name(function.func)
    return getattr(function, "__name__", type(function).__name__)


def compose(first: Activation, second: Activation) -> Activation:
    """Describe `second(first(x))` with properties that hold for certain.

    Args:
        first: Activation applied first.
        second: Activation applied to the result of `first`.

    Returns:
        If one of them is linear, the other. Else an activation whose slope is the product of both
        slopes; it is monotone and homogeneous only if both are.
    """
    if first.linear_pieces == LINEAR.linear_pieces:
        return second
    if second.linear_pieces == LINEAR.linear_pieces:
        return first
    product = 0.0 if 0.0 in (first.slope, second.slope) else first.slope * second.slope

    def composed(x: Any) -> Any:
        return second.function(first.function(x))

    try:
        kinks, pieces = kinks_and_pieces(composed)
    except NotElementwise:  # It overflows, as the exponential of an exponential does.
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


def affine(scale: np.ndarray, shift: np.ndarray) -> Activation:
    """Describe a scale and shift of each unit between two activations."""
    return Activation(
        name="affine",
        function=lambda x: x * keras.ops.cast(scale, x.dtype) + keras.ops.cast(shift, x.dtype),
        slope=float(np.abs(scale).max()),
        monotone=bool(np.all(scale >= 0) or np.all(scale <= 0)),
        homogeneous=not np.any(shift),
        at_zero=float(shift[0]),
    )
