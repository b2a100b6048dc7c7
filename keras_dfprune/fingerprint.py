"""A model's weights into short digests, to tell whether two models are the same."""

import hashlib

import keras
import numpy as np

from keras_dfprune.graph import Graph


def layer_digests(graph: Graph) -> dict[str, list]:
    """For each layer with variables: `[path of the variable, shape, digest of the bytes]`.

    Args:
        graph: What `graph.read_graph` returned.

    Returns:
        JSON-serialisable lists by the layer's path.
    """
    digests: dict[str, list] = {}
    for call in graph.calls:
        operation = call.operation
        if call.path not in digests and isinstance(operation, keras.Layer) and operation.variables:
            digests[call.path] = [
                [variable.name, list(variable.shape), _digest(variable)]
                for variable in _weights(operation)
            ]
    return {path: rows for path, rows in digests.items() if rows}


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
    values = np.ascontiguousarray(variable.numpy())
    return hashlib.blake2b(values.tobytes(), digest_size=16).hexdigest()


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
        shapes = [row[1] for row in rows], [row[1] for row in received[path]]
        if shapes[0] != shapes[1]:
            return f"the weights of layer {path} have shapes {shapes[1]} instead of {shapes[0]}"
    changed = [path for path, rows in expected.items() if rows != received[path]]
    return f"the weights of layer {', '.join(changed)} differ" if changed else None
