"""Define the roles of layers that multiply by a kernel: producers and consumers of units."""

import abc
from collections.abc import Callable
from typing import Any, ClassVar

import keras
import numpy as np

from keras_dfprune.graph.calls import Call, Tensor
from keras_dfprune.rules.activations import describe
from keras_dfprune.rules.base import Barrier, Rule, positions, single
from keras_dfprune.rules.effects import Nonlinear
from keras_dfprune.rules.features import Piece, Stream
from keras_dfprune.rules.layer_state import LayerState


class KernelRule(Rule):
    """Rule of a layer that multiplies its input by a kernel and may add a bias."""

    @abc.abstractmethod
    def barrier(self, operation: keras.Operation) -> str | None:
        """Return why this layer can neither produce nor consume units, or None.

        The reason completes "it ...".
        """

    @abc.abstractmethod
    def returns_preactivations(self, operation: keras.Operation) -> bool:
        """Return whether nothing non-linear follows the kernel and the bias inside the layer.

        A BatchNormalization behind such a layer can take an offset in place of the bias.
        """

    def applications(self, call: Call) -> dict[str, int]:
        kernels = [name for name in self.variables(call.operation) if "kernel" in name]
        if not kernels:  # an Embedding looks its values up
            return {}
        return dict.fromkeys(kernels, positions(call.outputs[0], self.output_axis(call)))

    def output_axis(self, call: Call) -> int:
        """Return the feature axis of the output; by default the last one."""
        return len(call.outputs[0].shape) - 1

    def has_bias(self, operation: keras.Operation) -> bool:
        """Return whether the layer has a bias that an offset can be added to."""
        return bool(operation.use_bias)

    @abc.abstractmethod
    def with_offset(self, state: LayerState, offset: np.ndarray) -> LayerState:
        """Add a constant to the pre-activations; give the layer a bias if it has none.

        Args:
            state: The layer's state.
            offset: Float array, shape `(units,)`; for a consumer one entry for each output of
                `ConsumerRule.outgoing`. An array of shape `(1,)` is repeated.
        """


class ProducerRule(KernelRule):
    """Rule of a layer whose own units can be pruned.

    Attributes:
        own_rows: The rule by which a recurrent layer consumes its own units of the step before.
            None for other layers.
        takes_indices: Whether the inputs are indices into a table instead of values.
        linear: Whether the pre-activations are linear in the variables that have an "out" axis,
            unit by unit. Only then weight-sets can be averaged over units.
        is_dense: Whether it is a Dense layer: each unit weighs all features of one vector.
    """

    own_rows: ClassVar["ConsumerRule | None"] = None
    takes_indices: ClassVar[bool] = False
    is_dense: ClassVar[bool] = False
    linear: ClassVar[bool] = False

    @abc.abstractmethod
    def unit_count(self, operation: keras.Operation) -> int:
        """Return the number of units of a built layer."""

    def why_units_stay(self, call: Call) -> str | None:
        """Return why the layer's own units stay in this call, or None; completes "it ..."."""
        return None

    def starts(self, call: Call, streams: list[Stream | None]) -> tuple[Piece, ...] | None:
        """Return the units of other layers that the layer's own units start from.

        None if its own units stay, because it starts from something else; see `starting_units`.
        """
        return ()

    def units_of_outputs(self, call: Call) -> dict[Tensor, np.ndarray]:
        """Return the unit at each feature of the outputs that hold units: int arrays."""
        return {call.outputs[0]: np.arange(self.unit_count(call.operation))}

    @abc.abstractmethod
    def activation(self, operation: keras.Operation) -> Callable[[Any], Any] | None:
        """Return the layer's own activation function."""

    def returns_preactivations(self, operation: keras.Operation) -> bool:
        return keras.activations.get(self.activation(operation)) is keras.activations.linear

    def effect(self, call: Call, state: LayerState) -> Nonlinear:
        """Describe the layer's own activation, which is the first stage behind its units."""
        operation = call.operation
        return Nonlinear(describe(self.activation(operation), self.unit_count(operation)))

    @abc.abstractmethod
    def incoming(self, state: LayerState) -> np.ndarray:
        """Return the incoming weights of each unit: shape `(units, features, taps)`.

        Taps are the positions of a convolution's kernel; a Dense layer has one. The units of a
        layer with several `channel_groups` have as many features as one group, each those of its
        own group.
        """

    def input_count(self, state: LayerState) -> int:
        """Return the number of input features that the state has incoming weights for."""
        return self.incoming(state).shape[1]

    def memory(self, operation: keras.Operation) -> np.ndarray | None:
        """Return what each unit keeps from one call to the next: float array, `(units, k)`.

        None for a layer that keeps nothing. Units that differ in it are no copies.
        """
        return None

    def constants(self, operation: keras.Operation, state: LayerState) -> np.ndarray:
        """Return the pre-activation of each unit for which it never changes, NaN for others.

        Args:
            operation: The layer.
            state: The layer's present state.

        Returns:
            Float64 array, shape `(units,)`.
        """
        weights = self.incoming(state)
        varies = np.any(weights.reshape(len(weights), -1), axis=1)
        return np.where(varies, np.nan, self.bias(state).astype(np.float64))

    def taps(self, operation: keras.Operation) -> tuple[int, ...]:
        """Return the spatial shape of the kernel; empty for a Dense layer."""
        return ()

    def bias(self, state: LayerState) -> np.ndarray:
        """Return the bias of each unit, shape `(units,)`; zeros if the layer has none."""
        incoming = self.incoming(state)
        return state.variables.get("bias", np.zeros(len(incoming), incoming.dtype))


