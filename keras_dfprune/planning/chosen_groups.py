"""Find the groups that the caller named, with the sparsity and the multiple of each."""

import dataclasses
import difflib
import fnmatch
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from keras_dfprune.locate.groups import Layout
from keras_dfprune.locate.locate import LocatedModel
from keras_dfprune.planning.request import Request

_MOST_NAMES = 10  # that a message lists


@dataclasses.dataclass(frozen=True)
class ChosenGroups:
    """Groups to prune, in the order of the graph.

    Attributes:
        sparsity: The sparsity of each group, None where it isn't given.
        multiples: Number that the units that stay are a multiple of, for each group.
        notes: Sentences for the report: what was left out, or is pruned although it is frozen.
    """

    sparsity: dict[str, float | None]
    multiples: dict[str, int]
    notes: tuple[str, ...] = ()


def choose_groups(located: LocatedModel, request: Request) -> ChosenGroups:
    """Find the groups to prune.

    Args:
        located: The model with its groups.
        request: The caller's arguments.

    Raises:
        ValueError: For names that the model doesn't have, or that contradict each other, and
            where what the method assumes of the inputs doesn't fit the model.
    """
    layout = located.layout
    names = _Names(located)
    chosen = _sparsity_by_group(names, layout, request)
    names_of_inputs = [tensor.name for tensor in located.graph.inputs]
    request.method.check_inputs(names_of_inputs, set(layout.origins.values()))
    excluded = {names.group_of(path) for name in request.exclude or () for path in names.find(name)}
    frozen = _frozen_layers(layout)
    if request.trainable_only:
        excluded |= frozen.keys()
    sparsity = {
        name: chosen[name] for name in layout.prunable if name in chosen and name not in excluded
    }
    multiples = dict.fromkeys(sparsity, 1)
    if isinstance(request.multiple_of, dict):
        for name, multiple in request.multiple_of.items():
            groups = {names.group_of(path) for path in names.find(name)}
            multiples.update(dict.fromkeys(groups & multiples.keys(), multiple))
    else:
        multiples = dict.fromkeys(sparsity, request.multiple_of)
    for name in multiples:  # Each block loses equally many.
        multiples[name] = math.lcm(multiples[name], layout.prunable[name].block_count)
    return ChosenGroups(sparsity, multiples, _about_frozen(frozen, sparsity, request))


def _frozen_layers(layout: Layout) -> dict[str, list[str]]:
    """Return the frozen layers that each group's cut would change, by group."""
    frozen: dict[str, list[str]] = {}
    for record in layout.layers.values():
        layer = record.call.layer
        if getattr(layer, "trainable", True) or not getattr(layer, "weights", []):
            continue
        streams = [stream for stream in (record.inputs, record.outputs) if stream is not None]
        sources = {piece.source for stream in streams for piece in stream.pieces}
        for name in sources | {group.name for group in record.heads.values()}:
            if name in layout.prunable:
                frozen.setdefault(name, []).append(record.call.layer_path)
    return frozen


def _about_frozen(
    frozen: Mapping[str, Sequence[str]], chosen: Iterable[str], request: Request
) -> tuple[str, ...]:
    touched = frozen if request.trainable_only else [name for name in chosen if name in frozen]
    paths = list(dict.fromkeys(path for name in touched for path in frozen[name]))
    if not paths:
        return ()
    further = len(paths) - _MOST_NAMES
    listed = ", ".join(paths[:_MOST_NAMES]) + (f" and {further} more" if further > 0 else "")
    if request.trainable_only:
        return (f"frozen layers stay as they are: {listed}",)
    return (f"frozen layers are pruned, too (trainable_only=True leaves them whole): {listed}",)


def _sparsity_by_group(
    names: "_Names", layout: Layout, request: Request
) -> dict[str, float | None]:
    """Return the groups that were asked for, by the sparsity of each.

    A budget for the whole model includes the dimensions of attention heads, if the method's costs
    can be compared with theirs. A sparsity applies to them only where it names the layer.
    """
    if not isinstance(request.sparsity, dict):
        if request.layers is None:
            compares = request.sparsity is None and request.method.predicts_error
            paths = [path for path in names.producers if compares or path not in layout.heads]
        else:
            paths = [
                path
                for name in request.layers
                for path in names.find(name)
                if request.sparsity is None or path not in layout.heads or names.is_layer(name)
            ]
        return {names.group_of(path): request.sparsity for path in paths}
    chosen: dict[str, float | None] = {}
    for name, sparsity in request.sparsity.items():
        for path in names.find(name):
            if path in layout.heads and names.is_model(name):
                continue
            group = names.group_of(path)
            if chosen.setdefault(group, sparsity) != sparsity:
                raise names.named_twice(path, chosen[group], sparsity)
    return chosen


