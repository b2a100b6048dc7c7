"""Find how many removals bring an exported file down to a size.

The size is that of the file itself: the model is exported, again and again, at widths that lie
ever closer to the budget. A file's size is nearly linear in the parameters.
"""

from collections.abc import Callable

import keras
import numpy as np

from keras_dfprune.exporting.export import exported_size
from keras_dfprune.planning.read_arguments import limit_of
from keras_dfprune.report.progress import Progress

# Exports at most, and the share of the budget at which the file is as large as it needs to be.
_TRIALS, _CLOSE = 12, 0.97


def removals_to_bytes(
    model: keras.Model,
    kind: str,
    size: float | int,
    narrow: Callable[[int], keras.Model],
    parameters: np.ndarray,
    progress: Progress,
) -> int:
    """Return a number of removals whose exported file is no larger than a size.

    Args:
        model: The original.
        kind: Format and quantisation, such as `"tflite:int8"`.
        size: Largest size in bytes, or the fraction of the original's file.
        narrow: Function from a number of removals to the narrow model.
        parameters: Int array, shape `(removals + 1,)`: parameters after each removal.
        progress: Shows how many files were written.

    Returns:
        The number of removals. The file is at most 3 % smaller than the budget, unless single
        removals make larger steps.

    Raises:
        ValueError: If the budget can't be reached. The message says the minimum.
    """
    whole = exported_size(model, kind)
    limit = limit_of(size, whole)
    if whole <= limit:
        return 0
    few, many = 0, len(parameters) - 1
    sizes = {few: whole, many: exported_size(narrow(many), kind)}
    if sizes[many] > limit:
        raise ValueError(
            f"`max_bytes={{'{kind}': {size}}}` can't be reached: with every layer at its narrowest "
            f"the file still has {sizes[many]} bytes. Allow at least that many."
        )
    for trial in progress.over("Measuring files", range(_TRIALS), "file"):
        if many - few <= 1 or sizes[many] >= _CLOSE * limit:
            break
        # On the line through both ends at first; halfway every third time, in case it is bent.
        share = (sizes[few] - 0.99 * limit) / max(1, sizes[few] - sizes[many])
        share = 0.5 if trial % 3 == 2 else min(max(share, 0.02), 0.98)
        wanted = parameters[few] - share * (parameters[few] - parameters[many])
        steps = int(np.searchsorted(-parameters, -wanted))
        steps = min(max(steps, few + 1), many - 1)
        sizes[steps] = exported_size(narrow(steps), kind)
        few, many = (few, steps) if sizes[steps] <= limit else (steps, many)
    return many
