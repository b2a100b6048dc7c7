"""Define the role of attention layers whose heads can get fewer dimensions."""

import abc
import dataclasses
from typing import ClassVar

import keras
import numpy as np

from keras_dfprune.graph.calls import Call, Tensor
from keras_dfprune.rules.base import Rule
from keras_dfprune.rules.layer_state import LayerState


@dataclasses.dataclass(frozen=True, eq=False)
class HeadKernels:
    """Two kernels of each head, of which only the product matters.

    Attributes:
        left: Float array, shape `(heads, features, dimensions)`: takes in the left input.
        bias: Float array, shape `(heads, dimensions)`: the bias of the left side, zeros without.
        right: Float array, shape `(heads, columns, dimensions)`: takes in the right input, or gives
            the outputs.
    """

    left: np.ndarray
    bias: np.ndarray
    right: np.ndarray


class HeadsRule(Rule):
    """Rule of a layer with heads, whose dimensions can be rotated and cut.

    Its dimensions come in kinds, each with a name and the same number in each head. `axes` names
    them in place of "in" or "out".

    Attributes:
        output_kind: The kind whose right side gives the outputs. The products of the others are
            scores, in front of a softmax.
    """

    output_kind: ClassVar[str]

    @abc.abstractmethod
    def dimensions(self, operation: keras.Operation) -> dict[str, int]:
        """Return the number of dimensions of a head, by kind."""

    @abc.abstractmethod
    def bias_entries(self, operation: keras.Operation) -> dict[str, int]:
        """Return how many entries of its biases one dimension has, by kind."""

    @abc.abstractmethod
    def why_heads_stay(self, operation: keras.Operation) -> str | None:
        """Return why the heads keep their dimensions, or None; completes "it ..."."""

    @abc.abstractmethod
    def sources(self, call: Call, kind: str) -> tuple[Tensor, Tensor | None]:
        """Return the inputs of the two sides; None for a right side that gives the outputs."""

    @abc.abstractmethod
    def keeps_mean(self, call: Call, kind: str) -> bool:
        """Return whether the mean of the left side is a constant of the outputs."""

    @abc.abstractmethod
    def head_kernels(self, state: LayerState, kind: str) -> HeadKernels:
        """Return the kernels of each head."""

    @abc.abstractmethod
    def with_maps(
        self, state: LayerState, kind: str, into: np.ndarray, back: np.ndarray, lost: np.ndarray
    ) -> LayerState:
        """Map the dimensions of each head to fewer ones.

        Args:
            state: The layer's state.
            kind: The kind of the dimensions.
            into: Float64 array, shape `(heads, dimensions, rank)`: map of the left side.
            back: Float64 array of the same shape: map of the right side.
            lost: Float64 array, shape `(heads, dimensions)`: constant of the left side that the
                maps lose. Zeros unless `keeps_mean`.

        Returns:
            The state at its full width: zeros stand behind the new dimensions.
        """
