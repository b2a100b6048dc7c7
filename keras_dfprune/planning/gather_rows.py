"""Gather the rows on which a plan is made: the caller's, or inputs found for the model."""

import dataclasses

import keras

from keras_dfprune.inputs.found_inputs import can_find_inputs, found_inputs
from keras_dfprune.inputs.rows import Rows, read_data, rows_of_data, split_rows
from keras_dfprune.locate.locate import LocatedModel
from keras_dfprune.planning.request import Request
from keras_dfprune.report.progress import Progress

# Inputs to find for the moments of the units, and where the narrow model is to recover on them.
# More gave no better moments: docs/research/measurements.md.
_FOR_MOMENTS, _FOR_RECOVERY = 256, 768
# Squared differences of the statistics, in units of their variance, above which found inputs are
# not trusted.
_MET = 0.2


def with_data_read(request: Request, model: keras.Model) -> Request:
    """Return the request with arrays in place of its data: a generator can't be read twice.

    Args:
        request: The caller's arguments.
        model: The model whose inputs the data are.

    Raises:
        ValueError: If the rows don't fit the model.
    """
    if request.data is None:
        return request
    return dataclasses.replace(request, data=read_data(model, request.data))


def gather_rows(located: LocatedModel, request: Request, progress: Progress) -> Rows | None:
    """Read the caller's rows, or find inputs that match the model's BatchNormalizations.

    Args:
        located: The model.
        request: The caller's arguments.
        progress: Shows how many steps of the search are done.

    Returns:
        The rows, or None where there are none: draws have to do.

    Raises:
        ValueError: If the rows don't fit the model.
    """
    if request.data is not None:
        return rows_of_data(located.model, request.data, request.seed)
    wanted = request.method.found_inputs
    if wanted is None and request.refine_steps:
        wanted = "auto"
    lossless = request.tolerance == 0
    if not wanted or lossless or not request.asks_for_units or not located.layout.prunable:
        return None
    if can_find_inputs(located) is not None:
        return None
    count = _FOR_RECOVERY if request.refine_steps else _FOR_MOMENTS
    if isinstance(wanted, int):
        count = wanted
    try:
        found = found_inputs(located, count=count, seed=request.seed, progress=progress)
    except Exception:  # whatever a layer raises that can't be run here, or has no gradient
        return None
    if not found.after <= _MET:
        return None
    source = (
        f"{count:,} inputs found from the statistics of {found.layers} BatchNormalization layers "
        f"(met to {found.after**0.5:.1%} of a deviation)"
    )
    return split_rows(found.samples, source, request.seed, synthetic=True)
