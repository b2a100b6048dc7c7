"""Fold every layer in front of a seam into rows of numbers, so that equal rows mean equal units.

Affine layers in front of the first non-linearity are multiplied into the weight-sets. Parameters
behind it become further coordinates. Where units of several producers are joined, the weight-sets
of all producers stand side by side.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from keras_dfprune.locate.groups import Inlet
from keras_dfprune.rules.activations import LINEAR, Activation, affine, compose
from keras_dfprune.rules.effects import Affine, Effect, Join, Nonlinear, is_identity
from keras_dfprune.rules.features import Piece, Stage
from keras_dfprune.rules.normalization import BatchNormalizationRule
from keras_dfprune.surgery.weights import LayerStates, take_rows, values_of_features


class WeightSets(NamedTuple):
    """Weight-sets of one producer.

    Attributes:
        weights: Float array, shape `(units, inputs)`.
        biases: Float array, shape `(units, 1)`.
        constants: Pre-activation of each unit for which it never changes, NaN for others: float64
            array, shape `(units,)`. Of a producer as it is, with nothing folded in.
    """

    weights: np.ndarray
    biases: np.ndarray
    constants: np.ndarray


def fold_to_seam(
    inlet: Inlet, units: np.ndarray, weight_sets: Mapping[str, WeightSets], states: LayerStates
) -> "FoldedUnits":
    """Fold all layers between a group's producers and one seam.

    Args:
        inlet: An inlet with this seam.
        units: Int array: the units to fold.
        weight_sets: The weight-sets of all columns by the producer's path.
        states: The states of the layers.
    """

    def fold(piece: Piece, stages: Sequence[Stage], order: np.ndarray) -> FoldedUnits:
        first = piece.stages[0]
        if not first.branches:
            columns = first.features[order[units]][:, 0]  # of each unit at this site
            sets = (take_rows(part, columns) for part in weight_sets[first.call.path])
            folded = FoldedUnits({(first.call.path, columns.tobytes()): WeightSets(*sets)})
            return folded.add_all(stages, order[units], states)
        parts = [
            fold(branch, branch.stages, branch.by_unit(len(order))) for branch in first.branches
        ]
        for part, branch in zip(parts, first.branches, strict=True):
            part.pad(branch.paddings)
        join = states.effect(first)
        if not isinstance(join, Join):
            raise TypeError(f"{first.call.path} joins units, but its rule describes no Join")
        joined = FoldedUnits.joined(parts, join, first.paddings)
        return joined.add_all(stages[1:], order[units], states)

    return fold(inlet.piece, inlet.selected, inlet.order)


class FoldedUnits:
    """Units of a group as coordinates, while the stages up to a seam are folded in.

    Args:
        blocks: Weight-sets by what was folded into them. The producer's path and columns come
            first.

    Attributes:
        blocks: The weight-sets of all producers.
        extra: Further coordinates, arrays of shape `(units, k)`.
        function: From the pre-activation, or from the last join, to the unit's value.
        join: The last join of several producers' units, or None.
        parts: The units that it joined.
        passed: The stages so far, by their effects and features, but those of joined parts.
        slope, monotone, homogeneous: As in `Activation`, for all that the units went through.
        batch_mean, batch_std: Mean and deviation of the pre-activation as a BatchNormalization
            measured them, shape `(units,)`, or None.
        nonlinear: Whether any stage so far isn't affine in the weight-sets.
        own_parameters: Whether the units' functions have parameters of their own.
        constant_values: Value of each unit that has the same for every input and at every
            position, NaN for other units. Float64 array, shape `(units,)`.
        paddings: How often zeros have been put beside the units.
        front: Scale and shift that were folded into a single producer's weight-sets: two float
            arrays, shape `(units,)`.
    """

    def __init__(self, blocks: dict[tuple, WeightSets]):
        first = next(iter(blocks.values()))
        units = len(first.weights)
        self.blocks = blocks
        self.extra: list[np.ndarray] = []
        self.function = LINEAR
        self.join: Join | None = None
        self.parts: tuple[FoldedUnits, ...] = ()
        self.passed: list[tuple[Effect, np.ndarray]] = []
        self.slope, self.monotone, self.homogeneous = 1.0, True, True
        self.batch_mean: np.ndarray | None = None
        self.batch_std: np.ndarray | None = None
        self.nonlinear = False
        self.own_parameters = False
        self.constant_values = first.constants.copy()
        self.front = (np.ones(units), np.zeros(units))
        # Value of each unit next to zero padding, where its own contribution is 0.
        self._beside_padding = np.zeros(units)
        self.paddings = 0

    @classmethod
    def joined(cls, parts: Sequence["FoldedUnits"], join: Join, paddings: int) -> "FoldedUnits":
        """Join the units of several producers feature by feature."""
        factors = []
        for part, factor in zip(parts, join.factors, strict=True):
            if part.can_multiply(factor):
                part.multiply(factor)
                factor = 1.0
            factors.append(factor)
            part.end_affine_part()
        units = cls({key: sets for part in parts for key, sets in part.blocks.items()})
        units.join = dataclasses.replace(join, factors=tuple(factors))
        units.parts = tuple(parts)
        units.extra = [coordinates for part in parts for coordinates in part.extra]
        units.nonlinear = True
        units.own_parameters = any(part.own_parameters for part in parts)
        units.constant_values = _joined_constants(units.join, parts)
        units.paddings = paddings
        units.slope = max(part.slope for part in parts)
        units.monotone = False
        units.homogeneous = join.homogeneous and all(part.homogeneous for part in parts)
        return units

    def add_all(
        self, stages: Sequence[Stage], order: np.ndarray, states: LayerStates
    ) -> "FoldedUnits":
        """Fold further stages in, and return these units.

        Args:
            stages: The stages.
            order: Positions by unit: int array, shape `(units, positions)`.
            states: The states of the layers.
        """
        for stage in stages:
            self._add(stage, order, states)
        return self

    def _add(self, stage: Stage, order: np.ndarray, states: LayerStates) -> None:
        effect, features = states.effect(stage), stage.features[order]
        if is_identity(effect):
            return
        self.pad(stage.paddings)
        self.passed.append((effect, features))
        if isinstance(effect, Nonlinear):
            self._add_activation(effect, features)
        elif isinstance(effect, Affine) and self.nonlinear:
            scale, shift = _by_unit(effect, features)
            self._add_coordinates(np.stack([scale, shift], axis=1))
            self._rescale_constants(scale, shift)
            self.own_parameters = True
            self._compose(affine(scale, shift))
        elif isinstance(effect, Affine):
            self._add_affine(effect, stage, features, states)

    def pad(self, paddings: int) -> None:
        """Note that zeros have been put beside the units `paddings` times so far."""
        if paddings > self.paddings:
            self.constant_values[self.constant_values != 0] = np.nan
        self.paddings = paddings

    def _add_activation(self, effect: Nonlinear, features: np.ndarray) -> None:
        self.end_affine_part()
        self.constant_values = _constants_behind(effect, features, self.constant_values)
        activation = effect.activation
        if effect.coordinates is not None and effect.function_of is not None:
            coordinates = effect.coordinates[features].reshape(len(features), -1)
            self._add_coordinates(coordinates)
            function = effect.function_of(coordinates)
            activation = dataclasses.replace(activation, function=function)
            self.own_parameters = True
        self._compose(activation)

    def _add_affine(
        self, effect: Affine, stage: Stage, features: np.ndarray, states: LayerStates
    ) -> None:
        scale, shift = _by_unit(effect, features)
        self._rescale(scale, shift, (stage.call.path, features[:, 0].tobytes()))
        if stage.paddings:
            self._beside_padding = self._beside_padding * scale + shift
        self.batch_mean = self.batch_std = None
        if isinstance(stage.rule, BatchNormalizationRule):
            mean, std = stage.rule.statistics(states[stage.call.path])
            self.batch_mean, self.batch_std = mean[features[:, 0]], std[features[:, 0]]

    def _rescale(self, scale: np.ndarray, shift: np.ndarray, step: tuple) -> None:
        ((key, sets),) = self.blocks.items()  # A single producer: joined units are non-linear.
        weights, biases = (part * scale[:, None] for part in (sets.weights, sets.biases))
        self.blocks = {(*key, step): WeightSets(weights, biases + shift[:, None], sets.constants)}
        self.front = (self.front[0] * scale, self.front[1] * scale + shift)
        self._rescale_constants(scale, shift)

    def _rescale_constants(self, scale: np.ndarray, shift: np.ndarray) -> None:
        scaled = np.where(scale == 0, 0, self.constant_values * scale)  # 0, whatever the unit is
        self.constant_values = scaled + shift

    def end_affine_part(self) -> None:
        """End the affine part: what follows can't be folded into the weight-sets."""
        # Copies must agree beside zero padding, too.
        if not self.nonlinear and self._beside_padding.any():
            self.extra.append(self._beside_padding[:, None])
        self.nonlinear = True

    def can_multiply(self, factor: float) -> bool:
        """Return whether a factor on all units can be folded into the weight-sets."""
        return not self.nonlinear or factor == 1.0

    def multiply(self, factor: float) -> None:
        """Multiply all units. Needs `can_multiply`."""
        if factor == 1.0:
            return
        units = len(self._beside_padding)
        self._rescale(np.full(units, factor), np.zeros(units), ("factor", factor))
        self._beside_padding = self._beside_padding * factor
        if self.batch_mean is not None and self.batch_std is not None:
            self.batch_mean, self.batch_std = self.batch_mean * factor, self.batch_std * abs(factor)

    def _compose(self, activation: Activation) -> None:
        """Compose all functions so far with one more activation."""
        self.slope = 0.0 if 0.0 in (self.slope, activation.slope) else self.slope * activation.slope
        self.monotone = self.monotone and activation.monotone
        self.homogeneous = self.homogeneous and activation.homogeneous
        if not self.own_parameters:
            self.function = compose(self.function, activation)
            return
        first = self.function
        self.function = Activation(
            name=activation.name if first is LINEAR else f"{first.name} then {activation.name}",
            function=lambda x: activation.function(first.function(x)),
            slope=first.slope * activation.slope,
            monotone=first.monotone and activation.monotone,
            homogeneous=first.homogeneous and activation.homogeneous,
            at_zero=math.nan,  # Each unit has another value there.
            kinks=first.kinks,
        )

    def _add_coordinates(self, coordinates: np.ndarray) -> None:
        if np.ptp(coordinates, axis=0).any():  # else they tell no units apart
            self.extra.append(coordinates)


