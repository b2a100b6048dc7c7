"""The roles that a layer type can play around a group of units.

A rule is pure: it turns a layer's state (config and arrays) into another state. It knows no graph
and no model. A type without a rule is a barrier: what flows into it stays whole.
"""

import abc
from collections.abc import Callable, Mapping
from typing import ClassVar

import keras
import numpy as np

from keras_dfprune.graph.calls import Call
from keras_dfprune.rules.activations import describe
from keras_dfprune.rules.effects import Affine, Join, Nonlinear
from keras_dfprune.rules.features import Stream
from keras_dfprune.rules.layer_state import Cut, LayerState, as_array


class Barrier(Exception):
    """Raised for a call that units can't pass; the message completes "it feeds x, which ..."."""


class Rule(abc.ABC):
    """What is known of one operation type.

    Attributes:
        types: The exact layer types that it speaks for.
        names: Names of Keras operation classes that it speaks for (`keras.ops.relu` is a call of
            a `Relu` operation).
        spatial: Whether it treats positions next to an edge unlike others.
        follows_input: Whether its config depends on the width of its input.
        axes: For each variable that grows with the features, what its axes count: "in" (features
            of the input), "out" (features of the output) or None (anything else); a leading
            `...` stands for any number of None.
    """

    types: ClassVar[tuple[type, ...]] = ()
    names: ClassVar[tuple[str, ...]] = ()
    spatial: ClassVar[bool] = False
    follows_input: ClassVar[bool] = False
    axes: ClassVar[Mapping[str, tuple]] = {}

    @abc.abstractmethod
    def carry(self, call: Call, streams: list[Stream | None]) -> Stream | None:
        """What the call's output carries of the units that arrive.

        Args:
            call: The call.
            streams: One for each tensor of `call.inputs`; None where nothing is known.

        Returns:
            The `Stream` of the only output, or None where no unit passes (a consumer, or nothing
            arrived).

        Raises:
            Barrier: If units arrive that can't pass.
        """

    def keeps_values(self, call: Call) -> bool:
        """Whether the output holds the values of the input in the same order."""
        return False

    def read(self, operation: keras.Operation) -> LayerState:
        """Config and arrays of a built layer."""
        values = {name: getattr(operation, name, None) for name in self.axes}
        arrays = {name: as_array(value) for name, value in values.items() if value is not None}
        return LayerState(operation.get_config(), arrays)

    def narrow(self, state: LayerState, cut: Cut) -> LayerState:
        """The state with every axis named in `axes` cut, and the config that goes with it."""
        masks = {"in": cut.inputs, "out": cut.outputs}
        variables = dict(state.variables)
        for name in variables:
            for axis, role in self.variable_axes(name, variables[name].ndim):
                mask = masks[role]
                # a variable may share one entry among all features (a PReLU's shared axes)
                if mask is not None and variables[name].shape[axis] == len(mask):
                    variables[name] = np.compress(mask, variables[name], axis=axis)
        return LayerState(self.narrow_config(dict(state.config), cut), variables)

    def variable_axes(self, name: str, rank: int) -> list[tuple[int, str]]:
        """The axes of a variable that count features, with their roles."""
        axes = self.axes[name]
        if axes[0] is ...:
            axes = (None,) * (rank - len(axes) + 1) + axes[1:]
        return [(axis, role) for axis, role in enumerate(axes) if role is not None]

    def narrow_config(self, config: dict, cut: Cut) -> dict:
        """The config for fewer features; most layers read their widths off their inputs."""
        return config

    def narrow_arguments(self, args: tuple, kwargs: dict, cut: Cut) -> tuple[tuple, dict]:
        """The arguments of a call for fewer features; only constants among them ever change."""
        return args, kwargs

    def targets(self, operation: keras.Operation) -> dict[str, keras.Variable]:
        """The variables of a built layer that hold the arrays of its state, by name."""
        found = {name: getattr(operation, name, None) for name in self.axes}
        return {name: variable for name, variable in found.items() if variable is not None}


