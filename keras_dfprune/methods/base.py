"""What a pruning method sees of a group of units, and what it answers: a curve of removals.

No Keras layer reaches a method. It gets arrays, and says in which order the units should go, what
each removal costs, and how the removed units are rebuilt from the kept ones.
"""

import abc
import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_dfprune.methods.merge import UnitMerge
from keras_dfprune.report.progress import SILENT, Progress
from keras_dfprune.rules.activations import Activation


@dataclasses.dataclass(frozen=True, eq=False)
class Feed:
    """Where some of a group's inputs come from.

    Attributes:
        columns: Int array, shape `(features,)`: columns of `GroupView.weights`.
        group: Name of the earlier group whose kept units arrive there, or None.
        units: Int array, shape `(features,)`: which of that group's *kept* units (positions in
            its `kept`) each column carries; empty where `group` is None.
        scale: Float array, shape `(features,)`: the column carries `scale * unit + shift`.
        shift: Float array, shape `(features,)`.
        origin: Where `group` is None: the name of the model input, if the columns are its
            features unchanged, else None (something that the graph can't describe).
        normalized: Whether the columns come out of a LayerNormalization: `scale * x + shift` with
            the features of `x` at zero mean and unit mean square, all taken together.
    """

    columns: np.ndarray
    group: str | None
    units: np.ndarray
    scale: np.ndarray
    shift: np.ndarray
    origin: str | None = None
    normalized: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class JoinedUnits:
    """What the units of several producers make together, feature by feature.

    Attributes:
        kind: `"sum"`, `"product"` or `"extreme"` (a maximum or a minimum).
        parts: What is joined.
        factors: What each part is multiplied by in a sum.
    """

    kind: str
    parts: tuple["GroupView", ...]
    factors: tuple[float, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class GroupView:
    """One group of units that are pruned together, as a method sees it.

    Attributes:
        name: Path of the first producer, as in `GroupPlan.layer`.
        weights: Float array, shape `(units, inputs)`: each unit's incoming weights. Affine layers
            in front of the activation are folded in.
        constants: Float array, shape `(units, 1 + extra)`: each unit's bias (zero where the layer
            has none), and further coordinates that must agree for two units to be copies (a
            PReLU's slopes).
        activation: The function from `weights @ x + bias` to the unit's value, with its
            properties. `homogeneous` is False where there are extra coordinates.
        outgoing: One float array for each call of a consumer, shape
            `(units, positions, outputs)`, with the scales of the carriers applied.
        offset_allowed: Whether `UnitMerge.offset` has a bias to go to.
        offset_exact: Whether an offset is a constant for the consumers at every position; not so
            at the edges of a convolution that pads with zeros, and behind a PReLU whose slopes
            differ between positions.
        can_survive: Bool array, shape `(units,)`: False for units that reach a consumer with
            scale 0 and so can't take over for another.
        batch_mean: Float array, shape `(units,)`, or None: mean of the pre-activation over the
            training data, from a BatchNormalization in front of the activation (its beta).
        batch_std: Its standard deviation (`abs(gamma)`), or None.
        parameters_per_unit: Parameters that the model loses with one unit, counted alone.
        feeds: Where the inputs come from; columns in no feed are unknown.
        taps: Spatial shape of a convolution's kernel; column `feature * prod(taps) + tap` of
            `weights` is one tap of one input feature. Empty for a Dense layer.
        seams: Where units of several producers are joined, or are read at several places behind
            different layers: the group as each place sees it, with the outgoing weights there.
            Else empty. `weights` and `constants` hold everything that tells two units apart at any
            of them.
        averages: Whether kept units can get weighted sums of weight-sets (`CentroidMerge`).
        levels: Whether a constant can be added to those.
        joined: For one of `seams`, or a part of it: what `activation` gets in place of
            `weights @ x + bias`; else None.
    """

    name: str
    weights: np.ndarray
    constants: np.ndarray
    activation: Activation
    outgoing: tuple[np.ndarray, ...]
    offset_allowed: bool
    can_survive: np.ndarray
    batch_mean: np.ndarray | None
    batch_std: np.ndarray | None
    parameters_per_unit: float
    feeds: tuple[Feed, ...] = ()
    taps: tuple[int, ...] = ()
    offset_exact: bool = True
    seams: tuple["GroupView", ...] = ()
    averages: bool = False
    levels: bool = False
    joined: JoinedUnits | None = None

    @property
    def units(self) -> int:
        """Number of units in the group."""
        return len(self.weights)

    @property
    def inputs(self) -> int:
        """Number of incoming weights of a unit."""
        return self.weights.shape[1]

    @property
    def biases(self) -> np.ndarray:
        """Float array, shape `(units,)`."""
        return self.constants[:, 0]

    @functools.cached_property
    def weight_sets(self) -> np.ndarray:
        """Weights and constants, shape `(units, inputs + 1 + extra)`: a copy, read-only."""
        joined = np.concatenate([self.weights, self.constants], axis=1)
        joined.flags.writeable = False
        return joined

    @functools.cached_property
    def norms(self) -> np.ndarray:
        """The norm of each weight-set: float64, shape `(units,)`."""
        parts = (self.weights, self.constants)
        squares = [np.einsum("ij,ij->i", part, part, dtype=np.float64) for part in parts]
        return np.sqrt(sum(squares))

    def outgoing_matrix(self) -> np.ndarray:
        """All outgoing weights side by side: float64, shape `(units, sum(positions * outputs))`."""
        flat = [block.reshape(self.units, -1) for block in self.outgoing]
        return np.concatenate(flat, axis=1, dtype=np.float64)

    def outputs(self) -> int:
        """Number of outputs over all consumer calls: what `<a_j^2>` is a mean over."""
        return sum(block.shape[2] for block in self.outgoing)


@dataclasses.dataclass(frozen=True)
class Context:
    """What a method may use beside the group itself.

    Attributes:
        seed: Int: for whatever a method draws at random.
        moments: What `Curve.moments` returned for the earlier groups, by group name.
        values: With calibration data, by group name: float array, shape `(samples, units)`, the
            units' values (behind the activation) in the original model; positions count as
            samples.
        strategy: A `tf.distribute.Strategy` whose replicas share the work of a layer, or None.
        progress: `progress.over(stage, steps, unit)` yields the steps of a long search and shows
            a bar where the caller wants one.
    """

    seed: int = 0
    moments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    values: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    strategy: tf.distribute.Strategy | None = None
    progress: Progress = SILENT


@dataclasses.dataclass(frozen=True, eq=False)
class Curve:
    """The removals that a method proposes for one group, cheapest first.

    Attributes:
        order: Int array, shape `(removals,)`: units in the order of their removal, normally all
            but one of the group; shorter where the method will not go on.
        costs: Float array, shape `(removals,)`: the cost of each removal.
        merge: Function from a number of removals to the `UnitMerge` of the first so many.
        scale: What the costs are relative to when groups are compared; positive.
        lossless: How many of the first removals change nothing.
        automatic: How many removals the method takes when it is given no budget.
        cutoff: The cost at which `automatic` stops, or None.
        moments: Function from a number of removals to whatever later groups get in
            `Context.moments`, or None.
        histogram: Counts, shape `(bins,)`, and bin edges, shape `(bins + 1,)`, of the quantity in
            which `cutoff` was found, for plots; or None.
        error: Function from a number of removals to the expected squared change of the merge that
            `merge` returns for it, in the unit of `scale`; None where `sum(costs)` is all there is.
        note: Why no more units go than `automatic`, or than are in `order`: one sentence for the
            report, shown where that is so; or None.
    """

    order: np.ndarray
    costs: np.ndarray
    merge: Callable[[int], UnitMerge]
    scale: float = 1.0
    lossless: int = 0
    automatic: int | None = None
    cutoff: float | None = None
    moments: Callable[[int], Any] | None = None
    histogram: tuple[np.ndarray, np.ndarray] | None = None
    error: Callable[[int], float] | None = None
    note: str | None = None


class Method(abc.ABC):
    """A way to choose which units go and who stands in for them.

    Subclasses implement `curve`. Those whose costs are expected squared changes of the consumers'
    outputs, so that `sum(costs) / scale` is a relative error, set `predicts_error = True`; only
    they accept a `tolerance`.

    Attributes:
        calibration_data: Unlabelled inputs of the model, which come back as `Context.values`; or
            None (default).
        refinement: Settings of the refinement behind the merge (`steps`, `seed`, `prior`,
            `prior_scale`), JSON-serialisable, or None (default) for none.
        shares_work: Whether it makes use of `Context.strategy`; if not, `strategy=` is an error.
    """

    predicts_error: bool = False
    shares_work: bool = False
    calibration_data: Any = None
    refinement: Mapping[str, Any] | None = None

    @property
    def name(self) -> str:
        """The method's name in plans and reports."""
        return type(self).__name__.lower()

    @abc.abstractmethod
    def curve(self, group: GroupView, context: Context) -> Curve:
        """Orders the units of `group` by what their removal costs.

        Args:
            group: The group, at the weights that it has after the earlier groups were cut.
            context: Seed, and the moments of the earlier groups.

        Returns:
            A `Curve`.
        """

    def check_inputs(  # noqa: B027 - most are told nothing of the inputs
        self, names: Sequence[str], taken: Collection[str]
    ) -> None:
        """Makes sure, before anything is planned, that what the method was told fits the model.

        Args:
            names: The names of the model's inputs.
            taken: Those that a layer that can be pruned takes as they are.

        Raises:
            ValueError: If it doesn't.
        """

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, JSON-serialisable: stored with a plan."""
        return {}
