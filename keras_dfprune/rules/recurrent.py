"""Define the rule of recurrent layers, whose units consume one another from step to step.

The gates of all units are `x_t @ kernel + h_{t-1} @ recurrent_kernel + bias`. Column u of each
block of the three arrays belongs to unit u: these are its weight-set. Row u of the recurrent kernel
holds outgoing weights, as the rows of the consumers behind the layer do. Units that start from the
same state and have equal weight-sets are equal at every step, whatever their rows are.

A GRU without `reset_after` multiplies a unit by its reset gate before the rows of the candidate.
Copies have equal gates, so they stay exact. For mixtures this is one more approximation.
"""

import dataclasses
from typing import Any, ClassVar

import keras
import numpy as np

from keras_dfprune.graph.calls import Call, Tensor
from keras_dfprune.graph.recreate import read_config
from keras_dfprune.rules.activations import describe
from keras_dfprune.rules.base import Barrier, positions
from keras_dfprune.rules.effects import Nonlinear
from keras_dfprune.rules.features import Piece, Stream
from keras_dfprune.rules.initial_state import starting_units
from keras_dfprune.rules.kernels import ProducerRule
from keras_dfprune.rules.layer_state import Cut, LayerState, as_array
from keras_dfprune.rules.recurrence import run_recurrence
from keras_dfprune.rules.several_kernels import SeveralKernelsRule

# Type of a layer: the number of its gates, and the one that makes the candidate for the new state.
_GATES = {keras.layers.LSTM: (4, 2), keras.layers.GRU: (3, 2), keras.layers.SimpleRNN: (1, 0)}
_AXES = {
    "kernel": ("in", "out"),
    "recurrent_kernel": ("own", "out"),
    "bias": (..., "out"),
}
_MERGED = {
    "sum": lambda values: values.sum(axis=0),
    "ave": lambda values: values.mean(axis=0),
    "mul": lambda values: values.prod(axis=0),
}
_PREFIXES = ("", "forward_", "backward_")


