"""Moments of the parts of a residual group into moments of its units.

Parts are taken as independent: `Cov(a + b) = Cov(a) + Cov(b)`, `E[ab (ab)^T] = E[a a^T] E[b b^T]`
entry by entry. What is joined and then activated is taken as normal.
"""

import functools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_dfprune.methods.moments.unit_moments import UnitMoments, mixture


def joined_moments(
    kind: str, parts: Sequence[UnitMoments], factors: Sequence[float]
) -> UnitMoments:
    """Moments of units that are made of several parts, feature by feature.

    Args:
        kind: `"sum"`, `"product"` or `"extreme"`; of the last nothing better is known than that
            it is one of the parts, each equally likely.
        parts: The moments of the parts.
        factors: What each part is multiplied by in a sum.

    Returns:
        The `UnitMoments`.
    """
    if kind == "sum":
        mean = sum(factor * part.mean for factor, part in zip(factors, parts, strict=True))
        spread = sum(f**2 * part.covariance for f, part in zip(factors, parts, strict=True))
        return UnitMoments(mean, spread + mean[:, None] * mean)
    if kind == "product":
        return UnitMoments(
            np.prod([part.mean for part in parts], axis=0),
            functools.reduce(tf.multiply, [part.second for part in parts]),
        )
    return mixture(parts)


def pooled_moments(seams: Sequence[UnitMoments], weights: Sequence[float]) -> UnitMoments:
    """One set of moments for units that are read at several seams.

    One merge serves all of them; its error is the sum over the seams, so each counts with its
    outgoing weights.

    Args:
        seams: The moments at each seam.
        weights: Squared norm of the outgoing weights at each; not all zero.

    Returns:
        The `UnitMoments`.
    """
    shares = np.asarray(weights, np.float64) / np.sum(weights)
    return UnitMoments(
        sum(share * seam.mean for share, seam in zip(shares, seams, strict=True)),
        sum(share * seam.second for share, seam in zip(shares, seams, strict=True)),
    )
