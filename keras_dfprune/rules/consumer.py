"""Layers that take units in but whose own can't be pruned: recurrent layers and self-attention.

Each multiplies its input by one kernel or more, `x @ kernel + bias`, before anything else happens;
seen together these kernels are one Dense layer that consumes.
"""

import abc
from collections.abc import Callable
from typing import ClassVar

import keras
import numpy as np

from keras_dfprune.graph import Call
from keras_dfprune.rules.base import Barrier, UnitRule
from keras_dfprune.rules.layer_state import LayerState, as_array
from keras_dfprune.streams import Stream


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


class RecurrentRule(ConsumerRule):
    """`LSTM`, `GRU`, `SimpleRNN`, and `Bidirectional` around one of them."""

    types = (
        keras.layers.LSTM,
        keras.layers.GRU,
        keras.layers.SimpleRNN,
        keras.layers.Bidirectional,
    )
    whole = "feeds its units back to one another from step to step"
    kernels = ("kernel", "forward_kernel", "backward_kernel")
    axes = {
        f"{side}{name}": axes
        for side in ("", "forward_", "backward_")
        for name, axes in
        {"kernel": ("in", None), "recurrent_kernel": (None, None), "bias": (...,)}.items()
    }  # fmt: skip

    def check(self, call: Call, streams: list[Stream | None]) -> None:
        if streams[0] is None or any(stream is not None for stream in streams[1:]):
            raise Barrier("takes them as its initial state")

    def barrier(self, operation: keras.Operation) -> str | None:
        parts = list(_directions(operation).values())
        if not all(type(part) in self.types[:3] for part in parts):
            return "wraps a layer other than LSTM, GRU and SimpleRNN"
        if len({bool(part.use_bias) for part in parts}) > 1:
            return "has a bias in one direction only"
        return super().barrier(operation)

    def has_bias(self, operation: keras.Operation) -> bool:
        return all(part.use_bias for part in _directions(operation).values())

    def targets(self, operation: keras.Operation) -> dict[str, keras.Variable]:
        found = {}
        for side, part in _directions(operation).items():
            if type(part) in self.types[:3]:
                found[f"{side}kernel"] = part.cell.kernel
                found[f"{side}recurrent_kernel"] = part.cell.recurrent_kernel
                found |= {f"{side}bias": part.cell.bias} if part.use_bias else {}
        return found

    def read(self, operation: keras.Operation) -> LayerState:
        state = super().read(operation)
        config = dict(state.config)
        for key in ("layer", "backward_layer"):  # of Bidirectional
            if config.get(key):
                # it would build the layer at its old width
                config[key] = {k: v for k, v in config[key].items() if k != "build_config"}
        return LayerState(config, state.variables)

    def bias_shape(self, state: LayerState, kernel: str) -> tuple[int, ...]:
        key = "backward_layer" if kernel.startswith("backward") else "layer"
        config = state.config[key]["config"] if key in state.config else state.config
        columns = state.variables[kernel].shape[1]
        return (2, columns) if config.get("reset_after") else (columns,)

    def with_biases(self, config: dict) -> dict:
        def edit(own):
            # the forget bias of a new LSTM; here all of the bias is given
            forget = {"unit_forget_bias": False} if "unit_forget_bias" in own else {}
            return own if own["use_bias"] else {**own, "use_bias": True, **forget}

        if "layer" not in config:
            return edit(config)
        wrapped = {
            key: {**config[key], "config": edit(config[key]["config"])}
            for key in ("layer", "backward_layer")
            if config.get(key)
        }
        return {**config, **wrapped}


def _directions(operation: keras.Operation) -> dict[str, keras.Layer]:
    """The recurrent layers of a call, by what stands in front of the names of their weights."""
    if isinstance(operation, keras.layers.Bidirectional):
        return {"forward_": operation.forward_layer, "backward_": operation.backward_layer}
    return {"": operation}


_PROJECTIONS = ("query", "key", "value", "output")


class SelfAttentionRule(ConsumerRule):
    """`MultiHeadAttention` of a tensor with itself: query, key and value kernels consume."""

    types = (keras.layers.MultiHeadAttention,)
    whole = "mixes its units in attention heads, which are not pruned"
    kernels = ("query_kernel", "key_kernel", "value_kernel")
    axes = {f"{name}_kernel": ("in", None, None) for name in _PROJECTIONS[:3]} | {
        "output_kernel": (...,),
        **{f"{name}_bias": (...,) for name in _PROJECTIONS},
    }

    def check(self, call: Call, streams: list[Stream | None]) -> None:
        given = dict(zip(("query", "value", "key"), call.args, strict=False))
        given |= {name: call.kwargs.get(name) for name in ("query", "value", "key") if
                  call.kwargs.get(name) is not None}  # fmt: skip
        tensors = [tensor for tensor in given.values() if tensor is not None]
        if any(tensor is not call.inputs[0] for tensor in tensors):
            raise Barrier("attends from one tensor to another")
        for tensor, stream in zip(call.inputs, streams, strict=True):
            if (stream is None) == (tensor is call.inputs[0]):
                raise Barrier("takes them as a mask")

    def barrier(self, operation: keras.Operation) -> str | None:
        if operation.get_config().get("use_gate"):
            return "gates its heads"
        return super().barrier(operation)

    def has_bias(self, operation: keras.Operation) -> bool:
        return bool(operation.use_bias)

    def targets(self, operation: keras.Operation) -> dict[str, keras.Variable]:
        parts = (operation.query_dense, operation.key_dense, operation.value_dense,
                 operation.output_dense)  # fmt: skip
        found = {}
        for name, part in zip(_PROJECTIONS, parts, strict=True):
            found[f"{name}_kernel"] = part.kernel
            found |= {f"{name}_bias": part.bias} if part.bias is not None else {}
        return found

    def read(self, operation: keras.Operation) -> LayerState:
        state = super().read(operation)
        # by default the outputs are as many as the inputs, of which there will be fewer
        width = state.variables["output_kernel"].shape[-1]
        shape = state.config["output_shape"] or (width,)
        return LayerState({**state.config, "output_shape": shape}, state.variables)

    def biased(self, state: LayerState) -> list[str]:
        return [*self.kernels, "output_kernel"]

    def bias_shape(self, state: LayerState, kernel: str) -> tuple[int, ...]:
        shape = state.variables[kernel].shape
        return shape[2:] if kernel == "output_kernel" else shape[1:]

    def with_biases(self, config: dict) -> dict:
        return {**config, "use_bias": True}
