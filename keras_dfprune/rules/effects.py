"""What a layer does to each of its features: a scale and shift, an activation, a joint function.

From these alone the seams of a group follow, and what tells its units apart.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from keras_dfprune.rules.activations import Activation


@dataclasses.dataclass(frozen=True, eq=False)
class Affine:
    """Feature by feature `scale * x + shift`; both of shape `(features,)`."""

    scale: np.ndarray
    shift: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Nonlinear:
    """Feature by feature an activation.

    Attributes:
        activation: The function with its properties.
        coordinates: Float array, shape `(features, k)`: parameters that each feature has for
            itself (the slopes of a PReLU); two units are copies only if these agree too. None
            where all features go through the same function.
        function_of: Function from coordinates, shape `(units, k)`, to the activation function of
            those units; needed with coordinates.
    """

    activation: Activation
    coordinates: np.ndarray | None = None
    function_of: Callable[[np.ndarray], Callable] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Join:
    """Feature by feature a function of several tensors: copies in all of them stay copies.

    Attributes:
        kind: `"sum"`, `"product"` or `"extreme"` (a maximum or a minimum).
        factors: What each tensor is multiplied by where they are added up; ones otherwise.
    """

    kind: str
    factors: tuple[float, ...]

    @property
    def homogeneous(self) -> bool:
        """Whether a positive factor common to all tensors passes through."""
        return self.kind != "product"


def is_identity(effect: Affine | Nonlinear | Join) -> bool:
    """Whether features come out as they went in: a layer without an activation."""
    return isinstance(effect, Nonlinear) and effect.activation.name == "linear"
