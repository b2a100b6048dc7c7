"""Score the groups of a model from input to output, on weights that change on the way."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_dfprune.graph.calls import Tensor
from keras_dfprune.locate.groups import Group, UnitGroup
from keras_dfprune.locate.locate import LocatedModel
from keras_dfprune.methods.base import Context, Curve, Method
from keras_dfprune.methods.heads import head_curve
from keras_dfprune.methods.join_curves import join_curves
from keras_dfprune.methods.merge import Removal, UnitMerge
from keras_dfprune.planning.width_count import WidthCount
from keras_dfprune.surgery.carry_out import carry_out
from keras_dfprune.surgery.group_view import view_blocks
from keras_dfprune.surgery.heads import view_heads
from keras_dfprune.surgery.weights import LayerStates


class ScoringPass:
    """Pass over the groups, from input to output.

    Args:
        located: The model with its groups.
        method: The method, which orders units. Dimensions of heads have singular values.
        context: What the method may use.
        count: Counts the model's parameters.
        inputs: Moments of the inputs of layers with heads, as in `Observed`; empty without rows.

    Attributes:
        states: The states of the layers as the groups so far have left them.
    """

    def __init__(
        self,
        located: LocatedModel,
        method: Method,
        context: Context,
        count: WidthCount,
        inputs: Mapping[Tensor, tuple[np.ndarray, np.ndarray]],
    ):
        self.states = LayerStates(located.layout)
        self._inputs = inputs
        self._layout, self._method = located.layout, method
        self._context, self._count = context, count
        self._moments: dict[str, Any] = {}

    def curve(self, name: str, removed: np.ndarray | None = None) -> Curve:
        """Score a group on the weights that the groups before it left.

        Args:
            name: The group.
            removed: The units that go, as in `Context.removed`.
        """
        if name in self._layout.heads:
            rows = self._context.rows
            return head_curve(view_heads(self._layout.heads[name], self.states, self._inputs, rows))
        kept = {path: len(units) for path, units in self.states.kept.items()}
        group, values = self._layout.groups[name], self._context.values
        blocks = [group.units_of(block) for block in range(group.block_count)]
        per_unit = self._count.saved_by(name, len(blocks), kept) / len(blocks)
        curves = []
        for view, units in zip(
            view_blocks(group, self._layout, self.states, per_unit), blocks, strict=True
        ):
            context = dataclasses.replace(self._context, moments=self._moments)
            if name in values:
                of_block = values[name] if len(blocks) == 1 else values[name][:, units]
                context = dataclasses.replace(context, values={**values, view.name: of_block})
            if removed is not None:
                own = np.searchsorted(units, removed[np.isin(removed, units)])
                context = dataclasses.replace(context, removed=own)
            curves.append(self._method.curve(view, context))
        return join_curves(curves, blocks)

    def leave_whole(self, name: str, curve: Curve) -> None:
        """Keep all units of a group, for the groups behind it to see."""
        self.states.kept[name] = np.arange(self._layout.prunable[name].units)
        self._hand_on(name, curve, 0)

    def cut(self, name: str, curve: Curve, count: int) -> Removal:
        """Carry out the merge of a group's first `count` removals."""
        group = self._layout.prunable[name]
        merge = curve.merge(count)
        check_merge(self._method, group, merge, count)
        carry_out(group, merge, self.states)
        self._hand_on(name, curve, count)
        return merge

    def _hand_on(self, name: str, curve: Curve, count: int) -> None:
        group = self._layout.prunable[name]
        if curve.moments is not None and isinstance(group, UnitGroup):
            moments = curve.moments(count)
            several = moments if group.block_count > 1 else [moments]
            self._moments |= {group.block_name(k): part for k, part in enumerate(several)}


def check_merge(method: Method, group: Group, merge: Removal, count: int) -> None:
    """Check that a method's merge is the one that was asked for.

    Raises:
        ValueError: If it isn't, or has an offset that the group can't take.
    """
    if merge.units != group.units or len(merge.removed) != count:
        raise ValueError(
            f"method='{method.name}' must remove {count} of the {group.units} units of layer "
            f"'{group.name}', as `Curve.merge({count})` was asked to. Received: a merge that "
            f"removes {len(merge.removed)} of {merge.units}"
        )
    if not isinstance(group, UnitGroup):
        return
    if not isinstance(merge, UnitMerge):
        raise ValueError(
            f"method='{method.name}' must return a `UnitMerge` for layer '{group.name}'. Received: "
            f"{type(merge).__name__}"
        )
    if np.any(merge.offset) and not group.offset_allowed:
        raise ValueError(
            f"method='{method.name}' returned an offset for layer '{group.name}', which can't "
            "take one. Return zeros where `GroupView.offset_allowed` is False."
        )
