"""Estimate moments from draws, where layers that read the same features have no closed form.

The two factors of a gated block are an example: taken as independent, they lose the correlations
between `a_i` and `b_j` in `E[a_i b_i a_j b_j]`.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from keras_dfprune.methods.base import Context, GroupView, JoinedUnits
from keras_dfprune.methods.moments.preactivations import group_preactivations
from keras_dfprune.methods.moments.prior import Prior, root_mean
from keras_dfprune.methods.moments.symmetric_matrices import add_ridge
from keras_dfprune.methods.moments.unit_moments import (
    Preactivations,
    UnitMoments,
    mixed_moments,
    sample_moments,
)

# Draws for each unit, and their bounds.
_ROWS_PER_UNIT, _FEWEST_ROWS, _MOST_ROWS = 16, 2048, 8192
# Pre-activations of all parts together: their covariance is a full matrix in float64.
_MOST_PREACTIVATIONS = 8192
_ROWS_AT_ONCE = 1024
# Relative to the mean variance, for a Cholesky factor.
_RIDGE = 1e-6
# The weight of independent parts, in draws for each unit. As for rows of data.
_PRIOR_ROWS = 0.5


def with_shared_inputs(
    joined: JoinedUnits, independent: UnitMoments, prior: Prior, context: Context
) -> UnitMoments:
    """Improve the moments of joined units whose parts read the same features.

    Args:
        joined: The parts.
        independent: Their moments if they were independent.
        prior: The prior of the inputs.
        context: Holds the moments of the earlier groups, and the seed.

    Returns:
        The moments of draws, mixed with `independent`; or `independent` itself, where the parts
        don't read the same features, or aren't a sum or product of Dense layers.
    """
    if joined.kind not in ("sum", "product") or not _read_the_same(joined.parts):
        return independent
    known = group_preactivations(_stacked(joined.parts), prior, context)
    units = joined.parts[0].units
    rows = int(np.clip(_ROWS_PER_UNIT * units, _FEWEST_ROWS, _MOST_ROWS))
    random = np.random.default_rng(context.seed)
    factor = cholesky_factor(known)
    values = []
    for start in range(0, rows, _ROWS_AT_ONCE):
        count = min(_ROWS_AT_ONCE, rows - start)
        normal = random.standard_normal((count, len(factor)), np.float32)
        means, scales = draw_components(known, count, random)
        values.append(_join(joined, means + scales[:, None] * (normal @ factor.T)))
    drawn = sample_moments(np.concatenate(values))
    share = _PRIOR_ROWS * units / (_PRIOR_ROWS * units + rows)
    mixed = mixed_moments(drawn, independent, share)
    return dataclasses.replace(mixed, scale_known=known.scale_known)


def cholesky_factor(known: Preactivations) -> np.ndarray:
    """Return the Cholesky factor of the covariance in a component of scale 1: float64."""
    variance = root_mean(known.variance) ** 2
    return tf.linalg.cholesky(add_ridge(known.covariance, _RIDGE * variance + 1e-300)).numpy()


def draw_components(
    known: Preactivations, rows: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a component for each row, and return its means `(rows, units)` and scales `(rows,)`."""
    means, scales, shares = known.components
    component = random.choice(len(shares), rows, p=shares / np.sum(shares))
    return means[component], scales[component]


def _read_the_same(parts: tuple[GroupView, ...]) -> bool:
    """Return whether all parts are units of Dense layers that read one tensor."""
    first = parts[0]
    total = sum(part.units for part in parts)
    return total <= _MOST_PREACTIVATIONS and all(
        part.reads is not None
        and part.reads == first.reads
        and part.joined is None
        and part.recurrence is None
        and not part.taps
        and part.inputs == first.inputs
        and (part.batch_mean is None) == (first.batch_mean is None)
        for part in parts
    )


def _stacked(parts: tuple[GroupView, ...]) -> GroupView:
    """Return all parts as the units of one layer."""

    def stack(arrays: list[np.ndarray | None]) -> np.ndarray | None:
        known = [array for array in arrays if array is not None]
        return np.concatenate(known) if known else None

    return dataclasses.replace(
        parts[0],
        weights=np.concatenate([part.weights for part in parts]),
        constants=np.concatenate([part.constants[:, :1] for part in parts]),
        batch_mean=stack([part.batch_mean for part in parts]),
        batch_std=stack([part.batch_std for part in parts]),
    )


def _join(joined: JoinedUnits, preactivations: np.ndarray) -> np.ndarray:
    """Return the values of joined units: float array, `(rows, units)`."""
    split = np.split(preactivations, len(joined.parts), axis=1)
    values = [part.activation.values(z) for part, z in zip(joined.parts, split, strict=True)]
    if joined.kind == "product":
        return np.prod(values, axis=0)
    return np.tensordot(np.asarray(joined.factors, np.float64), np.stack(values), 1)