class RecurrentRule(SeveralKernelsRule, ProducerRule):
    """`LSTM`, `GRU`, `SimpleRNN`, and `Bidirectional` around one of them.

    Unit u of a `Bidirectional` layer is unit u of both directions.
    """

    types = (*_GATES, keras.layers.Bidirectional)
    kernels = tuple(f"{prefix}kernel" for prefix in _PREFIXES)
    axes = {f"{prefix}{name}": axes for prefix in _PREFIXES for name, axes in _AXES.items()}

    def carry(self, call: Call, streams: list[Stream | None]) -> None:
        if any(stream is not None for stream in streams[1:]) and not self.starts(call, streams):
            raise Barrier("takes them as its initial state")
        super().carry(call, streams[:1])

    def barrier(self, operation: keras.Operation) -> str | None:
        directions = list(_directions(operation).values())
        if not all(type(layer) in _GATES for layer in directions):
            return "wraps a layer other than LSTM, GRU and SimpleRNN"
        if len({bool(layer.use_bias) for layer in directions}) > 1:
            return "has a bias in one direction only"
        return super().barrier(operation)

    def why_units_stay(self, call: Call) -> str | None:
        if len({layer.units for layer in _directions(call.operation).values()}) > 1:
            return "has more units in one direction than in the other"
        return None

    def starts(self, call: Call, streams: list[Stream | None]) -> tuple[Piece, ...] | None:
        return starting_units(call, streams, self.unit_count(call.operation))

    def applications(self, call: Call) -> dict[str, int]:
        kernels = [name for name in self.variables(call.operation) if "kernel" in name]
        return dict.fromkeys(kernels, positions(call.inputs[0], self.input_axis(call)))

    def has_bias(self, operation: keras.Operation) -> bool:
        return all(layer.use_bias for layer in _directions(operation).values())

    def variables(self, operation: keras.Operation) -> dict[str, keras.Variable]:
        variables = {}
        for prefix, layer in _directions(operation).items():
            if type(layer) in _GATES:
                variables[f"{prefix}kernel"] = layer.cell.kernel
                variables[f"{prefix}recurrent_kernel"] = layer.cell.recurrent_kernel
                if layer.use_bias:
                    variables[f"{prefix}bias"] = layer.cell.bias
        return variables

    def config(self, operation: keras.Operation) -> dict[str, Any]:
        config = dict(read_config(operation))
        for key in ("layer", "backward_layer"):  # of Bidirectional
            if config.get(key):
                # With "build_config" the layer would be built at its old width.
                config[key] = {k: v for k, v in config[key].items() if k != "build_config"}
        return config

    def bias_shape(self, state: LayerState, kernel: str) -> tuple[int, ...]:
        key = "backward_layer" if kernel.startswith("backward") else "layer"
        wrapped = state.config.get(key) or state.config.get("layer")
        config = wrapped["config"] if wrapped else state.config
        columns = state.variables[kernel].shape[1]
        return (2, columns) if config.get("reset_after") else (columns,)

    def with_biases(self, config: dict[str, Any]) -> dict[str, Any]:
        return _with_each_direction(config, _with_bias)

    def unit_count(self, operation: keras.Operation) -> int:
        return min(int(layer.units) for layer in _directions(operation).values())

    def units_of_outputs(self, call: Call) -> dict[Tensor, np.ndarray]:
        units = np.arange(self.unit_count(call.operation))
        beside = getattr(call.operation, "merge_mode", None) == "concat"
        first, *others = call.outputs
        return {first: np.tile(units, 2) if beside else units} | dict.fromkeys(others, units)

    def narrow_config(self, config: dict[str, Any], cut: Cut) -> dict[str, Any]:
        if cut.outputs is None:
            return config
        units = int(cut.outputs.sum())
        return _with_each_direction(config, lambda own: {**own, "units": units})

    def activation(self, operation: keras.Operation) -> Any:
        return next(iter(_directions(operation).values())).activation

    def effect(self, call: Call, state: LayerState) -> Nonlinear:
        """Describe how a unit follows from its gates: never linear, because it has a state.

        Only the units of a `SimpleRNN` grow with their weight-sets.
        """
        described, gates = [], []
        for layer in _directions(call.operation).values():
            described.append(describe(layer.activation, layer.units))
            if type(layer) is not keras.layers.SimpleRNN:
                gates.append(describe(layer.recurrent_activation, layer.units))
        first = described[0]
        grows = not gates and getattr(call.operation, "merge_mode", None) != "mul"
        unit = dataclasses.replace(
            first,
            name=f"{type(call.operation).__name__} of {first.name}",
            slope=max(one.slope for one in described),
            monotone=False,
            homogeneous=grows and all(one.homogeneous for one in described),
            kinks=(),
            linear_pieces=None,
        )
        return Nonlinear(unit)

    def incoming(self, state: LayerState) -> np.ndarray:
        """Return the weight-set of each unit: its columns in all gates of both directions."""
        columns = [_by_unit(array, _units(state)) for array in state.variables.values()]
        return np.concatenate(columns, axis=1)[:, :, None]

    def input_count(self, state: LayerState) -> int:
        return len(state.variables[self._present(state)[0]])

    def bias(self, state: LayerState) -> np.ndarray:
        """Return zeros: the biases of all gates are part of `incoming`."""
        return np.zeros(_units(state), np.float32)

    def memory(self, operation: keras.Operation) -> np.ndarray | None:
        """Return the state of a stateful layer at the end of the last call, by unit."""
        layers = _directions(operation).values()
        states = [state for layer in layers if layer.stateful for state in layer.states]
        values = [array.T for array in map(as_array, states) if np.any(array)]
        return np.concatenate(values, axis=1) if values else None

    def constants(self, operation: keras.Operation, state: LayerState) -> np.ndarray:
        """Return 0 for units whose candidate is always 0. Other units change from step to step."""
        memory = self.memory(operation)
        zero = np.ones(_units(state), bool) if memory is None else ~np.any(memory, axis=1)
        for prefix, layer in _directions(operation).items():
            gates, candidate = _GATES[type(layer)]
            names = [name for name in state.variables if name.startswith(prefix)]
            for name in names:
                blocks = state.variables[name].reshape(-1, gates, len(zero))
                zero &= ~np.any(blocks[:, candidate], axis=0)
            zero &= describe(layer.activation, layer.units).at_zero == 0
        return np.where(zero, 0.0, np.nan)

    def gates(self, state: LayerState) -> tuple[np.ndarray, np.ndarray]:
        """Return what the inputs and the biases add to the gates of all directions.

        Returns:
            Weights, shape `(gates, features)`, and biases, shape `(gates,)`.
        """
        kernels = [state.variables[name] for name in self._present(state)]
        biases = [
            state.variables.get(name.replace("kernel", "bias"), np.zeros(kernel.shape[1:]))
            # The first of the two biases of a GRU belongs to the input.
            .reshape(-1, kernel.shape[1])[0]
            for name, kernel in zip(self._present(state), kernels, strict=True)
        ]
        return np.concatenate([kernel.T for kernel in kernels]), np.concatenate(biases)

    def run(self, operation: keras.Operation, state: LayerState, gates: np.ndarray) -> np.ndarray:
        """Compute the units from what the inputs and the biases add to the gates.

        Args:
            operation: The layer.
            state: Its present state.
            gates: Float array, shape `(rows, steps, gates)`, with the gates of `gates`.

        Returns:
            Float array, shape `(samples, units)`.
        """
        directions = _directions(operation)
        values = []
        ends = np.cumsum([state.variables[name].shape[1] for name in self._present(state)])
        parts = np.split(gates, ends[:-1], axis=2)
        for (prefix, layer), part in zip(directions.items(), parts, strict=True):
            bias = state.variables.get(f"{prefix}bias")
            further = bias[1] if bias is not None and bias.ndim > 1 else None
            ordered = part[:, ::-1] if layer.go_backwards else part
            kernel = state.variables[f"{prefix}recurrent_kernel"]
            value = run_recurrence(layer, ordered, kernel, further)
            values.append(value[:, ::-1] if layer.go_backwards else value)
        mode = getattr(operation, "merge_mode", None)
        merged = _MERGED[mode](np.stack(values)) if mode in _MERGED else np.stack(values)
        return merged.reshape(-1, merged.shape[-1])


