"""Weight-sets into squared distances between all pairs, exact where they are close.

`||W_i - W_j||^2 = ||W_i||^2 + ||W_j||^2 - 2 W_i . W_j` cancels for near-copies, so small ones are
recomputed from the difference in float64. All n x d and n x n arrays are TensorFlow tensors and
stay where TensorFlow places them.
"""

import contextlib

import numpy as np
import tensorflow as tf

# Below this share of the norms the Gram formula in float32 has lost most of its digits.
_NEAR = 1e-3
# Elements of the differences that are held at once, as float64: 128 MiB.
_CHUNK = 2**24


class PairDistances:
    """Squared distances between weight-sets divided by their norms.

    Args:
        weight_sets: Float array, shape `(units, coordinates)`.
        norms: Float64 array, shape `(units,)`: what each weight-set is divided by; ones for the
            plain distance.

    Attributes:
        matrix: Float32 tensor, shape `(units, units)`, infinite on the diagonal (float64 for
            float64 weight-sets).
    """

    def __init__(self, weight_sets: np.ndarray, norms: np.ndarray):
        self._raw = tf.convert_to_tensor(weight_sets)
        self._norms = tf.constant(norms, tf.float64)
        dtype = self._raw.dtype
        rows = tf.cast(tf.cast(self._raw, tf.float64) / self._norms[:, None], dtype)
        squares = tf.reduce_sum(tf.square(rows), axis=1)
        with _full_precision():
            gram = tf.matmul(rows, rows, transpose_b=True)
        sums = squares[:, None] + squares[None, :]
        matrix = tf.maximum(sums - 2 * gram, 0)
        self.gram = gram
        matrix = self._recompute(matrix, tf.where(matrix < _NEAR * sums), sign=-1.0)
        self.matrix = tf.linalg.set_diag(matrix, tf.fill([len(norms)], dtype.as_numpy_dtype("inf")))

    def _recompute(self, matrix: tf.Tensor, pairs: tf.Tensor, sign: float) -> tf.Tensor:
        """Replaces the entries at `pairs` by `||W_i + sign W_j||^2` taken from the vectors."""
        pairs = tf.boolean_mask(pairs, pairs[:, 0] < pairs[:, 1])
        step = max(1, _CHUNK // max(1, self._raw.shape[1]))
        for start in range(0, len(pairs), step):
            some = pairs[start : start + step]
            first, second = self._vectors(some[:, 0]), self._vectors(some[:, 1])
            exact = tf.reduce_sum(tf.square(first + sign * second), axis=1)
            exact = tf.cast(exact, matrix.dtype)
            matrix = tf.tensor_scatter_nd_update(matrix, some, exact)
            matrix = tf.tensor_scatter_nd_update(matrix, tf.reverse(some, [1]), exact)
        return matrix

    def _vectors(self, units: tf.Tensor) -> tf.Tensor:
        rows = tf.cast(tf.gather(self._raw, units), tf.float64)
        return rows / tf.gather(self._norms, units)[:, None]

    def row(self, unit: int) -> np.ndarray:
        """Distances from one unit to all, shape `(units,)`."""
        return self.matrix[unit].numpy()

    def nearest(self, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Each unit's nearest other unit among those allowed, and its distance."""
        forbidden = tf.where(allowed, 0.0, np.inf)
        masked = self.matrix + tf.cast(forbidden, self.matrix.dtype)[None, :]
        nearest = tf.argmin(masked, axis=1)
        return nearest.numpy(), tf.reduce_min(masked, axis=1).numpy().astype(np.float64)

    def pairs(self, limit: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Ordered pairs (i, j), i != j, as the index of the removed unit and the distance.

        Args:
            limit: With more units than this, two million random pairs instead of all.
            seed: For the random pairs.
        """
        units = int(self.matrix.shape[0])
        if units <= limit:
            flat = np.arange(units * units)
        else:
            flat = np.random.default_rng(seed).integers(0, units * units, 2_000_000)
        flat = flat[flat // units != flat % units]
        distances = tf.gather(tf.reshape(self.matrix, [-1]), flat).numpy()
        return flat // units, distances.astype(np.float64)


class RatioDistances(PairDistances):
    """Section 3.4: `||W'_i - W'_j|| / ||W'_i + W'_j|| + |b_i - b_j| / |b_i + b_j|`.

    A heuristic; squared, as it takes the place of a norm. W' has unit norm; 0/0 counts as 0, x/0
    as infinite.

    Args:
        weights: Float array, shape `(units, inputs)`: the weight-sets without their biases.
        norms: Float64 array, shape `(units,)`: their norms.
        biases: Float array, shape `(units,)`.
    """

    def __init__(self, weights: np.ndarray, norms: np.ndarray, biases: np.ndarray):
        super().__init__(weights, norms)
        dtype = self.matrix.dtype
        ones = tf.linalg.diag_part(self.gram)
        sums = ones[:, None] + ones[None, :]
        across = tf.maximum(sums + 2 * self.gram, 0)
        across = self._recompute(across, tf.where(across < _NEAR * sums), sign=1.0)
        bias = tf.constant(biases / norms, tf.float64)
        apart = tf.abs(bias[:, None] - bias[None, :])
        together = tf.abs(bias[:, None] + bias[None, :])
        ratio = _ratio(tf.sqrt(self.matrix), tf.sqrt(across))
        self.matrix = tf.square(ratio + tf.cast(_ratio(apart, together), dtype))
        infinite = tf.fill([len(norms)], dtype.as_numpy_dtype("inf"))
        self.matrix = tf.linalg.set_diag(self.matrix, infinite)


def _ratio(above: tf.Tensor, below: tf.Tensor) -> tf.Tensor:
    infinite = tf.fill(tf.shape(above), above.dtype.as_numpy_dtype("inf"))
    quotient = above / tf.where(below == 0, tf.ones_like(below), below)
    quotient = tf.where(below == 0, infinite, quotient)
    return tf.where(above == 0, tf.zeros_like(above), quotient)


@contextlib.contextmanager
def _full_precision():
    """Keeps newer GPUs from rounding the factors of a float32 product to ten bits (TF32)."""
    enabled = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(enabled)
