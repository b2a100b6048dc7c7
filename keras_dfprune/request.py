"""What a caller asks for into a method and the groups to cut, or an error with its remedy."""

from collections.abc import Iterable, Mapping, Sequence

import keras

from keras_dfprune.budget import resolve
from keras_dfprune.graph import Graph, read_graph
from keras_dfprune.layout import Layout
from keras_dfprune.locate import locate
from keras_dfprune.methods import METHODS
from keras_dfprune.methods.base import Method
from keras_dfprune.model_check import check_model


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
