"""Draw noise that varies slowly over the positions of an image or a sequence."""

import math
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

# Neighbours this far apart are drawn independently; the positions between them are interpolated.
_SPACING = 4


def smooth_noise(shape: Sequence[int], rows: int, generator: np.random.Generator) -> np.ndarray:
    """Draw noise of mean 0 and variance 1.

    Args:
        shape: Shape of a row. The channels are on the last axis, or on the first one if that is
            Keras's image data format and there are several position axes. The other axes count
            positions. A vector has none: its noise is normal.
        rows: Number of rows.
        generator: The source of random numbers.

    Returns:
        Float32 array, shape `(rows, *shape)`.
    """
    first = keras.config.image_data_format() == "channels_first" and len(shape) > 2
    positions = range(2, len(shape) + 1) if first else range(1, len(shape))
    coarse = [rows, *shape]
    for axis in positions:
        coarse[axis] = -(-coarse[axis] // _SPACING)
    noise = generator.standard_normal(coarse).astype(np.float32)
    for axis in positions:
        noise = _stretched(noise, axis, shape[axis - 1])
    return noise / max(float(noise.std()), 1e-6)


def _stretched(noise: np.ndarray, axis: int, length: int) -> np.ndarray:
    """Interpolate along an axis, without a matrix of lengths by lengths: recordings are long."""
    before, after = noise.shape[:axis], noise.shape[axis + 1 :]
    columns = noise.reshape(math.prod(before), noise.shape[axis], 1, math.prod(after))
    stretched = tf.image.resize(columns, (length, 1), "bicubic").numpy()
    return stretched.reshape(*before, length, *after)
