"""Embedding: a unit is a column of the table, `h_j(token) = table[token, j]`.

With one-hot tokens it is a Dense layer without bias; it produces units and consumes none.
"""

from collections.abc import Callable

import keras
import numpy as np

from keras_dfprune.graph.calls import Call
from keras_dfprune.rules.base import Barrier, UnitRule
from keras_dfprune.rules.features import Stream
from keras_dfprune.rules.layer_state import Cut, LayerState


class EmbeddingRule(UnitRule):
    """`keras.layers.Embedding`."""

    types = (keras.layers.Embedding,)
    axes = {"embeddings": (None, "out")}
    linear = True
    consumes = False
    takes_indices = True

    def carry(self, call: Call, streams: list[Stream | None]) -> None:
        if any(stream is not None for stream in streams):
            raise Barrier("takes them as indices into a table")

    def barrier(self, operation: keras.Operation) -> str | None:
        if operation.quantization_mode is not None:
            return "is quantized; prune first, then quantize"
        if not np.isfinite(self.read(operation).variables["embeddings"]).all():
            return "has weights that are not finite (NaN or infinite)"
        return None

    def read(self, operation: keras.Operation) -> LayerState:
        state = super().read(operation)  # a LoRA table comes folded
        config = {k: v for k, v in state.config.items() if k not in ("lora_rank", "lora_alpha")}
        return LayerState(config, state.variables)

    def unit_count(self, operation: keras.Operation) -> int:
        return int(operation.output_dim)

    def output_axis(self, call: Call) -> int:
        return len(call.outputs[0].shape) - 1

    def activation(self, operation: keras.Operation) -> Callable | None:
        return keras.activations.linear

    def has_bias(self, operation: keras.Operation) -> bool:
        return False

    def incoming(self, state: LayerState) -> np.ndarray:
        return state.variables["embeddings"].T[:, :, None]

    def outgoing(self, state: LayerState) -> np.ndarray:
        raise NotImplementedError("it consumes no units")

    def with_outgoing(self, state: LayerState, outgoing: np.ndarray) -> LayerState:
        raise NotImplementedError("it consumes no units")

    def with_offset(self, state: LayerState, offset: np.ndarray) -> LayerState:
        raise NotImplementedError("it consumes no units")

    def narrow_config(self, config: dict, cut: Cut) -> dict:
        return config if cut.outputs is None else {**config, "output_dim": int(cut.outputs.sum())}
