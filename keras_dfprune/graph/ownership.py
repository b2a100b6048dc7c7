"""Tell which operations of a graph hold a variable, as a layer's own or as a call's argument."""

import dataclasses
from typing import Any

import keras
import tensorflow as tf

from keras_dfprune.graph.calls import Call, Graph
from keras_dfprune.graph.keras_private import all_layers


@dataclasses.dataclass(frozen=True, eq=False)
class Ownership:
    """Operations of a graph that hold variables together with others.

    Attributes:
        reasons: Why units can't pass an operation, by the operation's `id`. It holds a variable
            together with another operation, or a call of it takes a variable as an argument.
        sharing_layers: The `id` of each layer that holds a variable together with another layer.
            Such layers stay the same objects in a new model.
    """

    reasons: dict[int, str]
    sharing_layers: frozenset[int]


def read_ownership(graph: Graph) -> Ownership:
    """Find the operations that hold variables together with others."""
    layers_of: dict[int, dict[int, str]] = {}
    takers_of: dict[int, dict[int, str]] = {}
    for call in graph.calls:
        if isinstance(call.operation, keras.Layer):
            for layer in all_layers(call.operation):
                for variable in layer.variables:
                    layers = layers_of.setdefault(variable_key(variable), {})
                    layers[id(call.layer)] = call.layer_path
        for variable in variables_in_arguments(call):
            takers_of.setdefault(variable_key(variable), {})[id(call.layer)] = call.layer_path
    reasons: dict[int, str] = {}
    sharing: set[int] = set()
    for key in {**layers_of, **takers_of}:
        layers, takers = layers_of.get(key, {}), takers_of.get(key, {})
        holders = {**layers, **takers}
        if len(layers) > 1:
            sharing.update(layers)
        for holder in holders:
            others = sorted({path for other, path in holders.items() if other != holder})
            if others:
                reasons[holder] = f"shares its weights with {' and '.join(others)}"
            elif holder in takers:
                reasons[holder] = "takes a variable as an argument"
    return Ownership(reasons, frozenset(sharing))


def variables_in_arguments(call: Call) -> list[keras.Variable | tf.Variable]:
    """Return the variables among the arguments of a call."""
    return [value for value in keras.tree.flatten((call.args, call.kwargs)) if is_variable(value)]


def is_variable(value: Any) -> bool:
    """Return whether an argument is a variable of Keras or of TensorFlow."""
    return isinstance(value, keras.Variable | tf.Variable)


def variable_key(variable: keras.Variable | tf.Variable) -> int:
    """Return a key that is the same for a Keras variable and its TensorFlow variable."""
    return id(variable.value if isinstance(variable, keras.Variable) else variable)
