"""What stands before a seam, folded unit by unit into coordinates that tell copies apart.

Affine layers in front of the first non-linearity are multiplied into the weight-sets; parameters
behind it become further coordinates; where units of several producers are joined, the producers'
weight-sets stand side by side.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import NamedTuple

import keras
import numpy as np

from keras_dfprune.locate.groups import Inlet
from keras_dfprune.rules.activations import LINEAR, Activation, compose
from keras_dfprune.rules.effects import Affine, Join, Nonlinear, is_identity
from keras_dfprune.rules.features import Piece, Stage
from keras_dfprune.rules.normalization import BatchNormalizationRule
from keras_dfprune.surgery.weights import LayerStates, of_features


class WeightSets(NamedTuple):
    """The weight-sets of one producer.

    Attributes:
        weights: Float array, shape `(units, inputs)`.
        biases: Float array, shape `(units, 1)`.
    """

    weights: np.ndarray
    biases: np.ndarray


def select(inlet: Inlet, weights: Mapping[str, WeightSets], states: LayerStates) -> "Selection":
    """Folds everything on the way of a group's units to one seam.

    Args:
        inlet: An inlet with this seam.
        weights: Weight-sets by producer.
        states: The present weights.

    Returns:
        A `Selection`.
    """
    return _follow(inlet.piece, inlet.selected, inlet.order, weights, states)


def _follow(piece: Piece, stages, order, weights, states: LayerStates) -> "Selection":
    branches = piece.stages[0].branches
    if branches:
        parts = [
            _follow(branch, branch.stages, branch.by_unit(len(order)), weights, states)
            for branch in branches
        ]
        selection = Selection.joined(parts, states.effect(piece.stages[0]))
        stages = stages[1:]
    else:
        path = piece.stages[0].call.path
        selection = Selection({(path,): weights[path]})
    for stage in stages:
        selection.through(stage, order, states)
    return selection


class Selection:
    """Units as coordinates, while the stages up to a seam are folded in.

    Args:
        blocks: Weight-sets by what was folded into them; the producer's path comes first.

    Attributes:
        blocks: The weight-sets of all producers.
        extra: Further coordinates, each of shape `(units, k)`.
        function: From the pre-activation, or from what was joined last, to the unit's value.
        joint, parts: How the units were joined last, and of what; None and empty if they weren't.
        slope, monotone, homogeneous: As in `Activation`, but of the whole way.
        batch_mean, batch_std: What BatchNormalization has measured of the pre-activation, or None.
        bent: Whether something came that isn't affine in the weight-sets.
        differs: Whether the units' functions have parameters of their own.
        even: Whether what is constant in front is constant behind, at all positions.
        front: Scale and shift that were folded into a single producer's weight-sets: two float
            arrays, shape `(units,)`.
    """

    def __init__(self, blocks: dict[tuple, WeightSets]):
        self.blocks = blocks
        self.extra: list[np.ndarray] = []
        self.batch_mean = self.batch_std = None
        self.function = LINEAR
        self.join: Join | None = None
        self.parts: tuple[Selection, ...] = ()
        self.slope, self.monotone, self.homogeneous = 1.0, True, True
        self.bent = False
        units = len(next(iter(blocks.values())).weights)
        self._edge = np.zeros(units)  # what each unit is where zeros stand beside it
        self.differs = False
        self.even = True
        self.front = (np.ones(units), np.zeros(units))

    def through(self, stage: Stage, order: np.ndarray, states: LayerStates) -> None:
        """Adds one stage.

        Args:
            stage: The stage.
            order: Positions by unit: int array, shape `(units, positions)`.
            states: The present weights.
        """
        effect = states.effect(stage)
        own = stage.features[order]
        if is_identity(effect):
            return
        if isinstance(effect, Nonlinear):
            self._bend(effect, own)
        elif self.bent:
            scale, shift = _by_unit(effect, own)
            self._append(np.stack([scale, shift], axis=1))
            self.differs = True
            self._behind(_affine(scale, shift))
        else:
            self._fold(effect, stage, own, states)

    def _bend(self, effect: Nonlinear, own: np.ndarray) -> None:
        self.settle()
        activation = effect.activation
        if effect.coordinates is not None:
            coordinates = effect.coordinates[own].reshape(len(own), -1)
            self._append(coordinates)
            self.even = self.even and not np.ptp(coordinates, axis=1).any()
            function = effect.function_of(coordinates)
            activation = dataclasses.replace(activation, function=function)
            self.differs = True
        self._behind(activation)

    def _fold(self, effect: Affine, stage: Stage, own: np.ndarray, states: LayerStates) -> None:
        scale, shift = _by_unit(effect, own)
        self._rescale(scale, shift, (stage.call.path, own[:, 0].tobytes()))
        if stage.padded:
            self._edge = self._edge * scale + shift
        self.batch_mean = self.batch_std = None
        if isinstance(stage.rule, BatchNormalizationRule):
            mean, std = stage.rule.statistics(states[stage.call.path])
            self.batch_mean, self.batch_std = mean[own[:, 0]], std[own[:, 0]]

    def _rescale(self, scale: np.ndarray, shift: np.ndarray, step: tuple) -> None:
        ((key, sets),) = self.blocks.items()  # nothing was joined: it would be bent
        weights, biases = (part * scale[:, None] for part in sets)
        self.blocks = {(*key, step): WeightSets(weights, biases + shift[:, None])}
        self.front = (self.front[0] * scale, self.front[1] * scale + shift)

    def settle(self) -> None:
        """Ends the folding: what comes now is no longer affine in the weight-sets."""
        if not self.bent and self._edge.any():  # copies have to be copies there too
            self.extra.append(self._edge[:, None])
        self.bent = True

    def scaled(self, factor: float) -> bool:
        """Multiplies the units, where that still can be folded in; returns whether it could."""
        if self.bent or factor == 1.0:
            return factor == 1.0
        units = len(self._edge)
        self._rescale(np.full(units, factor), np.zeros(units), ("factor", factor))
        self._edge = self._edge * factor
        if self.batch_mean is not None:
            self.batch_mean, self.batch_std = self.batch_mean * factor, self.batch_std * abs(factor)
        return True

    def _behind(self, activation: Activation) -> None:
        """Composes what the units have gone through so far with one more activation."""
        self.slope = 0.0 if 0.0 in (self.slope, activation.slope) else self.slope * activation.slope
        self.monotone = self.monotone and activation.monotone
        self.homogeneous = self.homogeneous and activation.homogeneous
        if not self.differs:
            self.function = compose(self.function, activation)
            return
        first = self.function
        self.function = Activation(
            name=activation.name if first is LINEAR else f"{first.name} then {activation.name}",
            function=lambda x: activation.function(first.function(x)),
            slope=first.slope * activation.slope,
            monotone=first.monotone and activation.monotone,
            homogeneous=first.homogeneous and activation.homogeneous,
            at_zero=math.nan,  # each unit has its own
            kinks=first.kinks,
        )

    def _append(self, coordinates: np.ndarray) -> None:
        if np.ptp(coordinates, axis=0).any():
            self.extra.append(coordinates)

    @classmethod
    def joined(cls, parts: list["Selection"], effect: Join) -> "Selection":
        """The units of several producers, joined feature by feature."""
        factors = [1.0 if part.scaled(f) else f
                   for part, f in zip(parts, effect.factors, strict=True)]  # fmt: skip
        for part in parts:
            part.settle()
        made = cls({key: sets for part in parts for key, sets in part.blocks.items()})
        made.join = dataclasses.replace(effect, factors=tuple(factors))
        made.parts = tuple(parts)
        made.extra = [one for part in parts for one in part.extra]
        made.bent = True
        made.differs = any(part.differs for part in parts)
        made.even = all(part.even for part in parts)
        made.slope = max(part.slope for part in parts)
        made.monotone = False
        made.homogeneous = effect.homogeneous and all(part.homogeneous for part in parts)
        return made


def _by_unit(effect: Affine, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scale and shift of each unit; all positions of a unit have the same."""
    return of_features(effect.scale, own[:, 0]), of_features(effect.shift, own[:, 0])


def _affine(scale: np.ndarray, shift: np.ndarray) -> Activation:
    """Each unit's own scale and shift between two activations."""
    return Activation(
        name="affine",
        function=lambda x: x * keras.ops.cast(scale, x.dtype) + keras.ops.cast(shift, x.dtype),
        slope=float(np.abs(scale).max()),
        monotone=bool(np.all(scale >= 0) or np.all(scale <= 0)),
        homogeneous=not np.any(shift),
        at_zero=float(shift[0]),
    )
