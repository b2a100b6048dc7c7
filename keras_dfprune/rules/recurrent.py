"""Recurrent layers: they take units in; their own feed each other from step to step."""

import keras

from keras_dfprune.graph.calls import Call
from keras_dfprune.rules.base import Barrier
from keras_dfprune.rules.consumer import ConsumerRule
from keras_dfprune.rules.features import Stream
from keras_dfprune.rules.layer_state import LayerState


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
