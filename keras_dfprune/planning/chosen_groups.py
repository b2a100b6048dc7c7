"""Find the groups that the caller named, with the sparsity of each."""

import difflib
from collections.abc import Iterable, Sequence

from keras_dfprune.locate.locate import LocatedModel
from keras_dfprune.planning.request import Request


def choose_groups(located: LocatedModel, request: Request) -> dict[str, float | None]:
    """Find the groups to prune.

    Args:
        located: The model with its groups.
        request: The caller's arguments.

    Returns:
        The sparsity of each group, None where it isn't given, by group name in the order of the
        graph.

    Raises:
        ValueError: For names that the model doesn't have, or that contradict each other, and
            where what the method assumes of the inputs doesn't fit the model.
    """
    layout = located.layout
    chosen = _sparsity_by_group(located, request)
    names = [tensor.name for tensor in located.graph.inputs]
    request.method.check_inputs(names, set(layout.origins.values()))
    return {name: chosen[name] for name in layout.groups if name in chosen}


def _sparsity_by_group(located: LocatedModel, request: Request) -> dict[str, float | None]:
    layout = located.layout
    group_of = {path: name for name, group in layout.groups.items() for path in group.layers}
    producers = [*group_of, *(refusal.layer for refusal in layout.refusals)]
    others = [path for path in located.graph.paths.values() if path not in producers]
    if not isinstance(request.sparsity, dict):
        named = producers if request.layers is None else request.layers
        paths = [find_producer(name, producers, others) for name in named]
        return {group_of.get(path, path): request.sparsity for path in paths}
    chosen: dict[str, float | None] = {}
    for name, sparsity in request.sparsity.items():
        path = find_producer(name, producers, others)
        group = group_of.get(path, path)
        if chosen.setdefault(group, sparsity) != sparsity:
            tied = [] if group not in layout.groups else layout.groups[group].layers
            raise _named_twice(path, tied, chosen[group], sparsity)
    return chosen


def _named_twice(path: str, tied: Sequence[str], first: float | None, second: float) -> ValueError:
    others = ", ".join(layer for layer in tied if layer != path)
    also = f", or a layer tied to it ({others})" if others else ""
    return ValueError(f"`sparsity` names layer '{path}'{also} twice, with {first} and {second}.")


def find_producer(name: str, producers: Sequence[str], others: Iterable[str]) -> str:
    """Find the path of the producer that a caller named.

    Args:
        name: The layer's name or path.
        producers: Paths of all layers that have units.
        others: Paths of the model's other layers.

    Raises:
        ValueError: If no producer has this name, or several have it. The message lists near ones.
    """
    if name in producers:
        return name
    matches = [path for path in producers if _last_part(path) == name]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise ValueError(
            f"Layer name '{name}' is ambiguous. Use one of the paths {', '.join(matches)}"
        )
    if any(name in (path, _last_part(path)) for path in others):
        raise ValueError(
            f"Layer '{name}' has no units that can be pruned. Layers that have: "
            f"{', '.join(producers) or 'none'}"
        )
    near = difflib.get_close_matches(str(name), [*producers, *map(_last_part, producers)], n=1)
    hint = f"Did you mean '{near[0]}'?" if near else f"Layers: {', '.join(producers) or 'none'}"
    raise ValueError(f"There is no layer '{name}'. {hint}")


def _last_part(path: str) -> str:
    return path.rsplit("/", 1)[-1]