def _by_unit(effect: Affine, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return scale and shift of each unit. All positions of a unit have the same."""
    first = features[:, 0]
    return values_of_features(effect.scale, first), values_of_features(effect.shift, first)


def _constants_behind(effect: Nonlinear, features: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the units' values behind an activation; NaN where they aren't constant and finite.

    Args:
        effect: The activation.
        features: The activation's features by unit: int array, shape `(units, positions)`.
        values: Float array, shape `(units,)`: the values in front of it, NaN where not constant.
    """
    if effect.coordinates is None:
        behind = effect.activation.values(values[None])[0]
    elif effect.of_constants is None:
        behind = np.full(len(values), np.nan)
    else:
        by_feature = np.full(len(effect.coordinates), np.nan)
        by_feature[features] = values[:, None]
        positions = effect.of_constants(by_feature)[features]
        behind = np.where(np.ptp(positions, axis=1) == 0, positions[:, 0], np.nan)
    return np.where(np.isfinite(behind), behind, np.nan)


def _joined_constants(join: Join, parts: Sequence[FoldedUnits]) -> np.ndarray:
    """Return the joined units' values; NaN where they aren't constant."""
    values = np.stack([part.constant_values for part in parts])
    if join.kind == "sum":
        return np.array(join.factors) @ values
    if join.kind == "product":
        return np.where(np.any(values == 0, axis=0), 0, np.prod(values, axis=0))
    return np.where(np.all(values == values[0], axis=0), values[0], np.nan)
