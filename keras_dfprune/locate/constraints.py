"""Check that pruning can't break the constraints of the layers around a group.

The next training step applies a constraint to the whole variable. Where the variable satisfies its
constraint before pruning, it must do so afterwards, or that step would change the narrow model. A
merge changes the kernel of a consumer in ways that no constraint is sure to survive. All other
layers are only cut: their constraints must give the same values for fewer features.
"""

from collections.abc import Callable, Sequence

import keras
import numpy as np

from keras_dfprune.graph.keras_private import all_layers
from keras_dfprune.locate.followed_units import FollowedUnits
from keras_dfprune.locate.groups import Inlet, LayerFeatures
from keras_dfprune.rules.base import Barrier
from keras_dfprune.rules.layer_state import as_array

# Of the largest value: constraints compute in single precision.
_TOLERANCE = 1e-5


def check_constraints(
    followed: FollowedUnits, members: Sequence[str], inlets: Sequence[Inlet]
) -> None:
    """Check the constraints of all layers that are cut or changed along with a group.

    Args:
        followed: The units of the graph.
        members: Paths of the group's producers.
        inlets: The group's inlets.

    Raises:
        Barrier: If pruning might break a constraint. The message is the reason.
    """
    consumers = {inlet.call.path for inlet in inlets}
    for path, (record, *_) in followed.records.items():
        roles = _roles(record, members)
        if not roles:
            continue
        for name, variable in record.rule.variables(record.call.operation).items():
            constraint = getattr(variable, "constraint", None)
            if constraint is None or not _is_satisfied(constraint, as_array(variable)):
                continue
            axes = record.rule.variable_axes(name, len(variable.shape))
            # A merge changes a consumer's kernel, and an offset its bias. A recurrent layer is a
            # consumer of its own units.
            is_own = any(role == "own" for _, role in axes) and "out" in roles
            changes = path in consumers and ("in" in roles or is_own)
            if changes or not all(
                _survives_cut(constraint, as_array(variable), axis)
                for axis, role in axes
                if role in roles
            ):
                kind = getattr(constraint, "__name__", type(constraint).__name__)
                raise Barrier(
                    f"{record.call.layer_path} has the constraint {kind} on its {variable.name}, "
                    "which pruning might break; set "
                    f"{_argument(record.call.layer, constraint, name)}=None to prune"
                )


def _argument(layer: keras.Operation, constraint: Callable, name: str) -> str:
    """Return the name of the argument by which a layer got a constraint."""
    parts = all_layers(layer) if isinstance(layer, keras.Layer) else []
    given = [
        key
        for part in parts
        for key, value in vars(part).items()
        if key.endswith("_constraint") and value is constraint
    ]
    own = f"{name}_constraint"
    return own if own in given or not given else given[0]


def has_constraint(record: LayerFeatures) -> bool:
    """Return whether any variable of a layer has a constraint."""
    variables = record.rule.variables(record.call.operation).values()
    return any(getattr(variable, "constraint", None) is not None for variable in variables)


def _roles(record: LayerFeatures, members: Sequence[str]) -> set[str]:
    """Return where the group's units are around a layer: "in", "out", both or nowhere."""
    streams = {"in": record.inputs, "out": record.outputs}
    return {
        role
        for role, stream in streams.items()
        if stream is not None
        and any(source in members for piece in stream.pieces for source in piece.sources())
    }


def _is_satisfied(constraint: keras.constraints.Constraint, value: np.ndarray) -> bool:
    return _agree(_constrained(constraint, value), value)


def _survives_cut(constraint: keras.constraints.Constraint, value: np.ndarray, axis: int) -> bool:
    """Return whether a constraint gives the same values with every other feature cut off."""
    half = np.arange(0, value.shape[axis], 2)
    cut = np.take(value, half, axis)
    try:
        constrained = _constrained(constraint, cut)
    except Exception:  # A constraint of the user's own may be made for the full shape.
        return False
    return _agree(constrained, np.take(_constrained(constraint, value), half, axis))


def _constrained(constraint: keras.constraints.Constraint, value: np.ndarray) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(constraint(keras.ops.convert_to_tensor(value))))


def _agree(first: np.ndarray, second: np.ndarray) -> bool:
    scale = np.abs(second).max(initial=1e-30)
    return first.shape == second.shape and bool(
        np.all(np.abs(first - second) <= _TOLERANCE * scale)
    )