class UnitRule(Rule):
    """Dense and its kin: produces units, and consumes those that arrive.

    Attributes:
        consumes: Whether it takes units in.
        whole: Why its own units can't be pruned although it consumes; completes "it ...".
        takes_indices: Whether its inputs are indices instead of values.
        linear: Whether what it returns before its activation is linear in the variables that
            have an "out" axis, unit by unit: then means of units can be taken.
    """

    consumes: ClassVar[bool] = True
    whole: ClassVar[str | None] = None
    takes_indices: ClassVar[bool] = False
    linear: ClassVar[bool] = False

    def carry(self, call: Call, streams: list[Stream | None]) -> None:
        if all(stream is None for stream in streams):
            return
        reason = self.barrier(call.operation)
        if reason:
            raise Barrier(reason)
        self.check(call, streams)
        if streams[0].axis != self.input_axis(call):
            raise Barrier("works along another axis than the units'")

    def check(self, call: Call, streams: list[Stream | None]) -> None:
        """Raises `Barrier` unless the units arrive in the first tensor only."""
        single(call, streams)

    @abc.abstractmethod
    def barrier(self, operation: keras.Operation) -> str | None:
        """Why this layer can neither produce nor consume units, or None."""

    @abc.abstractmethod
    def unit_count(self, operation: keras.Operation) -> int:
        """Number of units of a built layer."""

    def input_axis(self, call: Call) -> int:
        """Feature axis of the input; the last one if the rule says nothing else."""
        return len(call.inputs[0].shape) - 1

    @abc.abstractmethod
    def output_axis(self, call: Call) -> int:
        """Feature axis of the output."""

    @abc.abstractmethod
    def activation(self, operation: keras.Operation) -> Callable | None:
        """The layer's own activation function."""

    def effect(self, call: Call, state: LayerState) -> Nonlinear:
        """The layer's own activation, as the first stage behind its units."""
        operation = call.operation
        return Nonlinear(describe(self.activation(operation), self.unit_count(operation)))

    @abc.abstractmethod
    def incoming(self, state: LayerState) -> np.ndarray:
        """Incoming weights of each unit: shape `(units, features, taps)`.

        Taps are the positions of a convolution's kernel; a Dense layer has one.
        """

    @abc.abstractmethod
    def outgoing(self, state: LayerState) -> np.ndarray:
        """Outgoing weights of each input feature: shape `(features, taps, outputs)`."""

    @abc.abstractmethod
    def with_outgoing(self, state: LayerState, outgoing: np.ndarray) -> LayerState:
        """The state with other outgoing weights, shape `(features, taps, outputs)`.

        Of as many features or fewer; so the arrays of a state may be narrow already on the axis of
        the input when `narrow` cuts them.
        """

    def taps(self, operation: keras.Operation) -> tuple[int, ...]:
        """Spatial shape of the kernel; empty for a Dense layer."""
        return ()

    def pads(self, operation: keras.Operation) -> bool:
        """Whether it reads zeros beyond the edges, where a constant input isn't constant."""
        return False

    @abc.abstractmethod
    def with_offset(self, state: LayerState, offset: np.ndarray) -> LayerState:
        """The state with a constant added to its pre-activations, shape `(units,)`."""

    def bias(self, state: LayerState) -> np.ndarray:
        """Bias of each unit, shape `(units,)`; zeros where there is none."""
        incoming = self.incoming(state)
        return state.variables.get("bias", np.zeros(len(incoming), incoming.dtype))

    def has_bias(self, operation: keras.Operation) -> bool:
        """Whether the layer has a bias for an offset to go to."""
        return bool(operation.use_bias)


class ElementwiseRule(Rule):
    """A layer that treats feature by feature: an activation, a scale and shift, a sum of two."""

    def carry(self, call: Call, streams: list[Stream | None]) -> Stream | None:
        stream = single(call, streams)
        if stream is None:
            return None
        self.check(call, stream)
        return stream.through(self, call)

    def check(self, call: Call, stream: Stream) -> None:
        """Raises `Barrier` if this call doesn't treat each of the stream's features alike."""

    @abc.abstractmethod
    def effect(self, call: Call, state: LayerState) -> Affine | Nonlinear | Join:
        """What it does to each of its features, in the given state.

        Raises:
            NotElementwise: If it is an activation that mixes features.
        """


class PassRule(Rule):
    """A layer that changes nothing about the features at inference: Dropout, identity."""

    def carry(self, call: Call, streams: list[Stream | None]) -> Stream | None:
        return single(call, streams)

    def keeps_values(self, call: Call) -> bool:
        return True


def single(call: Call, streams: list[Stream | None]) -> Stream | None:
    """The stream of a layer with one input, beside which there may be a mask over positions.

    Raises:
        Barrier: If there are further inputs while units arrive.
    """
    if all(stream is None for stream in streams):
        return None
    masked = len(streams) == 2 and call.kwargs.get("mask") is call.inputs[1]
    if len(streams) > 1 and not (masked and streams[1] is None):
        raise Barrier("is called with several tensors")
    return streams[0]
