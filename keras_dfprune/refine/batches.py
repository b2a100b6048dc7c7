"""Take batches of given rows, as they are or mixed in pairs."""

from collections.abc import Iterator, Sequence

import numpy as np

from keras_dfprune.graph.compare_outputs import is_float
from keras_dfprune.inputs.model_inputs import Samples

# Fewer rows than this are mixed. Measured with 16 to 5,000 rows: docs/research/measurements.md.
MIXED_BELOW = 2000
# Both parameters of the Beta distribution of the shares of two mixed rows (Zhang et al. 2018).
MIXING = 0.4


def needs_mixtures(rows: Samples) -> bool:
    """Return whether rows are so few that training on mixtures of them follows more closely."""
    arrays = list(rows.values())
    return len(arrays[0]) < MIXED_BELOW and any(map(is_float, arrays))


class RowBatches:
    """Batches of rows: every row once in each epoch, in an order that the seed decides.

    Args:
        arrays: Arrays with the same number of rows.
        size: Rows in a batch.
        seed: Int, 0 or more.
        mixtures: Whether rows are convex mixtures of two rows. Arrays that don't hold floats keep
            the row with the larger share. Of float arrays of shape `(rows, features)` half of a
            batch is drawn instead: normal, with each feature's mean and deviation. (Images of
            independent pixels are too unlike the rows.)
    """

    def __init__(
        self, arrays: Sequence[np.ndarray], size: int, seed: int, *, mixtures: bool = False
    ):
        self._arrays, self._size, self._seed, self._mixtures = arrays, size, seed, mixtures
        self._rows = len(arrays[0])
        self._normal = {
            number: (array.mean(axis=0, dtype=np.float64), array.std(axis=0, dtype=np.float64))
            for number, array in enumerate(arrays)
            if mixtures and is_float(array) and array.ndim == 2
        }

    def __call__(self, step: int) -> list[np.ndarray]:
        """Return the batch of a step, from 1 on; always the same for the same step."""
        chosen = self._in_epochs((step - 1) * self._size, step * self._size)
        if not self._mixtures:
            return [array[chosen] for array in self._arrays]
        generator = np.random.default_rng([self._seed, 2, step])
        others = generator.permutation(chosen)
        shares = generator.beta(MIXING, MIXING, self._size)
        mixed = [_mix(array, chosen, others, shares) for array in self._arrays]
        for number, (mean, deviation) in self._normal.items():
            drawn = mixed[number][: self._size // 2]
            drawn[:] = mean + deviation * generator.standard_normal(drawn.shape)
        return mixed

    def _in_epochs(self, start: int, stop: int) -> np.ndarray:
        """Return a stretch of the endless sequence of all rows in ever new orders."""
        epochs = range(start // self._rows, (stop - 1) // self._rows + 1)
        orders = [
            np.random.default_rng([self._seed, 1, epoch]).permutation(self._rows)
            for epoch in epochs
        ]
        first = start - epochs.start * self._rows
        return np.concatenate(orders)[first : first + stop - start]


def _mix(
    array: np.ndarray, chosen: np.ndarray, others: np.ndarray, shares: np.ndarray
) -> np.ndarray:
    if not is_float(array):
        return array[np.where(shares >= 0.5, chosen, others)]
    share = shares.reshape(-1, *[1] * (array.ndim - 1)).astype(np.float32)
    return (share * array[chosen] + (1 - share) * array[others]).astype(array.dtype)


def in_chunks(
    arrays: Sequence[np.ndarray], size: int, *, whole: bool = False
) -> Iterator[list[np.ndarray]]:
    """Yield rows in their order, `size` at a time.

    Args:
        arrays: Arrays with the same number of rows.
        size: Rows in a chunk.
        whole: Whether the last chunk is filled up with the first rows, for models that take
            batches of one size only.
    """
    rows = len(arrays[0])
    for start in range(0, rows, size):
        chosen = np.arange(start, start + size)
        chosen = chosen % rows if whole else chosen[chosen < rows]
        yield [array[chosen] for array in arrays]
