"""Define the roles that a layer type can play around a group of units.

A rule is pure: it turns a layer's state (config and arrays) into another state. It knows no graph
and no model. A type without a rule is a barrier: the units that reach it are not pruned.
"""

import abc
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import keras
import numpy as np

from keras_dfprune.graph.calls import Call, Tensor
from keras_dfprune.graph.recreate import read_config
from keras_dfprune.rules.effects import Effect
from keras_dfprune.rules.features import Stream
from keras_dfprune.rules.layer_state import Cut, LayerState, as_array


class Barrier(Exception):
    """Error raised for a call that units can't pass.

    The message completes the sentence "it feeds x, which ...".
    """


class Together(Barrier):
    """Error raised for a call that units pass only if some of them stay or go together.

    Attributes:
        source: Path of their producer.
        units: Int array, shape `(columns,)`: the unit that each column of the producer is then
            part of.
    """

    def __init__(self, message: str, source: str, units: np.ndarray):
        super().__init__(message)
        self.source, self.units = source, units


class Rule(abc.ABC):
    """Knowledge of one operation type.

    Attributes:
        types: The exact layer types that the rule covers.
        names: Names of the Keras operation classes that the rule covers (`keras.ops.relu` is a
            call of a `Relu` operation).
        follows_input: Whether the layer's config depends on the width of its input.
        fills_all_outputs: Whether each of several outputs has the same units. Else units stay whole
            in front of a call with several outputs.
        axes: For each variable that grows with the features, what its axes count: "in" (features
            of the input), "out" (features of the output), "own" (features of the output at the
            step before, which a recurrent layer takes in), a kind of dimensions of a `HeadsRule`,
            or None (anything else). A `...` at the beginning or the end stands for any number of
            None. An axis may hold all features several times, one block after the other (the gates
            of a recurrent layer).
    """

    types: ClassVar[tuple[type, ...]] = ()
    names: ClassVar[tuple[str, ...]] = ()
    follows_input: ClassVar[bool] = False
    fills_all_outputs: ClassVar[bool] = False
    axes: ClassVar[Mapping[str, tuple[Any, ...]]] = {}

    @abc.abstractmethod
    def carry(self, call: Call, streams: list[Stream | None]) -> Stream | None:
        """Follow the units that arrive at a call to its output.

        Args:
            call: The call.
            streams: The units in each tensor of `call.inputs`; None for a tensor without units.

        Returns:
            The `Stream` of the only output. None if no unit passes, because the layer consumes
            them or because none arrive.

        Raises:
            Barrier: If units arrive that can't pass.
        """

    def keeps_values(self, call: Call) -> bool:
        """Return whether the output holds the values of the input in the same order."""
        return False

    def variables(self, operation: keras.Operation) -> dict[str, keras.Variable]:
        """Return the variables named in `axes` that a built layer has, by name.

        In place of a kernel with LoRA weights stands the sum of both, which is a tensor.
        """
        values = {name: getattr(operation, name, None) for name in self.axes}
        return {name: value for name, value in values.items() if value is not None}

    def applications(self, call: Call) -> dict[str, int]:
        """Return how often each kernel is applied to one row, by the kernel's name in `axes`.

        Each entry of a kernel then costs as many multiply-adds. A Dense layer applies its kernel
        once for each vector, a convolution once for each position of its output.

        Raises:
            ValueError: If the number of positions is unknown.
        """
        return {}

    def channel_groups(self, operation: keras.Operation) -> int:
        """Return into how many groups the layer splits its features, each with its own kernel.

        The "in" axis of a kernel then counts the features of one group. Most layers have one.
        """
        return 1

    def config(self, operation: keras.Operation) -> dict[str, Any]:
        """Return the config from which a layer like `operation` can be made."""
        return read_config(operation)

    def read(self, operation: keras.Operation) -> LayerState:
        """Read the config and the arrays of a built layer."""
        arrays = {name: as_array(value) for name, value in self.variables(operation).items()}
        return LayerState(self.config(operation), arrays)

    def why_not_finite(self, operation: keras.Operation) -> str | None:
        """Return the reason to leave a layer whole whose weights are not all finite, or None."""
        arrays = self.read(operation).variables.values()
        if all(np.isfinite(array).all() for array in arrays):
            return None
        return "has weights that are not finite (NaN or infinite)"

    def narrow(self, state: LayerState, cut: Cut) -> LayerState:
        """Cut every axis named in `axes`, and the config accordingly."""
        masks = {"in": cut.inputs, "out": cut.outputs, "own": cut.outputs, **cut.dimensions}
        variables = dict(state.variables)
        for name in variables:
            for axis, role in self.variable_axes(name, variables[name].ndim):
                mask = masks.get(role)
                blocks = 0 if mask is None else blocks_of(variables[name].shape[axis], len(mask))
                if mask is not None and blocks:
                    kept = np.tile(mask, blocks)
                    variables[name] = np.compress(kept, variables[name], axis=axis)
        return LayerState(self.narrow_config(dict(state.config), cut), variables)

    def variable_axes(self, name: str, rank: int) -> list[tuple[int, str]]:
        """Return the axes of a variable that count features, each with its role."""
        axes = self.axes[name]
        others = (None,) * (rank - len(axes) + 1)
        if axes[0] is ...:
            axes = others + axes[1:]
        elif axes[-1] is ...:
            axes = axes[:-1] + others
        return [(axis, role) for axis, role in enumerate(axes) if role is not None]

    def narrow_config(self, config: dict[str, Any], cut: Cut) -> dict[str, Any]:
        """Return the config for fewer features.

        Most configs name no width: the layer reads it off its input.
        """
        return config

    def narrow_arguments(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], cut: Cut
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of a call for fewer features; only constants among them change."""
        return args, kwargs


class ElementwiseRule(Rule):
    """Rule of a layer that treats each feature by itself: an activation, a scale, a sum."""

    def carry(self, call: Call, streams: list[Stream | None]) -> Stream | None:
        stream = single(call, streams)
        if stream is None:
            return None
        self.check(call, stream)
        return stream.through(self, call)

    def check(self, call: Call, stream: Stream) -> None:
        """Check that this call treats each feature of the stream by itself.

        Raises:
            Barrier: If it doesn't.
        """

    @abc.abstractmethod
    def effect(self, call: Call, state: LayerState) -> Effect:
        """Describe what the layer does to each of its features, in the given state.

        Raises:
            NotElementwise: If it is an activation that mixes features.
        """


class PassRule(Rule):
    """Rule of a layer that changes nothing about the features at inference: Dropout, identity."""

    def carry(self, call: Call, streams: list[Stream | None]) -> Stream | None:
        return single(call, streams)

    def keeps_values(self, call: Call) -> bool:
        return True


def single(call: Call, streams: list[Stream | None]) -> Stream | None:
    """Return the stream of a layer with one input, and perhaps a mask over its positions.

    Raises:
        Barrier: If there are further inputs while units arrive.
    """
    if all(stream is None for stream in streams):
        return None
    masked = len(streams) == 2 and call.kwargs.get("mask") is call.inputs[1]
    if len(streams) > 1 and not (masked and streams[1] is None):
        raise Barrier("is called with several tensors")
    return streams[0]


def blocks_of(length: int, features: int) -> int:
    """Return how often an axis holds all features, one block after the other.

    0 where it doesn't: all features may share one entry (a PReLU's shared axes), or the array holds
    only the features that a merge has left.
    """
    return 0 if length % features else length // features


def positions(tensor: Tensor, *axes: int) -> int:
    """Return the number of positions of a tensor in one row.

    Args:
        tensor: The tensor.
        axes: The axes of its features. All others but the batch axis count positions.

    Raises:
        ValueError: If it is unknown.
    """
    lengths = [tensor.shape[i] for i in range(1, len(tensor.shape)) if i not in axes]
    known = [length for length in lengths if length is not None]
    if len(known) < len(lengths):
        raise ValueError(
            "Expected axes of known length. Give the model's Input a fixed shape. "
            f"Received: a tensor '{tensor.name}' of shape {tensor.shape}."
        )
    return math.prod(known)
