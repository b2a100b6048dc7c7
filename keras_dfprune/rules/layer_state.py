"""A layer as plain arrays with its config, and which of its features stay."""

import dataclasses

import keras
import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class LayerState:
    """A layer as arrays.

    Attributes:
        config: What `from_config` would take.
        variables: Arrays by the name of the attribute: `kernel`, `bias`, `gamma`, ...
    """

    config: dict
    variables: dict[str, np.ndarray]

    def with_variable(self, name: str, value: np.ndarray) -> "LayerState":
        """This state with one array replaced or added."""
        return dataclasses.replace(self, variables={**self.variables, name: value})


@dataclasses.dataclass(frozen=True, eq=False)
class Cut:
    """Which features of a layer stay.

    Attributes:
        inputs: Bool array, shape `(features,)`, for the features of the input; None for all.
        outputs: The same for the features of the output.
        axis: Feature axis of the input, the batch axis counted.
    """

    inputs: np.ndarray | None
    outputs: np.ndarray | None
    axis: int


def as_array(value: keras.Variable) -> np.ndarray:
    """A variable's value, read-only; half precision is scored in single.

    No copy: TensorFlow gives a variable a new buffer when it changes while its old one is in use.
    """
    single = keras.backend.standardize_dtype(value.dtype) != "float64"
    return np.asarray(memoryview(keras.ops.cast(value, "float32" if single else "float64")))
