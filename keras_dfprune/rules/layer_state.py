"""Hold a layer as plain arrays with its config, and which of its features are kept."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class LayerState:
    """Arrays and config of a layer.

    Attributes:
        config: Argument for the layer type's `from_config`.
        variables: Arrays by the name of the attribute: `kernel`, `bias`, `gamma`, ...
    """

    config: dict[str, Any]
    variables: dict[str, np.ndarray]

    def with_variable(self, name: str, value: np.ndarray) -> "LayerState":
        """Return this state with one array replaced or added."""
        return dataclasses.replace(self, variables={**self.variables, name: value})


@dataclasses.dataclass(frozen=True, eq=False)
class Cut:
    """Features of a layer that are kept.

    Attributes:
        inputs: Bool array, shape `(features,)`, for the features of the input; None for all.
        outputs: Bool array, shape `(features,)`, for the features of the output; None for all.
        axis: Feature axis of the input, the batch axis counted.
        output_axis: Feature axis of the output.
        dimensions: The dimensions of heads that are kept, where some go: bool arrays by kind.
    """

    inputs: np.ndarray | None
    outputs: np.ndarray | None
    axis: int
    output_axis: int = 0
    dimensions: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)


def as_array(value: keras.Variable) -> np.ndarray:
    """Return a variable's value as a read-only array, half precision as single.

    No copy: TensorFlow gives a variable a new buffer when it changes while its old one is in use.
    """
    single = keras.backend.standardize_dtype(value.dtype) != "float64"
    return np.asarray(memoryview(keras.ops.cast(value, "float32" if single else "float64")))


def without_lora(config: dict[str, Any]) -> dict[str, Any]:
    """Return a layer's config without LoRA weights, for a kernel that they were added to."""
    return {key: value for key, value in config.items() if key not in ("lora_rank", "lora_alpha")}
