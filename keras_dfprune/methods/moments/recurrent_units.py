"""Estimate the moments of recurrent units from draws, because they have no closed form.

What the inputs add to the gates is drawn from the prior as for a Dense layer, and the recurrence is
run on it for some steps: `z_t = mean + sqrt(s) g + sqrt(1 - s) g_t` with `g, g_t ~ N(0, K)`.
"""

import dataclasses
import math

import keras
import numpy as np

from keras_dfprune.methods.base import Context, GroupView, Recurrence
from keras_dfprune.methods.moments.drawn_units import cholesky_factor, draw_components
from keras_dfprune.methods.moments.preactivations import group_preactivations
from keras_dfprune.methods.moments.prior import Prior
from keras_dfprune.methods.moments.unit_moments import UnitMoments, sample_moments
from keras_dfprune.rules.activations import describe

# Share of the inputs' variance that lasts over all steps, half as for the positions of a kernel.
LASTING_SHARE = 0.5
STEPS = 8
# Rows for each unit, and their bounds.
_ROWS_PER_UNIT, _FEWEST_ROWS, _MOST_ROWS = 4, 256, 2048
_ROWS_AT_ONCE = 256


def recurrent_moments(
    group: GroupView, recurrence: Recurrence, prior: Prior, context: Context
) -> UnitMoments:
    """Estimate the moments of a group's recurrent units.

    Args:
        group: The group.
        recurrence: Its recurrence.
        prior: The prior of the inputs.
        context: Holds the moments of the earlier groups, and the seed.

    Returns:
        The `UnitMoments` over the steps of all draws.
    """
    # Gates are squashed: a scale counts as for units that are.
    squashed = describe(keras.activations.tanh)
    gates = dataclasses.replace(recurrence.gates, activation=squashed)
    known = group_preactivations(gates, prior, context)
    factor = cholesky_factor(known)
    random = np.random.default_rng(context.seed)
    rows = int(np.clip(_ROWS_PER_UNIT * group.units, _FEWEST_ROWS, _MOST_ROWS))
    values = []
    for start in range(0, rows, _ROWS_AT_ONCE):  # the draws of all rows may not fit into memory
        count = min(_ROWS_AT_ONCE, rows - start)
        means, scales = draw_components(known, count, random)
        lasting = random.standard_normal((count, 1, len(factor)), np.float32)
        passing = random.standard_normal((count, STEPS, len(factor)), np.float32)
        normal = math.sqrt(LASTING_SHARE) * lasting + math.sqrt(1.0 - LASTING_SHARE) * passing
        drawn = means[:, None] + scales[:, None, None] * (normal @ factor.T)
        values.append(recurrence.run(drawn.astype(np.float32)))
    moments = sample_moments(np.concatenate(values))
    return dataclasses.replace(moments, scale_known=known.scale_known)
