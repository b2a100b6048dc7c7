"""All pairwise saliencies of a layer into the cut-off: the mode of their histogram.

Srinivas & Babu 2015, Section 4: the saliencies form a roughly Gaussian bulk, and the units below
its mode may go. Which values and which bins decides a lot; they are fixed here.
"""

import numpy as np

_PERCENTILE = 95  # leaves out the long upper tail, which would widen the bins
_BINS = 50
_SMOOTHING = 5  # bins in the moving average
_FEWEST_UNITS = 8


def mode_of_saliencies(
    distances: np.ndarray, importance: np.ndarray
) -> tuple[float | None, tuple[np.ndarray, np.ndarray] | None]:
    """Finds the mode of `s_ij = <a_j^2> ||W_i - W_j||^2` over ordered pairs.

    Args:
        distances: Float array, shape `(survivors, units)`: squared distances of units i, all or
            some, from every unit j; infinite values are left out.
        importance: Float array, shape `(units,)`: `<a_j^2>`.

    Returns:
        The mode and the histogram (counts, edges). The mode is None where the histogram has
        none: fewer than 8 units, all values equal, or the tallest bin is the first.
    """
    with np.errstate(invalid="ignore"):  # a weight of 0 at an infinite distance
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
