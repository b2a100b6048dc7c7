"""A group's weights and a prior into the order of removal and the least-squares surgery.

Where the paper bounds the error of a pair, `Moments` takes the expected error of a whole set:
`C = E[h h^T]` in closed form, then Optimal Brain Surgeon for units (`surgeon.py`). No data.
"""

import numbers
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_dfprune.methods.base import Context, Curve, GroupView, Method
from keras_dfprune.methods.lossless import lossless
from keras_dfprune.methods.moments.curve import Surgery
from keras_dfprune.methods.moments.joined_units import joined_moments, pooled_moments
from keras_dfprune.methods.moments.preactivations import preactivations
from keras_dfprune.methods.moments.prior import read_prior
from keras_dfprune.methods.moments.symmetric_matrices import is_finite
from keras_dfprune.methods.moments.unit_moments import (
    Preactivations,
    UnitMoments,
    normal_moments,
    sample_moments,
)
from keras_dfprune.report.warning import warn
from keras_dfprune.rules.activations import LINEAR

# Steps of the refinement in closed form, which has converged by then: 1,000 gain no more than 0.3
# points over 300 (LeNet-5, 10 to 40 units).
MOST_STEPS = 300
# Matrices of units by units, float64, that are held at the peak: measured at 3,000 units with as
# many inputs and outputs; fewer with few outputs.
_MATRICES = 16


class Moments(Method):
    """Removes the units whose loss costs least in expectation, and rebuilds them from all others.

    Under an assumed distribution of the inputs (the *prior*) the second moments of the units have
    a closed form. From them follow, without data, the cheapest unit to remove, what its removal
    costs when all other units and the next bias take over by least squares, and the predicted
    relative error of a plan.

    Args:
        prior: `"weights"` (default): trained weights lie in the span of the data, so the inputs'
            correlations are taken half from them, half from the identity, around a mean that is
            only known to lie in some interval. `"isotropic"`: the identity alone, zero mean. Or a
            dict `{input name: (mean, std)}` for inputs that are known: numbers or arrays with one
            value for each feature (a covariance matrix may stand for `std`); worth it for arrays,
            a single number for all features is no gain.
        prior_scale: Mean variance of inputs that nothing is known of. `"auto"` (default): so that
            the pre-activations deviate by ten times their biases, by 0.5 at least (both root mean
            squares over the units).
        refine_steps: Int, 0 or more (default 0): steps of distillation without data after the
            units are gone.
        calibration_data: Optional unlabelled inputs: sample moments instead of the prior's.
        seed: Int (default 0): for the draws of the refinement.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> Moments(prior="isotropic").get_config()["prior"]
        'isotropic'
    """

    predicts_error = True

    def __init__(
        self,
        prior: Any = "weights",
        prior_scale: float | str = "auto",
        refine_steps: int = 0,
        calibration_data: Any = None,
        seed: int = 0,
    ):
        self._prior = read_prior(prior, prior_scale)
        self.prior, self.prior_scale = prior, prior_scale
        self.refine_steps = _whole_number("refine_steps", refine_steps)
        self.seed = _whole_number("seed", seed)
        self.calibration_data = calibration_data

    def check_inputs(self, names: Sequence[str], taken: Collection[str]) -> None:
        """Raises an error for a prior of an input that isn't there; warns of one not used."""
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
                "be pruned takes it as it is. Give `calibration_data` instead."
            )

    def curve(self, group: GroupView, context: Context) -> Curve:
        """Orders the units by their expected cost; see `Method.curve`.

        Raises:
            MemoryError: If the full matrices that it needs don't fit.
        """
        try:
            return self._curve(group, context)
        except (MemoryError, tf.errors.ResourceExhaustedError) as error:
            needed = _MATRICES * 8 * group.units**2 / 1e9
            raise MemoryError(
                f"method='moments' needs about {needed:.1f} GB for the {group.units} units of "
                f"layer '{group.name}': full float64 matrices, which can't be tiled. Use "
                "method='saliency' for this layer, or leave it out of `layers`."
            ) from error

    def _curve(self, group: GroupView, context: Context) -> Curve:
        moments, normal = self._moments(group, context)
        normal = normal if group.averages else None
        steps = min(self.refine_steps, MOST_STEPS)
        surgery = Surgery(group, moments, lossless(group), normal, steps)
        if not is_finite(moments.second):
            return surgery.exact_curve(
                f"exact removals only: the moments of {group.activation.name} are not finite"
            )
        return surgery.curve(context.progress)

    def _moments(
        self, group: GroupView, context: Context
    ) -> tuple[UnitMoments, Preactivations | None]:
        """From samples where there are some, else from the prior, with its pre-activations."""
        values = context.values.get(group.name)
        if values is not None:
            return sample_moments(values), None
        if not group.seams:
            normal = preactivations(group, self._prior, context)
            return normal.moments(group.activation), normal
        weights = [float(np.sum(np.square(seam.outgoing_matrix()))) for seam in group.seams]
        if not any(weights):
            weights = [1.0] * len(weights)
        seams = [self._at_seam(seam, context) for seam in group.seams]
        return pooled_moments(seams, weights), None

    def _at_seam(self, view: GroupView, context: Context) -> UnitMoments:
        if view.joined is None:
            return preactivations(view, self._prior, context).moments(view.activation)
        parts = [self._at_seam(part, context) for part in view.joined.parts]
        joint = joined_moments(view.joined.kind, parts, view.joined.factors)
        if view.activation.linear_pieces == LINEAR.linear_pieces:
            return joint
        return normal_moments(view.activation, joint.mean, joint.covariance)

    @property
    def refinement(self) -> dict[str, Any] | None:
        """Settings of the refinement, or None without one."""
        config = self.get_config()
        names = {
            "steps": "refine_steps",
            "seed": "seed",
            "prior": "prior",
            "prior_scale": "prior_scale",
        }
        return {key: config[name] for key, name in names.items()} if self.refine_steps else None

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments but for `calibration_data`, JSON-serialisable."""
        prior = self.prior
        if self._prior.inputs:
            prior = {k: [part.tolist() for part in v] for k, v in self._prior.inputs.items()}
        scale = self.prior_scale
        return {
            "prior": prior,
            "prior_scale": scale if isinstance(scale, str) else float(scale),
            "refine_steps": self.refine_steps,
            "seed": self.seed,
        }


def _whole_number(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 0:
        raise ValueError(f"`{name}` must be an integer, 0 or more. Received: {name}={value!r}")
    return int(value)
