"""Describe where the inputs of a group come from."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Feed:
    """Source of some of a group's inputs: kept units of an earlier group, or a model input.

    Input `columns[k]` of the group is `scale[k] * h[units[k]] + shift[k]`, where `h` are the kept
    units of the earlier group.

    Attributes:
        columns: Int array, shape `(features,)`: columns of `GroupView.weights`.
        group: Name of the earlier group, or None if the inputs come from elsewhere.
        units: Int array, shape `(features,)`: position of each input's unit in the `kept` of the
            earlier group. Empty if `group` is None.
        scale: Float array, shape `(features,)`.
        shift: Float array, shape `(features,)`.
        origin: Name of the model input whose features the columns are, unchanged. None for any
            other source.
        normalized: Whether the inputs come out of a LayerNormalization: `scale * x + shift` of
            features `x` that have mean 0 and mean square 1, all taken together.
    """

    columns: np.ndarray
    group: str | None
    units: np.ndarray
    scale: np.ndarray
    shift: np.ndarray
    origin: str | None = None
    normalized: bool = False
