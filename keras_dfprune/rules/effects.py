"""Describe what a layer does to each of its features: a scale and shift, an activation, a join.

From these descriptions alone follow the seams of a group and what tells its units apart.
"""

import dataclasses
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from keras_dfprune.rules.activations import Activation


@dataclasses.dataclass(frozen=True, eq=False)
class Affine:
    """Scale and shift of each feature: `scale * x + shift`, both of shape `(features,)`."""

    scale: np.ndarray
    shift: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Nonlinear:
    """Activation of each feature.

    Attributes:
        activation: The function with its properties.
        coordinates: Float array, shape `(features, k)`: the parameters that each feature has for
            itself (the slopes of a PReLU). Two units are copies only if these agree too. None
            if all features go through the same function.
        function_of: Function from coordinates, shape `(units, k)`, to the activation function of
            those units; needed with coordinates.
        of_constants: Function from the value of each feature, where it is the same for every input
            and at every position and NaN elsewhere, to the same behind the layer. Float arrays,
            shape `(features,)`. None, with coordinates: nothing is known.
    """

    activation: Activation
    coordinates: np.ndarray | None = None
    function_of: Callable[[np.ndarray], Callable] | None = None
    of_constants: Callable[[np.ndarray], np.ndarray] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Join:
    """Function of several tensors, feature by feature; copies in all of them stay copies.

    Attributes:
        kind: `"sum"`, `"product"`, `"extreme"` (a maximum or a minimum), or `"start"`: a recurrent
            layer's own units, then the states that they start from.
        factors: The factor of each tensor in a sum; ones otherwise.
    """

    kind: str
    factors: tuple[float, ...]

    @property
    def homogeneous(self) -> bool:
        """True if a positive factor common to all tensors passes through."""
        return self.kind != "product"


Effect: TypeAlias = Affine | Nonlinear | Join


def is_identity(effect: Effect) -> bool:
    """Return whether features come out as they went in: a layer without an activation."""
    return isinstance(effect, Nonlinear) and effect.activation.name == "linear"
