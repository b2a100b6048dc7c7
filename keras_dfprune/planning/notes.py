"""A finished cut into the sentences that its plan adds: what else changes beside the widths."""

import keras

from keras_dfprune.graph.calls import Graph
from keras_dfprune.graph.recreate import is_reused, recreate
from keras_dfprune.locate.groups import Layout, cut_of, is_cut
from keras_dfprune.surgery.weights import LayerStates, without_bias


def notes(graph: Graph, layout: Layout, states: LayerStates) -> tuple[str, ...]:
    """Sentences for the report of a plan.

    Args:
        graph: The model's graph.
        layout: What can be cut in it.
        states: The states after all merges.
    """
    return (
        *_new_biases(layout, states),
        *_folded_adapters(layout, states),
        *_shared(graph, layout),
    )


def _new_biases(layout: Layout, states: LayerStates) -> list[str]:
    return [
        f"{path} gets a bias, for the constant part of what was removed"
        for path in new_biases(layout, states)
    ]


def new_biases(layout: Layout, states: LayerStates) -> list[str]:
    """Paths of consumers that had no bias and got one for an offset."""
    return [
        path
        for path in without_bias(layout)
        if states.edited(path) and any(name.endswith("bias") for name in states[path].variables)
    ]


def folded_parameters(layout: Layout, states: LayerStates) -> int:
    """Parameters that go because they are folded into others: those of LoRA adapters."""
    folded = 0
    for path, record in layout.layers.items():
        operation = record.call.operation
        if isinstance(operation, keras.Layer) and _touched(path, layout, states):
            arrays = record.rule.read(operation).variables
            folded += operation.count_params() - sum(array.size for array in arrays.values())
    return folded


def _touched(path: str, layout: Layout, states: LayerStates) -> bool:
    """Whether `rebuild` rewrites a layer's arrays: not where its whole group stays."""
    return states.edited(path) or is_cut(cut_of(layout.layers[path], states.kept))


def _folded_adapters(layout: Layout, states: LayerStates) -> list[str]:
    found = []
    for path, record in layout.layers.items():
        adapted = getattr(record.call.operation, "lora_enabled", False)
        if adapted and _touched(path, layout, states):
            found.append(f"the LoRA weights of {path} are folded into its kernel")
    return found


def _shared(graph: Graph, layout: Layout) -> list[str]:
    """Only layers beyond Keras' own, lookups and Lambdas can fail to be re-made."""
    found = {}
    for call in graph.calls:
        operation = call.operation
        if call.path in layout.tied:
            found[call.path] = f"{call.path} holds tied weights: both models share its variables"
        elif isinstance(operation, keras.Layer) and is_reused(operation, recreate(operation)):
            owns = " and its variables" if operation.variables else ""
            found[call.path] = f"{call.path} can't be re-made: both models share it{owns}"
    return list(found.values())
