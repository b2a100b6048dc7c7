"""Remove the units whose loss costs least in expectation, without data.

The paper bounds the error of a pair of units. `Moments` computes the expected error of a whole set:
`C = E[h h^T]` in closed form, then Optimal Brain Surgeon for units (`removal_order.py`).
"""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from keras_dfprune.methods.base import Context, Curve, GroupView, Method
from keras_dfprune.methods.lossless import lossless_removals
from keras_dfprune.methods.moments.curve import curve_of_given_units, lossless_curve, moment_curve
from keras_dfprune.methods.moments.drawn_units import with_shared_inputs
from keras_dfprune.methods.moments.joined_units import joined_moments, pooled_moments
from keras_dfprune.methods.moments.preactivations import group_preactivations
from keras_dfprune.methods.moments.prior import PriorArgument, read_prior
from keras_dfprune.methods.moments.recurrent_units import recurrent_moments
from keras_dfprune.methods.moments.remaining_units import GroupMoments
from keras_dfprune.methods.moments.symmetric_matrices import is_finite
from keras_dfprune.methods.moments.unit_moments import (
    UnitMoments,
    mixed_moments,
    normal_moments,
    sample_moments,
)
from keras_dfprune.report.memory import OUT_OF_MEMORY, NeedsMemory
from keras_dfprune.report.warning import warn
from keras_dfprune.rules.activations import LINEAR

# The prior counts as much as this many rows for each unit. Measured on networks of several kinds:
# docs/research/measurements.md.
_PRIOR_ROWS = 0.5
# Fewer inputs have no variances to match.
_FEWEST_INPUTS = 4
# Float64 matrices of units by units that are held at the peak, with as many inputs and outputs as
# units. With few outputs there are fewer.
_MATRICES = 16


