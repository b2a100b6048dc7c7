"""What a caller asks for into a method and the groups to cut, or an error with its remedy."""

import difflib
import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_dfprune.graph.calls import Graph
from keras_dfprune.graph.check_model import check_model
from keras_dfprune.graph.read_graph import read_graph
from keras_dfprune.locate.groups import Layout
from keras_dfprune.locate.locate import locate
from keras_dfprune.methods.base import Method
from keras_dfprune.methods.moments.moments import Moments
from keras_dfprune.methods.saliency.saliency import Saliency

METHODS: dict[str, type[Method]] = {"saliency": Saliency, "moments": Moments}


def find_method(method: str | Method) -> Method:
    """The method that an argument names.

    Raises:
        ValueError: If it names none.
    """
    if isinstance(method, Method):
        return method
    if isinstance(method, str) and method in METHODS:
        return METHODS[method]()
    made = f" Pass an instance: {method.__name__}()." if isinstance(method, type) else ""
    raise ValueError(
        f"`method` must be one of {', '.join(map(repr, METHODS))} or a `keras_dfprune.Method`."
        f"{made} Received: method={method!r}"
    )


def read_request(
    model: keras.Model,
    method: Method,
    sparsity: float | Mapping[str, float] | None,
    layers: Sequence[str] | None,
) -> tuple[Graph, Layout, dict[str, float | None]]:
    """A model's graph, what can be cut in it, and the groups to cut, as `wanted_groups` has them.

    Args:
        model: As for `apply`, like the others.
        method: The method itself; what it was told of the inputs must fit the model.
        sparsity: As for `apply`.
        layers: As for `apply`.

    Raises:
        TypeError: As `apply`.
        ValueError: As `apply`.
    """
    check_model(model)
    graph = read_graph(model)
    layout = locate(graph)
    wanted = wanted_groups(graph, layout, sparsity, layers)
    method.check_inputs([tensor.name for tensor in graph.inputs], set(layout.origins.values()))
    return graph, layout, wanted


def wanted_groups(
    graph: Graph,
    layout: Layout,
    sparsity: float | Mapping[str, float] | None,
    layers: Sequence[str] | None,
) -> dict[str, float | None]:
    """The groups to cut, with the sparsity of each where one is given.

    Args:
        graph: The model's graph.
        layout: What can be cut in it.
        sparsity: As for `apply`.
        layers: As for `apply`.

    Raises:
        ValueError: For names that the model doesn't have, or that contradict each other.
    """
    refused = [refusal.layer for refusal in layout.refusals]
    tied = {group.name: group.layers for group in layout.groups.values()}
    names = {path: name for name, paths in tied.items() for path in paths}
    producers = [*names, *refused]
    others = [path for path in graph.paths.values() if path not in producers]
    if isinstance(sparsity, Mapping):
        if layers is not None:
            raise ValueError("Give layer names in `sparsity` or in `layers`, not in both.")
        wanted: dict[str, float | None] = {}
        for name, value in sparsity.items():
            path = resolve(name, producers, others)
            group = names.get(path, path)
            if wanted.setdefault(group, float(value)) != float(value):
                others_tied = [one for one in tied.get(group, ()) if one != path]
                also = f", or a layer tied to it ({', '.join(others_tied)})" if others_tied else ""
                raise ValueError(
                    f"`sparsity` names layer '{path}'{also} twice, with {wanted[group]} and "
                    f"{value}."
                )
    else:
        if isinstance(layers, str):
            layers = [layers]
        if not (layers is None or isinstance(layers, Iterable)):
            raise ValueError(f"`layers` must be a list of layer names. Received: layers={layers!r}")
        value = None if sparsity is None else float(sparsity)
        paths = [
            resolve(name, producers, others) for name in (producers if layers is None else layers)
        ]
        wanted = {names.get(path, path): value for path in paths}
    return {path: wanted[path] for path in layout.groups if path in wanted}


def check_budget(method: Method, sparsity: Any, max_params: Any, tolerance: Any) -> None:
    """Makes sure that at most one budget is given, that it makes sense, and suits the method.

    Raises:
        ValueError: Otherwise.
    """
    given = {"sparsity": sparsity, "max_params": max_params, "tolerance": tolerance}
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise ValueError(
            f"Give at most one of `sparsity`, `max_params` and `tolerance`. Received: "
            f"{', '.join(f'{name}={given[name]!r}' for name in names)}"
        )
    if sparsity is not None and not isinstance(sparsity, Mapping):
        check_fraction("sparsity", sparsity)
    if isinstance(sparsity, Mapping):
        for name, value in sparsity.items():
            check_fraction(f"sparsity[{name!r}]", value)
    if max_params is not None and not (_is_number(max_params) and 1 <= max_params < math.inf):
        raise ValueError(
            f"`max_params` must be a positive number of parameters. Received: {max_params!r}"
        )
    if tolerance is None:
        return
    if not (_is_number(tolerance) and 0 <= tolerance < math.inf):
        raise ValueError(f"`tolerance` must be a number of at least 0. Received: {tolerance!r}")
    if tolerance > 0 and not method.predicts_error:
        raise ValueError(
            f"method='{method.name}' predicts no error, so it can't keep to a `tolerance` above 0. "
            f'Use method="moments", or `sparsity` or `max_params`. Received: tolerance={tolerance}'
        )


def check_fraction(name: str, value: Any) -> None:
    """Makes sure that a sparsity is a number in [0, 1).

    Raises:
        ValueError: Otherwise.
    """
    if not (_is_number(value) and 0 <= value < 1):
        raise ValueError(
            f"`{name}` must be a number in [0, 1), the fraction of units to remove. Received: "
            f"{value!r}"
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)


def resolve(name: str, producers: Iterable[str], others: Iterable[str]) -> str:
    """Finds the path of the producer that a caller named.

    Args:
        name: A layer's name, or its path.
        producers: Paths of all layers that have units.
        others: Paths of the model's other layers.

    Raises:
        ValueError: If there is none, or several; the message lists what is near.
    """
    producers, others = list(producers), list(others)
    if name in producers:
        return name
    matches = [path for path in producers if path.rsplit("/", 1)[-1] == name]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise ValueError(
            f"Layer name '{name}' is ambiguous. Use one of the paths {', '.join(matches)}"
        )
    if name in others or any(path.rsplit("/", 1)[-1] == name for path in others):
        raise ValueError(
            f"Layer '{name}' has no units that can be pruned. Layers that have: "
            f"{', '.join(producers) or 'none'}"
        )
    names = [*producers, *(path.rsplit("/", 1)[-1] for path in producers)]
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f"Did you mean '{near[0]}'?" if near else f"Layers: {', '.join(producers) or 'none'}"
    raise ValueError(f"There is no layer '{name}'. {hint}")


def check_strategy(method: Method, strategy: Any) -> None:
    """Makes sure that a strategy is one, and that the method can share its work.

    Raises:
        TypeError: If it is anything else than a `tf.distribute.Strategy` or None.
        ValueError: If the method works on one device.
    """
    if strategy is None:
        return
    if not isinstance(strategy, tf.distribute.Strategy):
        raise TypeError(
            f"`strategy` must be a `tf.distribute.Strategy`. Received: strategy={strategy!r}"
        )
    if not method.shares_work:
        raise ValueError(
            f"method='{method.name}' works on one device: its matrices can't be cut into tiles. "
            'Leave `strategy` out, or use method="saliency".'
        )
