"""Define what a pruning method gets, a group of units, and what it returns, a curve of removals.

A method sees arrays and no Keras layer. It returns the order in which units should be removed, the
cost of each removal, and the merge by which the kept units take over for the removed ones.
"""

import abc
import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_dfprune.methods.feed import Feed
from keras_dfprune.methods.merge import Removal
from keras_dfprune.report.progress import SILENT, Progress
from keras_dfprune.rules.activations import Activation


@dataclasses.dataclass(frozen=True, eq=False)
class JoinedUnits:
    """Units of several producers joined feature by feature, as in a residual connection.

    Attributes:
        kind: `"sum"`, `"product"`, `"extreme"` (a maximum or a minimum), or `"start"`: a recurrent
            layer's own units, then the states that they start from.
        parts: The units that are joined, one `GroupView` for each operand.
        factors: Factor of each part in a sum.
    """

    kind: str
    parts: tuple["GroupView", ...]
    factors: tuple[float, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Recurrence:
    """Units of a recurrent layer as a function of what its gates get from the inputs.

    Attributes:
        gates: What the inputs add to the gates at one step, as units of a Dense layer without an
            activation and without consumers.
        run: Function from the values of `gates`, shape `(rows, steps, gates)`, to the values of the
            units, shape `(samples, units)`.
    """

    gates: "GroupView"
    run: Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class GroupView:
    """Arrays of one group of units that are pruned together.

    For an input vector `x` the units are `h = activation(weights @ x + biases)`. Each call of a
    consumer adds `einsum("pu,upo->o", h, block)` to its outputs, where `h` holds the units at
    several positions and `block` is an array of `outgoing`. Positions are the taps of a
    convolution's kernel, or those that a Flatten puts side by side. A Dense consumer has one.

    Attributes:
        name: Path of the group's first producer, as in `GroupPlan.layer`. A group of several blocks
            is shown as one group for each, with `[block]` behind the path.
        weights: Float array, shape `(units, inputs)`: the incoming weights of each unit. Affine
            layers in front of the activation are folded in.
        constants: Float array, shape `(units, 1 + extra)`. The first column is the bias, zero
            where the layer has none. The others are further values that must agree for two units
            to be copies, such as the slopes of a PReLU.
        activation: The function from `weights @ x + biases` to the unit's value, with its
            properties. `homogeneous` is False where there are extra constants.
        outgoing: One float array for each call of a consumer, shape
            `(units, positions, outputs)`. Scales of layers behind the activation are included.
        offset_allowed: Whether a merge may have an `offset`: whether it can be added to a bias.
        constant_values: Float64 array: the value of each unit that never changes, NaN for others.
        can_survive: Bool array, shape `(units,)`. False for units that some consumer gets
            multiplied by 0, which can't take over for others.
        batch_mean: Float array, shape `(units,)`: mean of the pre-activations over the training
            data: beta of a BatchNormalization in front of the activation. None without one.
        batch_std: Float array, shape `(units,)`: their standard deviation (`abs(gamma)`), or None.
        parameters_per_unit: Parameters that the model loses with one unit, counted alone.
        feeds: Sources of the inputs. Nothing is known of columns that are in none.
        taps: Spatial shape of a convolution's kernel, empty for a Dense layer. Column
            `feature * prod(taps) + tap` of `weights` is one tap of one input feature.
        dense: Whether the units are those of Dense layers, not filters or columns of an Embedding.
        offset_exact: Whether an offset is the same constant at the edges of padded inputs, too.
        seams: Views of the group at each of its seams, each with the outgoing weights there. Empty
            for one seam without joined units. `weights` and `constants` of the whole group hold
            everything that tells two units apart at any seam.
        reads: Name of the tensor that the units' layer reads, where they are those of one layer.
        averages: Whether a merge may give kept units weighted sums of weight-sets
            (`CentroidMerge`).
        levels: Whether such a merge may have a `level`.
        joined: The joined units that are the input of `activation` in place of
            `weights @ x + biases`. Set only in `seams` and in parts of joined units; else None.
        recurrence: How the units follow from their inputs and from one another, step by step, or
            None. `weights` then hold the recurrent weights and the biases of all gates, too.
    """

    name: str
    weights: np.ndarray
    constants: np.ndarray
    activation: Activation
    constant_values: np.ndarray
    outgoing: tuple[np.ndarray, ...]
    offset_allowed: bool
    can_survive: np.ndarray
    batch_mean: np.ndarray | None
    batch_std: np.ndarray | None
    parameters_per_unit: float
    feeds: tuple[Feed, ...] = ()
    taps: tuple[int, ...] = ()
    dense: bool = True
    offset_exact: bool = True
    seams: tuple["GroupView", ...] = ()
    reads: str | None = None
    averages: bool = False
    levels: bool = False
    joined: JoinedUnits | None = None
    recurrence: "Recurrence | None" = None

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
        """Bias of each unit: float array, shape `(units,)`."""
        return self.constants[:, 0]

    @functools.cached_property
    def weight_sets(self) -> np.ndarray:
        """Copy of weights and constants, read-only, shape `(units, inputs + 1 + extra)`."""
        sets = np.concatenate([self.weights, self.constants], axis=1)
        sets.flags.writeable = False
        return sets

    @functools.cached_property
    def norms(self) -> np.ndarray:
        """Norm of each weight-set: float64 array, shape `(units,)`."""
        parts = (self.weights, self.constants)
        squares = [np.einsum("ij,ij->i", part, part, dtype=np.float64) for part in parts]
        return np.sqrt(np.add(*squares))

    def outgoing_matrix(self) -> np.ndarray:
        """Return all outgoing weights: float64, shape `(units, sum of positions * outputs)`."""
        flat = [block.reshape(self.units, -1) for block in self.outgoing]
        return np.concatenate(flat, axis=1, dtype=np.float64)

    def outputs(self) -> int:
        """Return the number of outputs of all consumer calls together."""
        return sum(block.shape[2] for block in self.outgoing)


@dataclasses.dataclass(frozen=True)
class Context:
    """Everything that a method may use beside the group.

    Attributes:
        seed: Seed of everything that a method draws at random.
        moments: Results of `Curve.moments` for the earlier groups, by group name.
        values: Units' values (behind the activation) in the original model on rows of inputs, by
            group name: float arrays, shape `(samples, units)`. Positions count as samples. Empty
            without rows.
        rows: Number of those rows: the independent ones among the samples.
        removed: Int array: units to remove, in this order, which a plan for other weights chose.
            None (default): the method chooses. Only the methods of this package get it.
        strategy: A `tf.distribute.Strategy` whose replicas share the work of a layer, or None.
        progress: Progress bars, or silence. `progress.over(stage, steps, unit)` yields the steps
            of a long search.
    """

    seed: int = 0
    moments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    values: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    rows: int = 0
    removed: np.ndarray | None = None
    strategy: tf.distribute.Strategy | None = None
    progress: Progress = SILENT


@dataclasses.dataclass(frozen=True, eq=False)
class Curve:
    """Removals that a method proposes for one group, in the order in which they are made.

    Attributes:
        order: Int array, shape `(removals,)`: the units in the order of their removal. Normally
            all but one of the group, fewer if the method can't go on.
        costs: Float array, shape `(removals,)`: the cost of each removal.
        merge: Function from a number of removals, 0 to `len(order)`, to the `UnitMerge` of the
            first that many.
        scale: Positive number that the costs are divided by when groups are compared.
        lossless: Number of removals at the beginning that change nothing.
        automatic: Number of removals that a method with `has_cutoff` makes without a budget.
        cutoff: The cost at which `automatic` stops, or None.
        moments: Function from a number of removals to an object that later groups get in
            `Context.moments`, or None.
        histogram: Histogram in which `cutoff` was found, for plots: counts, shape `(bins,)`, and
            bin edges, shape `(bins + 1,)`. None without one.
        error: Function from a number of removals to the expected squared change of that `merge`,
            in the unit of `costs`. None if it is `sum(costs)`.
        note: Sentence for the report: why no more units are removed than `automatic`, or than
            `order` holds. Shown if that is so. None without one.
    """

    order: np.ndarray
    costs: np.ndarray
    merge: Callable[[int], Removal]
    scale: float = 1.0
    lossless: int = 0
    automatic: int | None = None
    cutoff: float | None = None
    moments: Callable[[int], Any] | None = None
    histogram: tuple[np.ndarray, np.ndarray] | None = None
    error: Callable[[int], float] | None = None
    note: str | None = None


class Method(abc.ABC):
    """Base class of pruning methods: they choose the units to remove and how others take over.

    Subclasses implement `curve`. Arguments of their constructors are returned by `get_config`.

    Attributes:
        predicts_error: Whether costs are expected squared changes of the consumers' outputs, so
            that `sum(costs) / scale` is a relative error. Default: False.
        found_inputs: Number of inputs to find for `Context.values` where the caller gives no rows
            and the model has BatchNormalizations: `"auto"`, or an int. Default: None, for methods
            that don't use values.
        has_cutoff: Whether `Curve.automatic` says how many units go without a budget. Default:
            False, and then as many go as change the model's outputs little.

    Examples:
        Remove the units with the smallest incoming weights, without surgery:

        >>> import keras, numpy as np, keras_dfprune as dfprune
        >>> model = keras.Sequential([keras.Input((4,)), *map(keras.layers.Dense, (8, 3))])
        >>> class SmallestFirst(dfprune.Method):
        ...     def curve(self, group, context):
        ...         size = np.linalg.norm(group.weight_sets, axis=1)
        ...         order = np.argsort(size)[:-1]
        ...
        ...         def merge(count):
        ...             kept = np.setdiff1d(np.arange(group.units), order[:count])
        ...             offset, coefficients = np.zeros(group.units), np.zeros((len(kept), count))
        ...             return dfprune.LinearMerge(kept, order[:count], offset, coefficients)
        ...         return dfprune.Curve(order=order, costs=size[order], merge=merge)
        >>> dfprune.apply(model, sparsity=0.5, method=SmallestFirst()).layers[0].units
        4
    """

    predicts_error: bool = False
    found_inputs: int | str | None = None
    has_cutoff: bool = False

    @property
    def name(self) -> str:
        """Name of the method in plans and reports."""
        return type(self).__name__.lower()

    @abc.abstractmethod
    def curve(self, group: GroupView, context: Context) -> Curve:
        """Order the units of a group by the cost of their removal.

        Args:
            group: The group, with the weights that it has after the earlier groups were cut.
            context: Seed, results of the earlier groups, calibration values, progress.

        Returns:
            The `Curve` of removals.
        """

    def check_inputs(  # noqa: B027 - optional: most methods have no settings for inputs
        self, names: Sequence[str], taken: Collection[str]
    ) -> None:
        """Check the settings that name inputs of the model, before anything is planned.

        Args:
            names: Names of the model's inputs.
            taken: Names of the inputs that a layer that can be pruned takes unchanged.

        Raises:
            ValueError: If the settings don't fit the model.
        """

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, JSON-serialisable: they are stored with a plan."""
        return {}
