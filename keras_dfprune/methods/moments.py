"""A group's weights and a prior into the order of removal and the least-squares surgery.

Where the paper bounds the error of a pair, `Moments` takes the expected error of a whole set:
`C = E[h h^T]` in closed form, then Optimal Brain Surgeon for units (`surgeon.py`). No data.
"""

import numbers
from typing import Any

import numpy as np
import tensorflow as tf

from keras_dfprune.activations import LINEAR
from keras_dfprune.merge import LinearMerge, SurvivorMerge, UnitMerge, follow_survivors
from keras_dfprune.methods import surgeon
from keras_dfprune.methods.base import Context, Curve, GroupView, Method
from keras_dfprune.methods.exact import Removal, lossless
from keras_dfprune.methods.gaussian import (
    UnitMoments,
    mixture,
    normal_moments,
    sample_moments,
)
from keras_dfprune.methods.joint import joint_moments, pooled_moments
from keras_dfprune.methods.prior import preactivations, read_prior

# Relative to the mean second moment: small enough not to show, large enough for a Cholesky factor.
RIDGE = 1e-6
# Without a budget: predicted squared change over the variance of a group's outputs. The worst of
# 21 networks (`benchmarks/nets.py`) loses 0.25 points of accuracy at 0.001, 0.42 at 0.002, 0.48 at
# 0.003, 0.49 at 0.004.
DEFAULT_TOLERANCE = 0.002


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

    def curve(self, group: GroupView, context: Context) -> Curve:
        """Orders the units by their expected cost; see `Method.curve`."""
        moments = self._moments(group, context)
        surgery = _Surgery(group, moments, lossless(group))
        if not np.all(np.isfinite(moments.second)):
            return surgery.exact_curve(
                f"exact removals only: the moments of {group.activation.name} are not finite"
            )
        return surgery.curve()

    def _moments(self, group: GroupView, context: Context) -> UnitMoments:
        """From samples where there are some, else from the prior."""
        values = context.values.get(group.name)
        if values is not None:
            return sample_moments(values)
        if not group.seams:
            return self._at_seam(group, context)
        weights = [float(np.sum(np.square(seam.outgoing_matrix()))) for seam in group.seams]
        if not any(weights):
            weights = [1.0] * len(weights)
        return pooled_moments([self._at_seam(seam, context) for seam in group.seams], weights)

    def _at_seam(self, view: GroupView, context: Context) -> UnitMoments:
        if view.joined is None:
            means, covariance = preactivations(view, self._prior, context)
            return mixture([normal_moments(view.activation, mean, covariance) for mean in means])
        parts = [self._at_seam(part, context) for part in view.joined.parts]
        joint = joint_moments(view.joined.kind, parts, view.joined.factors)
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


