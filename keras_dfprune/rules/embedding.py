"""Define the rule of Embedding: a unit is a column of the table, `h_j(token) = table[token, j]`.

On one-hot tokens it is a Dense layer without bias. It produces units and consumes none.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_dfprune.graph.calls import Call
from keras_dfprune.graph.recreate import read_config
from keras_dfprune.rules.base import Barrier
from keras_dfprune.rules.features import Stream
from keras_dfprune.rules.kernels import ProducerRule
from keras_dfprune.rules.layer_state import Cut, LayerState, without_lora


class EmbeddingRule(ProducerRule):
    """`keras.layers.Embedding`."""

    types = (keras.layers.Embedding,)
    axes = {"embeddings": (None, "out")}
    linear = True
    takes_indices = True

    def carry(self, call: Call, streams: list[Stream | None]) -> None:
        if any(stream is not None for stream in streams):
            raise Barrier("takes them as indices into a table")

    def barrier(self, operation: keras.Operation) -> str | None:
        if operation.quantization_mode is not None:
            return "is quantized; prune first, then quantize"
        return self.why_not_finite(operation)

    def config(self, operation: keras.Operation) -> dict[str, Any]:
        return without_lora(read_config(operation))

    def unit_count(self, operation: keras.Operation) -> int:
        return int(operation.output_dim)

    def activation(self, operation: keras.Operation) -> Callable | None:
        return keras.activations.linear

    def has_bias(self, operation: keras.Operation) -> bool:
        return False

    def incoming(self, state: LayerState) -> np.ndarray:
        return state.variables["embeddings"].T[:, :, None]

    def with_offset(self, state: LayerState, offset: np.ndarray) -> LayerState:
        # Without a bias the constant goes into the column, where every token gets it.
        return state.with_variable("embeddings", state.variables["embeddings"] + offset)

    def narrow_config(self, config: dict[str, Any], cut: Cut) -> dict[str, Any]:
        return config if cut.outputs is None else {**config, "output_dim": int(cut.outputs.sum())}
