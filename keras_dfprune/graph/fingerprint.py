"""A model's weights and calls into short digests, to tell whether two models are the same."""

import hashlib
import json
import warnings
from concurrent.futures import Future
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_dfprune.graph.beside import beside
from keras_dfprune.graph.calls import Call, Graph, Tensor

# Settings that may differ between two models that compute the same. The width of a dtype is in
# the weights.
_PRIVATE = ("name", "trainable", "dtype", "seed")
_CALLS = "calls"


def layer_digests(graph: Graph) -> dict[str, list]:
    """For each layer with variables: `[name of the variable, shape, digest of the bytes]`.

    A last row `["calls", None, digests]` stands for what feeds the layer: types, settings and
    arguments of everything up to it. Equal weights in another graph would need other merges.

    Args:
        graph: What `graph.read_graph` returned.

    Returns:
        JSON-serialisable lists by the layer's path.
    """
    return start_layer_digests(graph).result()


def start_layer_digests(graph: Graph) -> Future:
    """The same beside other work: hashing needs a processor, but not the interpreter.

    Returns:
        What `layer_digests` returns, as a `Future`.
    """
    calls = _call_digests(graph)
    variables: dict[str, list[keras.Variable]] = {}
    for call in graph.calls:
        operation = call.operation
        if isinstance(operation, keras.Layer) and operation.variables:
            variables.setdefault(call.path, _weights(operation))

    def rows() -> dict[str, list]:
        return {
            path: [
                *([one.name, list(one.shape), _digest(one)] for one in some),
                [_CALLS, None, calls[path]],
            ]
            for path, some in variables.items()
            if some
        }

    return beside(rows)


def _call_digests(graph: Graph) -> dict[str, list[str]]:
    """The digests of each layer's calls, each made from the digests of what feeds it."""
    known = {id(tensor): f"input {place}" for place, tensor in enumerate(graph.inputs)}
    calls: dict[str, list[str]] = {}
    for call in graph.calls:
        digest = _call_digest(call, known)
        known.update((id(out), f"{digest} {place}") for place, out in enumerate(call.outputs))
        calls.setdefault(call.path, []).append(digest)
    return {path: sorted(digests) for path, digests in calls.items()}


def _call_digest(call: Call, known: dict[int, str]) -> str:
    def describe(value):
        if isinstance(value, Tensor):
            return known[id(value)]
        return repr(value) if isinstance(value, bool | int | float | str) else type(value).__name__

    arguments = [describe(value) for value in keras.tree.flatten((call.args, call.kwargs))]
    content = [type(call.operation).__name__, _settings(call.operation), arguments]
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=8).hexdigest()


def _settings(operation: keras.Operation) -> str:
    """The plain values of a config. None and False, what newer versions add, are left out."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras warns of each lambda
            config = operation.get_config() if isinstance(operation, keras.Layer) else {}
    except NotImplementedError:  # a custom layer without one
        return ""
    plain = {
        key: value
        for key, value in config.items()
        if key not in _PRIVATE and value is not None and value is not False and _is_plain(value)
    }
    return json.dumps(plain, sort_keys=True)


def _is_plain(value: Any) -> bool:
    values = value if isinstance(value, list | tuple) else [value]
    return all(isinstance(one, bool | int | float | str) for one in values)


def weights_digest(model: keras.Model) -> str:
    """One digest of all weights of a model; it changes whenever one of them does."""
    total = hashlib.blake2b(digest_size=16)
    for variable in model.weights:
        total.update(_digest(variable).encode())
    return total.hexdigest()


def _weights(layer: keras.Layer) -> list[keras.Variable]:
    """Its variables without the states of random generators, which change with every call."""
    return [variable for variable in layer.weights if "seed_generator" not in variable.path]


def _digest(variable: keras.Variable) -> str:
    values = np.asarray(tf.convert_to_tensor(variable.value)).reshape(-1)  # `numpy()` would copy
    # twice as quick as blake2b where processors have instructions for it
    return hashlib.sha256(values.view(np.uint8)).hexdigest()[:32]


def difference(expected: dict[str, list], received: dict[str, list]) -> str | None:
    """What tells two models apart, in one clause, or None if nothing does.

    Args:
        expected: `layer_digests` of the model that was planned for.
        received: `layer_digests` of the other.
    """
    missing = [path for path in expected if path not in received]
    if missing:
        return f"it has no layer {', '.join(missing)}"
    extra = [path for path in received if path not in expected]
    if extra:
        return f"it has further layers {', '.join(extra)}"
    for path, rows in expected.items():
        shapes = _shapes(rows), _shapes(received[path])
        if shapes[0] != shapes[1]:
            return f"the weights of layer {path} have shapes {shapes[1]} instead of {shapes[0]}"
    for path, rows in expected.items():
        if rows[-1] != received[path][-1]:
            return f"layer {path}, or one before it, is set or connected differently"
    changed = [path for path, rows in expected.items() if rows != received[path]]
    return f"the weights of layer {', '.join(changed)} differ" if changed else None


def _shapes(rows: list) -> list:
    return [shape for name, shape, _ in rows if name != _CALLS]