class Moments(Method):
    """Removal of the units that cost least in expectation, and least-squares surgery.

    Under an assumed distribution of the inputs (the *prior*) the second moments of the units have
    a closed form. From them follow, without data, the cheapest unit to remove, the cost of its
    removal when all other units and the next bias take over by least squares, and the predicted
    relative error of a plan.

    Args:
        prior: `"weights"` (default): the inputs' correlations come half from the weights, because
            trained weights lie in the span of the data, and half from the identity. Their mean is
            only known to lie in an interval. `"isotropic"`: the identity alone, and zero mean. Or a
            dict `{input name: (mean, std)}` for inputs that are known: numbers, or arrays with one
            value for each feature (a covariance matrix may replace `std`). Arrays are worth giving;
            a single number for all features is no gain.
        prior_scale: Mean variance of unknown inputs. `"auto"` (default): not known. The second
            moments are averaged over standard deviations of the pre-activations of 0.7 to 14 times
            their biases, and 0.5 at least (both root mean squares over the units).
        found_inputs: Number of inputs that are found from the statistics of BatchNormalization
            layers where no rows are given. `"auto"` (default): 256, or 768 for recovery, and fewer
            for large models. 0 for none. Any other number must be at least 4.

    Raises:
        ValueError: If an argument is out of its range.

    Examples:
        >>> import keras_dfprune as dfprune
        >>> dfprune.Moments(prior="isotropic").get_config()["prior"]
        'isotropic'
    """

    predicts_error = True

    def __init__(
        self,
        prior: PriorArgument = "weights",
        prior_scale: float | str = "auto",
        found_inputs: int | str = "auto",
    ) -> None:
        self._prior = read_prior(prior, prior_scale)
        self.prior, self.prior_scale = prior, prior_scale
        self.found_inputs = _read_found_inputs(found_inputs)

    def check_inputs(self, names: Sequence[str], taken: Collection[str]) -> None:
        """Check that the prior names inputs of the model, and warn of a prior that is not used.

        Raises:
            ValueError: If the prior names an input that the model doesn't have.
        """
        unknown = [name for name in self._prior.inputs if name not in names]
        if unknown:
            raise ValueError(
                f"`prior` must name inputs of the model: {', '.join(map(repr, names))}. (An input "
                f"gets its name by `keras.Input(shape, name=...)`.) Received: {unknown[0]!r}"
            )
        unused = [name for name in self._prior.inputs if name not in taken]
        if unused:
            warn(
                f"The prior of input {', '.join(map(repr, unused))} is not used: no layer that can "
                "be pruned takes it as it is. Give `data` instead."
            )

    def curve(self, group: GroupView, context: Context) -> Curve:
        """Order the units by their expected cost; see `Method.curve`.

        Raises:
            MemoryError: If the full matrices that it needs don't fit.
        """
        try:
            return self._curve(group, context)
        except OUT_OF_MEMORY as error:
            needed = _MATRICES * 8 * group.units**2 / 1e9
            raise NeedsMemory(
                f"method='moments' needs about {needed:.1f} GB for the {group.units} units of "
                f"layer '{group.name}': full float64 matrices, which can't be tiled. Use "
                "method='saliency' for this layer, or leave it out of `layers`."
            ) from error

    def _curve(self, group: GroupView, context: Context) -> Curve:
        known = self._group_moments(group, context)
        if context.removed is not None and is_finite(known.moments.second):
            return curve_of_given_units(known, context.removed)
        removals = lossless_removals(group)
        if not is_finite(known.moments.second):
            note = f"lossless removals only: the moments of {group.activation.name} are not finite"
            return lossless_curve(group, removals, note)
        return moment_curve(known, removals, context.progress)

    def _group_moments(self, group: GroupView, context: Context) -> GroupMoments:
        """Compute a group's moments: the prior's, mixed with those of samples if there are any."""
        known, values = self._prior_moments(group, context), context.values.get(group.name)
        if values is None:
            return known
        prior_share = _PRIOR_ROWS * group.units / (_PRIOR_ROWS * group.units + context.rows)
        samples = sample_moments(values)
        return GroupMoments(group, mixed_moments(samples, known.moments, prior_share))

    def _prior_moments(self, group: GroupView, context: Context) -> GroupMoments:
        """Compute a group's moments from the prior alone."""
        if group.recurrence is not None:
            return GroupMoments(
                group, recurrent_moments(group, group.recurrence, self._prior, context)
            )
        if not group.seams:
            preactivations = group_preactivations(group, self._prior, context)
            moments = preactivations.moments(group.activation)
            return GroupMoments(group, moments, preactivations if group.averages else None)
        weights = [float(np.sum(np.square(seam.outgoing_matrix()))) for seam in group.seams]
        if not any(weights):
            weights = [1.0] * len(weights)
        seams = [self._seam_moments(seam, context) for seam in group.seams]
        return GroupMoments(group, pooled_moments(seams, weights))

    def _seam_moments(self, view: GroupView, context: Context) -> UnitMoments:
        """Compute the moments of a group as one seam sees it, or of a part that it joins."""
        if view.recurrence is not None:
            return recurrent_moments(view, view.recurrence, self._prior, context)
        if view.joined is None:
            return group_preactivations(view, self._prior, context).moments(view.activation)
        parts = [self._seam_moments(part, context) for part in view.joined.parts]
        independent = joined_moments(view.joined.kind, parts, view.joined.factors)
        joined = with_shared_inputs(view.joined, independent, self._prior, context)
        if view.activation.linear_pieces == LINEAR.linear_pieces:
            return joined
        return normal_moments(view.activation, joined)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, JSON-serialisable."""
        prior: object = self.prior
        if self._prior.inputs:
            prior = {
                name: [known.mean.tolist(), known.spread.tolist()]
                for name, known in self._prior.inputs.items()
            }
        scale = self.prior_scale
        return {
            "prior": prior,
            "prior_scale": scale if isinstance(scale, str) else float(scale),
            "found_inputs": self.found_inputs,
        }


def _read_found_inputs(count: object) -> int | str:
    if isinstance(count, str) and count == "auto":
        return count
    if isinstance(count, int | np.integer) and not isinstance(count, bool):
        if count == 0 or count >= _FEWEST_INPUTS:
            return int(count)
    raise ValueError(
        '`found_inputs` must be "auto", 0 for none, or an integer of at least '
        f"{_FEWEST_INPUTS}. Received: found_inputs={count!r}"
    )
