"""Define the rule of recurrent layers, which consume units but don't produce any.

Their own units feed each other from step to step.
"""

from typing import Any

import keras

from keras_dfprune.graph.calls import Call
from keras_dfprune.graph.recreate import read_config
from keras_dfprune.rules.base import Barrier, positions
from keras_dfprune.rules.features import Stream
from keras_dfprune.rules.layer_state import LayerState
from keras_dfprune.rules.several_kernels import SeveralKernelsRule

_ONE_DIRECTION = (keras.layers.LSTM, keras.layers.GRU, keras.layers.SimpleRNN)
_AXES = {"kernel": ("in", None), "recurrent_kernel": (None, None), "bias": (...,)}


class RecurrentRule(SeveralKernelsRule):
    """`LSTM`, `GRU`, `SimpleRNN`, and `Bidirectional` around one of them."""

    types = (*_ONE_DIRECTION, keras.layers.Bidirectional)
    why_not_pruned = "feeds its units back to one another from step to step"
    kernels = ("kernel", "forward_kernel", "backward_kernel")
    axes = {
        f"{prefix}{name}": axes
        for prefix in ("", "forward_", "backward_")
        for name, axes in _AXES.items()
    }

    def check(self, call: Call, streams: list[Stream | None]) -> None:
        if streams[0] is None or any(stream is not None for stream in streams[1:]):
            raise Barrier("takes them as its initial state")

    def barrier(self, operation: keras.Operation) -> str | None:
        directions = list(_directions(operation).values())
        if not all(type(layer) in _ONE_DIRECTION for layer in directions):
            return "wraps a layer other than LSTM, GRU and SimpleRNN"
        if len({bool(layer.use_bias) for layer in directions}) > 1:
            return "has a bias in one direction only"
        return super().barrier(operation)

    def applications(self, call: Call) -> dict[str, int]:
        kernels = [name for name in self.variables(call.operation) if "kernel" in name]
        return dict.fromkeys(kernels, positions(call.inputs[0], self.input_axis(call)))

    def has_bias(self, operation: keras.Operation) -> bool:
        return all(layer.use_bias for layer in _directions(operation).values())

    def variables(self, operation: keras.Operation) -> dict[str, keras.Variable]:
        variables = {}
        for prefix, layer in _directions(operation).items():
            if type(layer) in _ONE_DIRECTION:
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
        config = state.config[key]["config"] if key in state.config else state.config
        columns = state.variables[kernel].shape[1]
        return (2, columns) if config.get("reset_after") else (columns,)

    def with_biases(self, config: dict[str, Any]) -> dict[str, Any]:
        if "layer" not in config:
            return _with_bias(config)
        wrapped = {
            key: {**config[key], "config": _with_bias(config[key]["config"])}
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
