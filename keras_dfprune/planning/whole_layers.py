"""Find the layers of a model that stay whole, by the reason, with the parameters in them."""

import dataclasses

from keras_dfprune.graph.calls import Graph
from keras_dfprune.locate.locate import LocatedModel
from keras_dfprune.planning.plan_data import PlanData
from keras_dfprune.planning.width_count import count_parameters

# Where more of the parameters stay, no plan reaches half of them: the budget to begin with.
_MOST = 0.5


@dataclasses.dataclass(frozen=True)
class WholeLayers:
    """Layers that stay whole for the same reason.

    Attributes:
        reason: The reason.
        parameters: The parameters of each layer that stay, by path, the largest first.
    """

    reason: str
    parameters: dict[str, int]

    @property
    def total(self) -> int:
        """Parameters of all these layers."""
        return sum(self.parameters.values())


def most_stays_whole(located: LocatedModel, plan: PlanData) -> list[WholeLayers]:
    """Find the layers that stay whole, if they hold most of a model's parameters.

    These are refused layers, and those that the method left alone because no budget was given.
    Layers that make the model's outputs don't count: nobody expects those to become narrower.
    Inputs of a refused layer that come from units which can go are counted as gone.

    Args:
        located: The model.
        plan: Its plan.

    Returns:
        The layers by reason, the reason that holds for the most parameters first. Empty if all
        of them hold no more than half of the model's parameters.
    """
    reasons = {refusal.layer: refusal.reason for refusal in plan.refusals}
    operations = {call.path: call.operation for call in located.graph.calls}
    sizes = {path: operations[path].count_params() for path in reasons}
    for group in plan.groups:
        if group.note and group.changes_nothing:
            reasons[group.layer], sizes[group.layer] = group.note, group.parameters[1]
    groups, total = located.layout.prunable, located.model.count_params()
    outputs = _output_layers(
        located.graph, {*reasons, *(path for group in groups.values() for path in group.layers)}
    )
    sizes = {path: size for path, size in sizes.items() if path not in outputs}
    if sum(sizes.values()) <= _MOST * total:
        return []
    count, narrowest = count_parameters(located.layout, total), dict.fromkeys(groups, 1)
    for path in sizes.keys() & (located.layout.layers.keys() - groups.keys()):
        sizes[path] = count.of_layers((path,), narrowest)
    by_reason: dict[str, dict[str, int]] = {}
    for path in sorted(sizes, key=lambda path: -sizes[path]):
        by_reason.setdefault(reasons[path], {})[path] = sizes[path]
    found = [WholeLayers(reason, parameters) for reason, parameters in by_reason.items()]
    if sum(whole.total for whole in found) <= _MOST * total:
        return []
    return sorted(found, key=lambda whole: -whole.total)


def _output_layers(graph: Graph, with_units: set[str]) -> set[str]:
    """Return the paths of the layers with units that no other such layer separates from outputs."""
    makers = {tensor: call for call in graph.calls for tensor in call.outputs}
    waiting, seen, found = list(graph.outputs), set(), set()
    while waiting:
        tensor = waiting.pop()
        if tensor in seen or tensor not in makers:
            continue
        seen.add(tensor)
        if makers[tensor].path in with_units:
            found.add(makers[tensor].path)
        else:
            waiting += makers[tensor].inputs
    return found
