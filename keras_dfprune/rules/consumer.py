"""Layers that take units in but whose own can't be pruned: recurrent layers and self-attention.

Each multiplies its input by one kernel or more, `x @ kernel + bias`, before anything else happens;
seen together these kernels are one Dense layer that consumes.
"""

import abc
from collections.abc import Callable
from typing import ClassVar

import keras
import numpy as np

from keras_dfprune.graph.calls import Call
from keras_dfprune.rules.base import UnitRule
from keras_dfprune.rules.layer_state import LayerState, as_array


class ConsumerRule(UnitRule):
    """Consumes by several kernels, shape `(features, ...)` each, with a bias for each.

    Attributes:
        kernels: Names of the kernels in the layer's state.
    """

    kernels: ClassVar[tuple[str, ...]] = ()

    @abc.abstractmethod
    def bias_shape(self, state: LayerState, kernel: str) -> tuple[int, ...]:
        """Shape of the bias that belongs to a kernel."""

    @abc.abstractmethod
    def with_biases(self, config: dict) -> dict:
        """The config of the same layer with biases."""

    def barrier(self, operation: keras.Operation) -> str | None:
        targets = self.targets(operation).values()
        if not all(isinstance(variable, keras.Variable) for variable in targets):
            return "is quantized or has adapters"
        if not all(np.isfinite(as_array(variable)).all() for variable in targets):
            return "has weights that are not finite (NaN or infinite)"
        return None

    def read(self, operation: keras.Operation) -> LayerState:
        arrays = {name: as_array(value) for name, value in self.targets(operation).items()}
        return LayerState(operation.get_config(), arrays)

    def unit_count(self, operation: keras.Operation) -> int:
        """Entries of all its biases, there or not: what an offset could add."""
        state = self.read(operation)
        shapes = [self.bias_shape(state, name) for name in self.biased(state)]
        return int(sum(np.prod(shape) for shape in shapes))

    def biased(self, state: LayerState) -> list[str]:
        """Names of all kernels that get a bias together with those that take units in."""
        return self._present(state)

    def output_axis(self, call: Call) -> int:
        return len(call.outputs[0].shape) - 1

    def activation(self, operation: keras.Operation) -> Callable | None:
        return keras.activations.tanh  # stands for: no normalization behind it takes an offset

    def incoming(self, state: LayerState) -> np.ndarray:
        raise NotImplementedError("its own units are never pruned")

    def _present(self, state: LayerState) -> list[str]:
        return [name for name in self.kernels if name in state.variables]

    def outgoing(self, state: LayerState) -> np.ndarray:
        kernels = [state.variables[name] for name in self._present(state)]
        return np.concatenate([one.reshape(len(one), 1, -1) for one in kernels], axis=2)

    def with_outgoing(self, state: LayerState, outgoing: np.ndarray) -> LayerState:
        start = 0
        for name in self._present(state):
            kernel = state.variables[name]
            stop = start + kernel[0].size
            value = outgoing[:, 0, start:stop].reshape(-1, *kernel.shape[1:])
            state = state.with_variable(name, value)
            start = stop
        return state

    def with_offset(self, state: LayerState, offset: np.ndarray) -> LayerState:
        sizes = [state.variables[name][0].size for name in self._present(state)]
        offset, start = np.broadcast_to(offset, (sum(sizes),)), 0
        state = LayerState(self.with_biases(state.config), dict(state.variables))
        for name in self.biased(state):
            bias, shape = name.replace("kernel", "bias"), self.bias_shape(state, name)
            value = np.array(state.variables.get(bias, np.zeros(shape)), np.float64)
            if name in self.kernels:
                stop = start + state.variables[name][0].size
                # of the two biases of a GRU the first belongs to the input
                value.reshape(-1, stop - start)[0] += offset[start:stop]
                start = stop
            state = state.with_variable(bias, value)
        return state
