"""Digest a model's weights and calls, to tell whether a plan was made for this very model."""

import hashlib
import json
from concurrent.futures import Future
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_dfprune.graph.calls import Call, Graph, Tensor
from keras_dfprune.graph.in_thread import run_in_thread
from keras_dfprune.graph.recreate import read_config
from keras_dfprune.report.silence import without_warnings

# Settings that may differ between two models that compute the same. The width of a dtype shows in
# the bytes of the weights.
_IRRELEVANT_SETTINGS = ("name", "trainable", "dtype", "seed")
_CALLS = "calls"

# By the path of a layer, a row for each variable: name, shape, digest of the bytes. The last row
# is `["calls", None, digests of the calls]`. Lists, because they are stored as JSON.
LayerDigests = dict[str, list[list]]


def layer_digests(graph: Graph) -> LayerDigests:
    """Digest the variables of each layer, and the calls that feed it.

    Types, settings and arguments of all calls up to a layer are part of its digests: equal weights
    in another graph need other merges.

    Args:
        graph: Graph of the model, from `read_graph`.

    Returns:
        JSON-serialisable rows by the path of each layer that has variables.
    """
    return start_layer_digests(graph).result()


def start_layer_digests(graph: Graph) -> Future[LayerDigests]:
    """Start `layer_digests` in a thread: hashing leaves the interpreter to other threads."""
    calls = _call_digests(graph)
    variables = {
        call.path: _weights(call.operation)
        for call in graph.calls
        if isinstance(call.operation, keras.Layer)
    }
    return run_in_thread(_rows, variables, calls)


def _rows(variables: dict[str, list[keras.Variable]], calls: dict[str, list[str]]) -> LayerDigests:
    return {
        path: [
            *([variable.name, list(variable.shape), _digest(variable)] for variable in of_layer),
            [_CALLS, None, calls[path]],
        ]
        for path, of_layer in variables.items()
        if of_layer
    }


def _call_digests(graph: Graph) -> dict[str, list[str]]:
    """Return the digests of each layer's calls, each made from the digests of what feeds it."""
    known = {tensor: f"input {number}" for number, tensor in enumerate(graph.inputs)}
    calls: dict[str, list[str]] = {}
    for call in graph.calls:
        digest = _call_digest(call, known)
        known.update((tensor, f"{digest} {number}") for number, tensor in enumerate(call.outputs))
        calls.setdefault(call.path, []).append(digest)
    return {path: sorted(digests) for path, digests in calls.items()}


def _call_digest(call: Call, known: dict[Tensor, str]) -> str:
    def describe(value: Any) -> str:
        if isinstance(value, Tensor):
            return known[value]
        return repr(value) if isinstance(value, bool | int | float | str) else type(value).__name__

    arguments = [describe(value) for value in keras.tree.flatten((call.args, call.kwargs))]
    content = [type(call.operation).__name__, _settings(call.operation), arguments]
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=8).hexdigest()


def _settings(operation: keras.Operation) -> str:
    """Return the plain values of a config, without None and False: newer versions add those."""
    try:
        with without_warnings():  # Keras warns of each lambda
            config = read_config(operation) if isinstance(operation, keras.Layer) else {}
    except Exception:  # a custom layer without a config, or with one that can't be made
        return ""
    plain = {
        key: value
        for key, value in config.items()
        if key not in _IRRELEVANT_SETTINGS
        and value is not None
        and value is not False
        and _is_plain(value)
    }
    return json.dumps(plain, sort_keys=True)


def _is_plain(value: Any) -> bool:
    values = value if isinstance(value, list | tuple) else [value]
    return all(isinstance(element, bool | int | float | str) for element in values)


def weights_digest(model: keras.Model) -> str:
    """Return one digest of all weights of a model; it changes if any of them does."""
    total = hashlib.blake2b(digest_size=16)
    for variable in model.weights:
        total.update(_digest(variable).encode())
    return total.hexdigest()


def _weights(layer: keras.Layer) -> list[keras.Variable]:
    """Return a layer's weights without random states, which change with every call."""
    return [variable for variable in layer.weights if "seed_generator" not in variable.path]


def _digest(variable: keras.Variable) -> str:
    values = np.asarray(tf.convert_to_tensor(variable.value)).reshape(-1)  # `numpy()` would copy
    # SHA-256, for which many processors have instructions: docs/research/measurements.md
    return hashlib.sha256(values.view(np.uint8).data).hexdigest()[:32]


def find_digest_mismatch(expected: LayerDigests, received: LayerDigests) -> str | None:
    """Find the first difference between the digests of two models.

    Args:
        expected: `layer_digests` of the model that was planned for.
        received: `layer_digests` of the other model.

    Returns:
        The difference as a clause for a message; None without any.
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


def matching_layers(expected: LayerDigests, received: LayerDigests) -> dict[str, str] | None:
    """Match the layers of two models that differ in their weights at most.

    Layers are matched by path. If the models have other paths, as two models that one function
    builds may have, they are matched by their order.

    Args:
        expected: `layer_digests` of the model that was planned for.
        received: `layer_digests` of the other model.

    Returns:
        Paths in the other model, by the path in the first. None if the layers or calls differ.
    """
    if len(expected) != len(received):
        return None
    others = expected if expected.keys() == received.keys() else received
    paths = dict(zip(expected, others, strict=True))
    same_graph = all(
        _shapes(expected[path]) == _shapes(received[other])
        and expected[path][-1] == received[other][-1]
        for path, other in paths.items()
    )
    return paths if same_graph else None


def _shapes(rows: list[list]) -> list[list[int]]:
    return [shape for name, shape, _ in rows if name != _CALLS]
