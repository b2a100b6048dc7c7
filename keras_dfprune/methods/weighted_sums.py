"""Shares of old units in new ones into weighted sums, one cluster at a time."""

import numpy as np
import tensorflow as tf


def summed(shares: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """`shares @ matrix`; only the rows with a share are added where each is in one sum only."""
    owners = _single_owners(shares)
    if owners is None:
        return np.asarray(tf.matmul(shares, matrix))
    total = np.empty((len(shares), matrix.shape[1]))
    for row, members in enumerate(members_of(owners, len(shares))):
        np.matmul(shares[row, members], matrix[members], out=total[row])
    return total


def summed_tensor(shares: np.ndarray, matrix: tf.Tensor) -> tf.Tensor:
    """The same where TensorFlow has the matrix."""
    owners = _single_owners(shares)
    if owners is None:
        return tf.matmul(shares, matrix)
    share = shares[owners, np.arange(len(owners))]
    return tf.math.unsorted_segment_sum(share[:, None] * matrix, owners, len(shares))


def _single_owners(shares: np.ndarray) -> np.ndarray | None:
    """The sum that each old unit is in, shape `(units,)`, or None where one is in several.

    Those that are in none are given to the first, where their share is 0.
    """
    if np.any(np.count_nonzero(shares, axis=0) > 1):
        return None
    return np.argmax(shares != 0.0, axis=0)


def members_of(owners: np.ndarray, count: int) -> list[np.ndarray]:
    """For each of `count` owners, 0 and up, what it owns, ascending."""
    sizes = np.bincount(owners, minlength=count)
    return np.split(np.argsort(owners, kind="stable"), np.cumsum(sizes[:-1]))