class _Surgery:
    """One group's removals: the exact ones first, then Optimal Brain Surgeon on the rest."""

    def __init__(self, group: GroupView, moments: UnitMoments, exact: list[Removal]):
        self._group, self._moments, self._exact = group, moments, exact
        self._sparse = self._first_exact(len(exact))
        # From here on every array is over the units that the exact removals leave.
        left = self._sparse.kept
        self._outgoing = self._sparse.absorb(group.outgoing_matrix())
        self._left = moments.select(left)
        self._second = self._left.with_constant() if group.offset_allowed else self._left.second
        self._ridge = surgeon.ridge_diagonal(len(left), self._second, RIDGE)

    def curve(self) -> Curve:
        """The whole curve, down to one unit."""
        gram = _outer_gram(self._outgoing)
        greedy = surgeon.greedy_order(self._second, gram, ridge=RIDGE)
        self._order = greedy.order
        costs = np.concatenate([np.zeros(len(self._exact)), greedy.costs])
        spread = self._left.covariance if self._group.offset_allowed else self._left.second
        variance = float(np.sum(gram * spread))
        scale = variance if variance > 0.0 else 1.0
        within = np.cumsum(costs) <= DEFAULT_TOLERANCE * scale
        return Curve(
            order=np.concatenate([self._sparse.removed, self._sparse.kept[greedy.order]]),
            costs=costs,
            merge=self.merge,
            scale=scale,
            lossless=len(self._exact),
            automatic=max(len(self._exact), int(np.sum(within))),
            moments=lambda count: self._moments.select(self.merge(count).kept),
            error=self.error,
        )

    def exact_curve(self, note: str) -> Curve:
        """Only the exact removals."""
        count = len(self._exact)
        return Curve(
            order=self._sparse.removed,
            costs=np.zeros(count),
            merge=self._first_exact,
            lossless=count,
            automatic=count,
            note=note,
        )

    def merge(self, count: int) -> UnitMerge:
        """The unit merge of the first `count` removals."""
        exact = len(self._exact)
        if count <= exact:
            return self._first_exact(count)
        coefficients, offset, kept, removed = self._fit(count - exact)
        # Follow the exact removals: their survivors may be kept, or rebuilt themselves.
        left = len(self._sparse.kept)
        rebuilt = np.zeros((len(kept), left))
        rebuilt[np.arange(len(kept)), kept] = 1.0
        rebuilt[:, removed] = coefficients
        constant = np.zeros(left)
        constant[removed] = offset
        survivor, scale = self._sparse.survivor, self._sparse.scale  # scale 0 where there is none
        units = self._sparse.kept
        offsets = self._sparse.offset.copy()
        offsets[self._sparse.removed] += scale * constant[survivor]
        offsets[units] = constant
        return LinearMerge(
            kept=units[kept],
            removed=np.concatenate([self._sparse.removed, units[removed]]),
            offset=offsets,
            coefficients=np.concatenate([rebuilt[:, survivor] * scale, coefficients], axis=1),
        )

    def error(self, count: int) -> float:
        """The expected squared change of the outputs that `merge(count)` makes, without ridge."""
        exact = len(self._exact)
        if count <= exact:
            return 0.0
        coefficients, offset, kept, removed = self._fit(count - exact)
        features, solution = kept, coefficients
        if self._group.offset_allowed:
            features = np.append(kept, len(self._sparse.kept))
            solution = np.concatenate([coefficients, offset[None]])
        return surgeon.rebuild_error(
            self._second, features, removed, solution, self._outgoing[removed]
        )

    def _first_exact(self, count: int) -> SurvivorMerge:
        some = self._exact[:count]
        return follow_survivors(
            self._group.units,
            np.array([removal.unit for removal in some], np.int64),
            np.array([removal.survivor for removal in some], np.int64),
            np.array([removal.scale for removal in some], np.float64),
            np.array([removal.offset for removal in some], np.float64),
        )

    def _fit(self, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Coefficients `(kept, removed)`, offsets `(removed,)`, kept and removed units.

        Positions among the units that the exact removals leave.
        """
        removed = self._order[:count]
        kept = np.setdiff1d(np.arange(len(self._sparse.kept)), removed)
        heirs = np.flatnonzero(self._group.can_survive[self._sparse.kept[kept]])
        coefficients = np.zeros((len(kept), count))
        centre = self._nearest(kept[heirs], removed)
        features = kept[heirs]
        if self._group.offset_allowed:
            features = np.append(features, len(self._sparse.kept))
            centre = np.concatenate([centre, np.zeros((1, count))])
        solution = surgeon.least_squares(
            self._second, features, removed, centre=centre, ridge=self._ridge
        )
        coefficients[heirs] = solution[: len(heirs)]
        offset = solution[-1] if self._group.offset_allowed else np.zeros(count)
        return coefficients, offset, kept, removed

    def _nearest(self, heirs: np.ndarray, removed: np.ndarray) -> np.ndarray:
        """The paper's merge: each removed unit on its nearest heir, `(heirs, removed)`."""
        merge = np.zeros((len(heirs), len(removed)))
        if len(heirs) == 0:
            return merge
        sets = np.asarray(self._group.weight_sets, np.float64)[self._sparse.kept]
        norms = np.ones(len(sets))
        if self._group.activation.homogeneous:
            norms = np.maximum(np.linalg.norm(sets, axis=1), 1e-300)
            sets = sets / norms[:, None]
        product = tf.matmul(sets[heirs], sets[removed], transpose_b=True).numpy()
        distance = np.sum(sets[heirs] ** 2, axis=1)[:, None] - 2.0 * product
        nearest = np.argmin(distance, axis=0)
        merge[nearest, np.arange(len(removed))] = norms[removed] / norms[heirs[nearest]]
        return merge


def _outer_gram(outgoing: np.ndarray) -> np.ndarray:
    matrix = tf.constant(outgoing)
    return tf.matmul(matrix, matrix, transpose_b=True).numpy()
