"""Compute weighted sums of rows, `shares @ matrix`, cluster by cluster where clusters are disjoint.

Without this, most of the product is multiplied by shares that are 0.
"""

import numpy as np
import tensorflow as tf


def summed(shares: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return `shares @ matrix`.

    Args:
        shares: Float64 array, shape `(sums, rows)`.
        matrix: Float64 array, shape `(rows, columns)`.
    """
    owners = _single_owners(shares)
    if owners is None:
        return np.asarray(tf.matmul(shares, matrix))
    total = np.empty((len(shares), matrix.shape[1]))
    for row, members in enumerate(members_of(owners, len(shares))):
        np.matmul(shares[row, members], matrix[members], out=total[row])
    return total


def summed_tensor(shares: np.ndarray, matrix: tf.Tensor) -> tf.Tensor:
    """Return `shares @ matrix` for a matrix that is a TensorFlow tensor."""
    owners = _single_owners(shares)
    if owners is None:
        return tf.matmul(shares, matrix)
    share = shares[owners, np.arange(len(owners))]
    return tf.math.unsorted_segment_sum(share[:, None] * matrix, owners, len(shares))


def _single_owners(shares: np.ndarray) -> np.ndarray | None:
    """Return the only sum that each row is in, shape `(rows,)`, or None if a row is in several.

    Rows that are in no sum count as members of the first, where their share is 0.
    """
    if np.any(np.count_nonzero(shares, axis=0) > 1):
        return None
    return np.argmax(shares != 0.0, axis=0)


def members_of(owners: np.ndarray, count: int) -> list[np.ndarray]:
    """List the members of each owner, ascending.

    Args:
        owners: Int array, shape `(members,)`: the owner of each member, from 0 to `count - 1`.
        count: Number of owners.
    """
    sizes = np.bincount(owners, minlength=count)
    return np.split(np.argsort(owners, kind="stable"), np.cumsum(sizes[:-1]))
