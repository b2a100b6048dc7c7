"""Recognize the activation that an operation ends with, and make a copy without it."""

from collections.abc import Callable

import keras
import numpy as np

from keras_dfprune.graph.keras_private import detached, is_stock

Axis = int | tuple[int, ...]

# Layers that apply their `activation` last. Subclasses with a `call` of their own may not.
_WITH_ACTIVATION = (
    keras.layers.Dense,
    keras.layers.EinsumDense,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
)
_ACTIVATION_LAYERS = (
    keras.layers.Activation,
    keras.layers.ReLU,
    keras.layers.LeakyReLU,
    keras.layers.PReLU,
    keras.layers.ELU,
    keras.layers.Softmax,
)
# The classes of operations such as `keras.ops.softmax(x)`.
_ACTIVATION_OPERATIONS = frozenset(
    (
        "Celu", "Elu", "Gelu", "HardShrink", "HardSigmoid", "HardSilu", "HardTanh", "LeakyRelu",
        "LogSigmoid", "LogSoftmax", "Mish", "ReLU", "Relu", "Relu6", "Selu", "Sigmoid", "Silu",
        "SoftShrink", "Softmax", "Softplus", "Softsign", "SparsePlus", "SparseSigmoid", "Sparsemax",
        "Squareplus", "Tanh", "TanhShrink", "Threshold",
    )
)  # fmt: skip
# Layers behind an activation that return its values at inference, perhaps in other positions.
_PASSING = (
    keras.layers.ActivityRegularization,
    keras.layers.AlphaDropout,
    keras.layers.Concatenate,
    keras.layers.Dropout,
    keras.layers.Flatten,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.Identity,
    keras.layers.Permute,
    keras.layers.Reshape,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
)


def passes_values(operation: keras.Operation) -> bool:
    """Return whether a layer returns the values that it gets, perhaps in other positions."""
    if isinstance(operation, keras.layers.Activation):
        return _calls_as(operation, keras.layers.Activation) and _is_linear(operation.activation)
    return any(_calls_as(operation, kind) for kind in _PASSING)


def is_activation(operation: keras.Operation) -> bool:
    """Return whether an operation is an activation and nothing else."""
    operation = _unwrapped(operation)
    if isinstance(operation, keras.layers.Activation) and not _keeps_shape(operation.activation):
        return False
    if isinstance(operation, keras.Layer):
        return any(_calls_as(operation, kind) for kind in _ACTIVATION_LAYERS)
    return is_stock(operation) and type(operation).__name__ in _ACTIVATION_OPERATIONS


def linear_copy(operation: keras.Operation) -> keras.Operation | None:
    """Return a copy of a layer without its built-in activation; None if it has none."""
    inner = _unwrapped(operation)
    if not any(_calls_as(inner, kind) for kind in _WITH_ACTIVATION):
        return None
    if _is_linear(inner.activation) or not _keeps_shape(inner.activation):
        return None
    linear = detached(inner)
    vars(linear)["activation"] = keras.activations.linear
    if inner is operation:
        return linear
    wrapper = detached(operation)
    vars(wrapper)["layer"] = linear
    return wrapper


def softmax_axis(operation: keras.Operation) -> Axis | None:
    """Return the axes along which an activation ignores an added constant; None without any."""
    inner = _unwrapped(operation)
    axis = _own_softmax_axis(inner)
    if axis is None or inner is operation:
        return axis
    axes = axis if isinstance(axis, tuple) else (axis,)
    return tuple(axis + 1 if axis >= 0 else axis for axis in axes)  # TimeDistributed adds an axis


def _own_softmax_axis(operation: keras.Operation) -> Axis | None:
    function = getattr(operation, "activation", operation)
    axis = getattr(function, "axis", -1)
    if isinstance(function, keras.Operation):
        if type(function).__name__ not in ("Softmax", "LogSoftmax", "Sparsemax"):
            return None
        return tuple(axis) if isinstance(axis, list | tuple) else axis
    return -1 if _ignores_constants(function) else None


_ROW = np.array([[-1.3, 0.2, 0.9, 0.1]], np.float32)


def _ignores_constants(function: Callable) -> bool:
    """Return whether a function is the same if a constant is added to a row, as softmax is."""
    one, other = _values(function, _ROW), _values(function, _ROW + 1)
    return one.shape == _ROW.shape and bool(np.allclose(one, other, rtol=1e-4, atol=1e-6))


def _keeps_shape(function: Callable) -> bool:
    """Return whether a function returns a value for each value: glu returns half as many."""
    return _values(function, _ROW).shape == _ROW.shape


def _values(function: Callable, row: np.ndarray) -> np.ndarray:
    """Return the values of a function, none if it fails."""
    try:
        return np.asarray(function(keras.ops.convert_to_tensor(row)))
    except Exception:  # whatever the user's function raises
        return np.full(0, np.nan)


def _unwrapped(operation: keras.Operation) -> keras.Operation:
    """Return the layer that a `TimeDistributed` calls at each position, or the operation itself."""
    is_wrapper = _calls_as(operation, keras.layers.TimeDistributed)
    return operation.layer if is_wrapper else operation


def _calls_as(operation: keras.Operation, kind: type[keras.Layer]) -> bool:
    """Return whether a layer is of a kind, and no subclass with a `call` of its own."""
    return isinstance(operation, kind) and type(operation).call is kind.call


def _is_linear(function: Callable | None) -> bool:
    return function is None or function is keras.activations.linear
