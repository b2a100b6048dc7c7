"""Show how the units of a recurrent layer follow from their inputs, for a method to draw them."""

import numpy as np

from keras_dfprune.locate.groups import ProducerFeatures
from keras_dfprune.methods.base import GroupView, Recurrence
from keras_dfprune.methods.feed import Feed
from keras_dfprune.rules.activations import LINEAR
from keras_dfprune.rules.effects import Affine, Nonlinear
from keras_dfprune.rules.recurrent import RecurrentRule
from keras_dfprune.surgery.folding import FoldedUnits
from keras_dfprune.surgery.weights import LayerStates, values_of_features


def find_recurrence(
    units: FoldedUnits, producer: ProducerFeatures, feeds: list[Feed], states: LayerStates
) -> Recurrence | None:
    """Return the recurrence of units at a seam, or None if their layer isn't recurrent.

    Args:
        units: Units of one producer, folded up to the seam.
        producer: The producer.
        feeds: Sources of its inputs.
        states: The present weights.
    """
    rule, operation = producer.rule, producer.call.operation
    if not isinstance(rule, RecurrentRule):
        return None
    state = states[producer.path]
    weights, biases = rule.gates(state)
    gates = GroupView(
        name=producer.path,
        weights=weights,
        constants=biases[:, None],
        activation=LINEAR,
        constant_values=np.full(len(weights), np.nan),
        outgoing=(),
        offset_allowed=False,
        can_survive=np.ones(len(weights), bool),
        batch_mean=None,
        batch_std=None,
        parameters_per_unit=0.0,
        feeds=tuple(feeds),
    )

    def run(values: np.ndarray) -> np.ndarray:
        return _behind(units, rule.run(operation, state, values))

    return Recurrence(gates, run)


def _behind(units: FoldedUnits, values: np.ndarray) -> np.ndarray:
    """Return the values of units at the seam from those behind their layer.

    Args:
        units: The units. The first stage is their layer itself.
        values: Float array, shape `(samples, units)`.
    """
    for effect, features in units.passed[1:]:
        first = features[:, 0]
        if isinstance(effect, Affine):
            scale, shift = (values_of_features(v, first) for v in (effect.scale, effect.shift))
            values = values * scale + shift
        elif isinstance(effect, Nonlinear):
            function = effect.activation
            if effect.coordinates is not None and effect.function_of is not None:
                coordinates = effect.coordinates[features].reshape(len(features), -1)
                values = np.asarray(effect.function_of(coordinates)(values))
            else:
                values = function.values(values)
    return values