class _Names:
    """Names, paths and patterns by which callers mean the layers of a model.

    Attributes:
        producers: Paths of all layers that have units.
    """

    def __init__(self, located: LocatedModel):
        self._layout = located.layout
        self._groups = {
            path: name for name, group in located.layout.groups.items() for path in group.layers
        }
        # A layer with heads stands for all their dimensions.
        self._heads: dict[str, list[str]] = {}
        for name, heads in located.layout.heads.items():
            self._groups[name] = name
            self._heads.setdefault(heads.path, []).append(name)
        refused = (refusal.layer for refusal in located.layout.refusals)
        self.producers = [*self._groups, *refused]
        known = {*self.producers, *self._heads}
        self._others = [path for path in located.graph.paths.values() if path not in known]
        self._paths_of = located.graph.paths
        self._nested = list(located.graph.nested)

    def group_of(self, path: str) -> str:
        """Return the name of the group of a producer, or its own path if it has none."""
        return self._groups.get(path, path)

    def named_twice(self, path: str, first: float | None, second: float) -> ValueError:
        """Return the error for two sparsities of one group."""
        group = self._layout.groups.get(self.group_of(path))
        others = ", ".join(layer for layer in (group.layers if group else ()) if layer != path)
        also = f", or a layer tied to it ({others})" if others else ""
        return ValueError(
            f"`sparsity` names layer '{path}'{also} twice, with {first} and {second}."
        )

    def find(self, name: Any) -> list[str]:
        """Find the producers that a caller means.

        Args:
            name: A layer's path or name, the path of a nested model, which means all layers in
                it, a pattern of these (`"block*/conv?"`), or a layer object.

        Raises:
            ValueError: If no producer is meant, or a name alone means several. The message
                suggests near names.
        """
        if not isinstance(name, str):
            name = self._path_of_object(name)
        if name in self.producers:
            return [name]
        if name in self._heads:
            return self._heads[name]
        # Dimensions of heads have names that other layers may have, such as "value".
        dimensions = {path for paths in self._heads.values() for path in paths}
        paths = [path for path in (*self.producers, *self._heads) if path not in dimensions]
        if any(sign in name for sign in "*?["):
            found = [path for path in paths if _matches(path, name)]
            found += [path for path in dimensions if fnmatch.fnmatchcase(path, name)]
        else:
            found = [path for path in paths if _last_part(path) == name]
            if len(found) > 1:
                raise ValueError(
                    f"Layer name '{name}' is ambiguous. Use one of the paths {_listed(found)}"
                )
            inside = f"{name.rstrip('/')}/"
            found = found or [path for path in self.producers if path.startswith(inside)]
        if found:
            expanded = (self._heads.get(path, [path]) for path in found)
            return list(dict.fromkeys(path for several in expanded for path in several))
        if any(_matches(path, name) for path in self._others):
            raise ValueError(
                f"Layer '{name}' has no units that can be pruned. Layers that have: "
                f"{_listed(self.producers)}"
            )
        known = [*self.producers, *map(_last_part, self.producers), *self._nested]
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean '{near[0]}'?" if near else f"Layers: {_listed(self.producers)}"
        raise ValueError(f"There is no layer '{name}'. {hint}")

    def is_layer(self, name: Any) -> bool:
        """Return whether a caller means one layer, or dimensions of its heads."""
        path = name if isinstance(name, str) else self._path_of_object(name)
        known = (*self.producers, *self._heads)
        return any(path in (other, _last_part(other)) for other in known)

    def is_model(self, name: Any) -> bool:
        """Return whether a caller means all layers in a nested model."""
        path = name if isinstance(name, str) else self._path_of_object(name)
        return not any(sign in path for sign in "*?[") and not self.is_layer(path)

    def _path_of_object(self, layer: Any) -> str:
        path = self._paths_of.get(id(layer))
        if path is None:
            raise ValueError(
                f"There is no layer '{getattr(layer, 'name', layer)}' that is this object. Layers: "
                f"{_listed(self.producers)}"
            )
        return path


def _matches(path: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(path, pattern) or fnmatch.fnmatchcase(_last_part(path), pattern)


def _listed(paths: Sequence[str]) -> str:
    further = len(paths) - _MOST_NAMES
    listed = ", ".join(paths[:_MOST_NAMES]) or "none"
    return f"{listed} and {further} more" if further > 0 else listed


def _last_part(path: str) -> str:
    return path.rsplit("/", 1)[-1]
