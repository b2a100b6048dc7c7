"""Find the automatic cut-off of a layer: the mode of the histogram of its saliencies.

Srinivas & Babu 2015, Section 4: the saliencies of all pairs form a roughly Gaussian bulk, and the
units below its mode may be removed. The paper leaves open which values and which bins are meant,
on which a lot depends. Both are fixed here.
"""

import numpy as np

_PERCENTILE = 95  # leaves out the long upper tail, which would widen the bins
_BINS = 50
_SMOOTHING = 5  # bins in the moving average
_FEWEST_UNITS = 8


def mode_of_saliencies(
    distances: np.ndarray, importance: np.ndarray
) -> tuple[float | None, tuple[np.ndarray, np.ndarray] | None]:
    """Find the mode of `s_ij = <a_j^2> ||W_i - W_j||^2` over ordered pairs.

    Args:
        distances: Float array, shape `(survivors, units)`: squared distances of units i, all or
            some, from every unit j. Infinite values are left out.
        importance: Float array, shape `(units,)`: `<a_j^2>`.

    Returns:
        The mode and the histogram: counts, shape `(bins,)`, and edges, shape `(bins + 1,)`. The
        mode is None if the tallest bin is the first. Both are None for fewer than 8 units, or if
        all values are equal.
    """
    with np.errstate(invalid="ignore"):  # an importance of 0 times an infinite distance
        values = importance * distances
    values = values[np.isfinite(values)]
    if len(importance) < _FEWEST_UNITS or len(values) == 0:
        return None, None
    top = float(np.percentile(values, _PERCENTILE, overwrite_input=True))
    if top <= 0 or values.min() == values.max():
        return None, None
    counts, edges = np.histogram(values, bins=_BINS, range=(0.0, top))
    smooth = np.convolve(counts, np.ones(_SMOOTHING) / _SMOOTHING, mode="same")
    tallest = int(np.argmax(smooth))
    histogram = (counts, edges)
    if tallest == 0:
        return None, histogram
    return float((edges[tallest] + edges[tallest + 1]) / 2), histogram
