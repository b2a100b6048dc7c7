"""Define the rules of Keras operations: element-wise functions and arithmetic."""

from typing import Any

import keras
import numpy as np

from keras_dfprune.graph.calls import Call, Tensor
from keras_dfprune.rules.activation_layers import check_axis
from keras_dfprune.rules.activations import describe
from keras_dfprune.rules.base import Barrier, ElementwiseRule
from keras_dfprune.rules.effects import Affine, Join, Nonlinear
from keras_dfprune.rules.features import Stream
from keras_dfprune.rules.joining import join, join_of
from keras_dfprune.rules.layer_state import Cut, LayerState


class ElementwiseOperationRule(ElementwiseRule):
    """Unary operations such as `keras.ops.relu(x)`, described by what they compute."""

    names = (
        "Abs", "Absolute", "Arctan", "Arcsinh", "Celu", "Cos", "Elu", "Erf", "Exp", "Expm1",
        "Exponential", "Gelu", "HardShrink", "HardSigmoid", "HardSilu", "HardTanh", "LeakyRelu",
        "LogSigmoid", "Mish", "Negative", "Relu", "Relu6", "Selu", "Sigmoid", "Silu", "Sin",
        "Sinh", "SoftShrink", "Softplus", "Softsign", "SparsePlus", "SparseSigmoid", "Square",
        "Squareplus", "Tanh", "TanhShrink", "Threshold", "Clip", "Softmax", "LogSoftmax",
        "Sparsemax",
    )  # fmt: skip

    def config(self, operation: keras.Operation) -> dict[str, Any]:
        return {}

    def effect(self, call: Call, state: LayerState) -> Nonlinear:
        check_axis(call)
        width = call.inputs[0].shape[-1] or 8

        def function(x: Any) -> Any:
            args, kwargs = keras.tree.map_structure(
                lambda value: x if isinstance(value, Tensor) else value, (call.args, call.kwargs)
            )
            return call.operation.call(*args, **kwargs)

        return Nonlinear(describe(function, width))


class ArithmeticRule(ElementwiseRule):
    """`x + c`, `x - c`, `c - x`, `x * c` and `x / c` with a number, or one number per feature.

    Also `x + y`, `x - y` and `x * y` of two tensors, which are joined as by the layers `Add`,
    `Subtract` and `Multiply`.
    """

    names = ("Add", "Subtract", "Multiply", "Divide", "TrueDivide")
    follows_input = True

    def config(self, operation: keras.Operation) -> dict[str, Any]:
        return {}

    def carry(self, call: Call, streams: list[Stream | None]) -> Stream | None:
        if len(streams) < 2:
            return super().carry(call, streams)
        if _kind(call) in ("Divide", "TrueDivide") and any(
            stream is not None for stream in streams
        ):
            raise Barrier("divides one tensor by another")
        return join(self, call, streams)

    def check(self, call: Call, stream: Stream) -> None:
        if not isinstance(call.args[0], Tensor) and _kind(call) in ("Divide", "TrueDivide"):
            raise Barrier("divides a constant by the units")
        shape = np.shape(_constant(call))
        rank = len(call.inputs[0].shape)
        last = stream.axis == rank - 1
        if np.prod(shape) != 1 and not (last and shape[-1:] == (np.prod(shape),)):
            raise Barrier("combines the units with a constant that differs between positions")
        if len(shape) > rank or tuple(call.outputs[0].shape) != tuple(call.inputs[0].shape):
            raise Barrier("changes the tensor's shape")

    def effect(self, call: Call, state: LayerState) -> Affine | Join:
        if len(call.inputs) > 1:
            return join_of(call)
        constant = np.asarray(_constant(call), np.float64).reshape(-1)
        kind, tensor_first = _kind(call), isinstance(call.args[0], Tensor)
        one, zero = np.ones_like(constant), np.zeros_like(constant)
        if kind == "Add":
            return Affine(one, constant)
        if kind == "Subtract":
            return Affine(one, -constant) if tensor_first else Affine(-one, constant)
        return Affine(constant if kind == "Multiply" else 1 / constant, zero)

    def narrow_arguments(self, args: tuple, kwargs: dict, cut: Cut) -> tuple[tuple, dict]:
        def narrow(value: Any) -> Any:
            symbolic = isinstance(value, keras.KerasTensor)
            if cut.inputs is None or symbolic or np.shape(value)[-1:] != (len(cut.inputs),):
                return value
            return np.compress(cut.inputs, np.asarray(value), axis=-1)

        return tuple(narrow(value) for value in args), kwargs


def _kind(call: Call) -> str:
    return type(call.operation).__name__


def _constant(call: Call) -> Any:
    constants = [value for value in call.args if not isinstance(value, Tensor)]
    if len(call.args) != 2 or len(constants) != 1 or call.kwargs:
        raise Barrier("combines the units with something other than a constant")
    return constants[0]