class OwnRowsRule(RecurrentRule):
    """Rows of the recurrent kernels, which consume the layer's units of the step before."""

    types: ClassVar[tuple[type, ...]] = ()
    kernels = tuple(f"{prefix}recurrent_kernel" for prefix in _PREFIXES)


RecurrentRule.own_rows = OwnRowsRule()


def _units(state: LayerState) -> int:
    """Return the number of units of a state, whose columns are not cut yet."""
    config = state.config["layer"]["config"] if "layer" in state.config else state.config
    return int(config["units"])


def _by_unit(array: np.ndarray, units: int) -> np.ndarray:
    """Return the columns of each unit in all blocks of an array: shape `(units, ...)`."""
    return array.reshape(-1, units).T


def _with_each_direction(config: dict[str, Any], change: Any) -> dict[str, Any]:
    """Change the config of a recurrent layer, or those of both layers inside a `Bidirectional`."""
    if "layer" not in config:
        return change(config)
    wrapped = {
        key: {**config[key], "config": change(config[key]["config"])}
        for key in ("layer", "backward_layer")
        if config.get(key)
    }
    return {**config, **wrapped}


def _with_bias(config: dict[str, Any]) -> dict[str, Any]:
    """Return the config of one recurrent layer with a bias."""
    if config["use_bias"]:
        return config
    config = {**config, "use_bias": True}
    if "unit_forget_bias" in config:
        config["unit_forget_bias"] = False  # An LSTM would add 1 to the forget gate's bias.
    return config


def _directions(operation: keras.Operation) -> dict[str, keras.Layer]:
    """Return the recurrent layers of an operation, by the prefix of their weights' names."""
    if isinstance(operation, keras.layers.Bidirectional):
        return {"forward_": operation.forward_layer, "backward_": operation.backward_layer}
    return {"": operation}
