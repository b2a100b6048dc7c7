"""Combine the moments of the parts of a residual group into moments of its units.

The parts are taken as independent: `Cov(a + b) = Cov(a) + Cov(b)`, and entry by entry
`E[ab (ab)^T] = E[a a^T] E[b b^T]`. If an activation follows, their joined values are taken as
normal.
"""

import functools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_dfprune.methods.moments.unit_moments import UnitMoments, mixture_moments


def joined_moments(
    kind: str, parts: Sequence[UnitMoments], factors: Sequence[float]
) -> UnitMoments:
    """Compute the moments of units that join several parts, feature by feature.

    Args:
        kind: `"sum"`, `"product"` or `"extreme"` (maximum or minimum). An extreme is taken as a
            mixture in which each part is equally likely. `"start"`: recurrent units, which are
            taken as if they started from 0, and the states that they start from.
        parts: The moments of the parts.
        factors: Factor of each part in a sum.

    Returns:
        The `UnitMoments` of the joined units.
    """
    scale_known = all(part.scale_known for part in parts)
    if kind == "sum":
        scale = np.array(factors, np.float64)
        mean = np.sum(scale[:, None] * [part.mean for part in parts], axis=0)
        covariance = tf.add_n(
            [factor**2 * part.covariance for factor, part in zip(scale, parts, strict=True)]
        )
        return UnitMoments(mean, covariance + mean[:, None] * mean, scale_known)
    if kind == "start":
        return parts[0]
    if kind == "product":
        return UnitMoments(
            np.prod([part.mean for part in parts], axis=0),
            functools.reduce(tf.multiply, [part.second for part in parts]),
            scale_known,
        )
    return mixture_moments(parts)


def pooled_moments(seams: Sequence[UnitMoments], weights: Sequence[float]) -> UnitMoments:
    """Average the moments of units that are read at several seams.

    One merge serves all seams, and its error is the sum over them. So each seam counts with its
    outgoing weights.

    Args:
        seams: The moments at each seam.
        weights: Squared norm of the outgoing weights at each seam; not all zero.

    Returns:
        The averaged `UnitMoments`.
    """
    shares = np.asarray(weights, np.float64) / np.sum(weights)
    return UnitMoments(
        np.sum(shares[:, None] * [seam.mean for seam in seams], axis=0),
        tf.add_n([share * seam.second for share, seam in zip(shares, seams, strict=True)]),
        all(seam.scale_known for seam in seams),
    )
