"""Describe what else a plan changes: new biases, folded adapters, shared layers."""

import keras

from keras_dfprune.graph.calls import Graph, Tensor
from keras_dfprune.graph.keras_private import all_layers
from keras_dfprune.graph.recreate import is_reused, recreate
from keras_dfprune.locate.groups import Layout, cut_of, is_cut
from keras_dfprune.planning.request import Request
from keras_dfprune.surgery.weights import LayerStates, without_bias


def notes(graph: Graph, layout: Layout, states: LayerStates) -> tuple[str, ...]:
    """Return sentences for the report of a plan.

    Args:
        graph: The model's graph.
        layout: The model's groups.
        states: The states of the layers after all merges.
    """
    return (
        *(
            f"{path} gets a bias, for the constant part of the removed units"
            for path in new_biases(layout, states)
        ),
        *_folded_adapters(layout, states),
        *_changed_losses(layout, states),
        *_shared_layers(graph, layout),
        *_narrower_models(graph, layout, states),
    )


def cutoff_notes(request: Request) -> tuple[str, ...]:
    """Return a warning of the automatic cut-off if the method's own decides."""
    if not request.leaves_it_to_the_cutoff:
        return ()
    return (
        f"the automatic cut-off of '{request.method.name}' is a rule of thumb: measure the "
        "accuracy, or give `max_params`",
    )


def new_biases(layout: Layout, states: LayerStates) -> list[str]:
    """Return the paths of consumers that had no bias and got one for an offset."""
    return [
        path
        for path in without_bias(layout)
        if states.edited(path) and any(name.endswith("bias") for name in states[path].variables)
    ]


def folded_parameters(layout: Layout, states: LayerStates) -> int:
    """Count the parameters that are folded into others: those of LoRA adapters."""
    folded = 0
    for path, record in layout.layers.items():
        operation = record.call.operation
        if isinstance(operation, keras.Layer) and _is_rewritten(path, layout, states):
            arrays = record.rule.read(operation).variables
            folded += operation.count_params() - sum(array.size for array in arrays.values())
    return folded


def _is_rewritten(path: str, layout: Layout, states: LayerStates) -> bool:
    """Return whether `rebuild` rewrites a layer's arrays: not where its groups stay whole."""
    return states.edited(path) or is_cut(cut_of(layout.layers[path], states.kept))


def _folded_adapters(layout: Layout, states: LayerStates) -> list[str]:
    return [
        f"the LoRA weights of {path} are folded into its kernel"
        + (", which becomes trainable" if record.call.operation.trainable else "")
        for path, record in layout.layers.items()
        if _has_adapter(record.call.operation) and _is_rewritten(path, layout, states)
    ]


def _has_adapter(operation: keras.Operation) -> bool:
    """Return whether a layer, or a layer inside it, has LoRA weights."""
    parts = all_layers(operation) if isinstance(operation, keras.Layer) else []
    return any(getattr(part, "lora_enabled", False) for part in parts)


def _changed_losses(layout: Layout, states: LayerStates) -> list[str]:
    """Name layers whose regularization loss changes with their weights."""
    paths = [
        path
        for path, record in layout.layers.items()
        if _is_rewritten(path, layout, states)
        and any(
            getattr(variable, "regularizer", None) is not None
            for variable in record.rule.variables(record.call.operation).values()
        )
    ]
    return [f"the regularization loss changes: {', '.join(paths)}"] if paths else []


def _shared_layers(graph: Graph, layout: Layout) -> list[str]:
    """Name layers that both models share: those with tied weights, and those without a config."""
    sentences = {}
    for call in graph.calls:
        operation, path = call.layer, call.layer_path
        if call.path in layout.tied:
            sentences[path] = f"{path} holds tied weights: both models share its variables"
        elif isinstance(operation, keras.Layer) and is_reused(operation, recreate(operation)):
            owns = " and its variables" if operation.variables else ""
            sentences[path] = f"{path} can't be re-made: both models share it{owns}"
    return list(sentences.values())


def _narrower_models(graph: Graph, layout: Layout, states: LayerStates) -> list[str]:
    """Name nested models that take or return fewer units, so that they differ outside the model."""
    call_of = {tensor: call for call in graph.calls for tensor in call.outputs}

    def is_narrower(tensor: Tensor) -> bool:
        call = call_of.get(tensor)
        while call is not None and call.path not in layout.layers:
            call = call_of.get(call.inputs[0]) if call.inputs else None
        return call is not None and (
            cut_of(layout.layers[call.path], states.kept).outputs is not None
        )

    sentences = []
    for path, tensors in graph.nested.items():
        sides = [
            side
            for side, parts in zip(("takes", "returns"), tensors, strict=True)
            if any(map(is_narrower, parts))
        ]
        if sides:
            sentences.append(
                f"the nested model {path} {' and '.join(sides)} fewer units: taken out of the "
                "pruned model, it can't stand in for the original's"
            )
    return sentences