class ConsumerRule(KernelRule):
    """Rule of a layer that can take over what removed units did, in the rows of its kernel.

    Attributes:
        why_not_pruned: Why its own units can't be pruned, if the layer isn't a producer as well;
            completes "it ...".
    """

    why_not_pruned: ClassVar[str] = "has a rule that doesn't prune its own units"

    def carry(self, call: Call, streams: list[Stream | None]) -> None:
        if all(stream is None for stream in streams):
            return
        reason = self.barrier(call.operation)
        if reason:
            raise Barrier(reason)
        self.check(call, streams)
        first = streams[0]
        if first is None or first.axis != self.input_axis(call):
            raise Barrier("works along another axis than the units'")

    def check(self, call: Call, streams: list[Stream | None]) -> None:
        """Check that the units arrive in the first tensor only.

        Raises:
            Barrier: If they don't.
        """
        single(call, streams)

    def input_axis(self, call: Call) -> int:
        """Return the feature axis of the input; by default the last one."""
        return len(call.inputs[0].shape) - 1

    @abc.abstractmethod
    def bias_size(self, operation: keras.Operation) -> int:
        """Return the number of bias entries that the layer has or could be given."""

    def pads(self, operation: keras.Operation) -> bool:
        """Return whether it reads zeros beyond the edges, where a constant isn't constant."""
        return False

    def spreads(self, operation: keras.Operation) -> bool:
        """Return whether it puts zeros between its inputs, so that no constant stays constant."""
        return False

    @abc.abstractmethod
    def outgoing(self, state: LayerState) -> np.ndarray:
        """Return the outgoing weights of each input feature: shape `(features, taps, outputs)`.

        They are 0 at the outputs of other `channel_groups`.
        """

    @abc.abstractmethod
    def with_outgoing(self, state: LayerState, outgoing: np.ndarray) -> LayerState:
        """Replace the outgoing weights.

        Args:
            state: The layer's state.
            outgoing: Shape `(features, taps, outputs)`, with as many features as the state has or
                fewer. So the arrays of a state may already be narrow on the axis of the input
                when `narrow` cuts the others.
        """
