"""Define the base of consumers that multiply their input by several kernels at once.

Recurrent layers and self-attention compute `x @ kernel + bias` with each kernel before anything
else happens. Side by side these kernels are one Dense layer that consumes.
"""

import abc
from typing import Any, ClassVar

import keras
import numpy as np

from keras_dfprune.rules.kernels import ConsumerRule
from keras_dfprune.rules.layer_state import LayerState


class SeveralKernelsRule(ConsumerRule):
    """Rule of a consumer with several kernels, shape `(features, ...)` each, and a bias for each.

    Attributes:
        kernels: Names of the kernels in the layer's state; a layer may have only some of them.
    """

    kernels: ClassVar[tuple[str, ...]] = ()

    @abc.abstractmethod
    def bias_shape(self, state: LayerState, kernel: str) -> tuple[int, ...]:
        """Return the shape of the bias that belongs to a kernel."""

    @abc.abstractmethod
    def with_biases(self, config: dict[str, Any]) -> dict[str, Any]:
        """Return the config of the same layer with biases."""

    def barrier(self, operation: keras.Operation) -> str | None:
        variables = self.variables(operation).values()
        if not all(isinstance(variable, keras.Variable) for variable in variables):
            return "is quantized or has adapters"
        return self.why_not_finite(operation)

    def returns_preactivations(self, operation: keras.Operation) -> bool:
        return False

    def bias_size(self, operation: keras.Operation) -> int:
        state = self.read(operation)
        shapes = [self.bias_shape(state, name) for name in self.biased(state)]
        return int(sum(np.prod(shape) for shape in shapes))

    def biased(self, state: LayerState) -> list[str]:
        """Return the names of all kernels that get a bias together with the consuming ones."""
        return self._present(state)

    def _present(self, state: LayerState) -> list[str]:
        """Return those of `kernels` that a layer has."""
        return [name for name in self.kernels if name in state.variables]

    def outgoing(self, state: LayerState) -> np.ndarray:
        kernels = [state.variables[name] for name in self._present(state)]
        return np.concatenate([kernel.reshape(len(kernel), 1, -1) for kernel in kernels], axis=2)

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
                # The first of the two biases of a GRU belongs to the input.
                value.reshape(-1, stop - start)[0] += offset[start:stop]
                start = stop
            state = state.with_variable(bias, value)
        return state
