"""Compute the metrics that a Keras model was compiled with, without running the model.

The model's outputs go through a model of Identity layers that is compiled with the same metrics,
made anew. So neither the user's metrics nor any other state changes.
"""

from typing import Any

import keras
import numpy as np

from keras_dfprune.graph.keras_private import compile_arguments, functional_core, structures
from keras_dfprune.rebuild.compile_state import remake_metrics
from keras_dfprune.report.cause import cause

_BATCH = 256


def compiled_metrics(
    model: keras.Model, outputs: dict[str, np.ndarray], labels: dict[str, np.ndarray]
) -> tuple[dict[str, float], list[str]]:
    """Return the values of a model's compiled metrics by name, and what couldn't be computed.

    Args:
        model: A Keras model. Without compiled metrics, and for a subclassed model, there are none.
        outputs: Its outputs by name, all rows.
        labels: The labels of each output by name.
    """
    lost: list[str] = []
    arguments = {
        name: remake_metrics(name, value, lost)
        for name, value in compile_arguments(model).items()
        if name in ("metrics", "weighted_metrics") and value is not None
    }
    core = functional_core(model)
    if not any(arguments.values()) or core is None or set(labels) != set(outputs):
        return {}, lost
    try:
        return _evaluate(core, arguments, outputs, labels), lost
    except Exception as error:  # whatever a metric raises for labels that don't suit it
        return {}, [*lost, f"compiled metrics of '{model.name}' ({cause(error)})"]


def _evaluate(
    core: keras.Model,
    arguments: dict,
    outputs: dict[str, np.ndarray],
    labels: dict[str, np.ndarray],
) -> dict[str, float]:
    names = list(outputs)
    inputs = [keras.Input(outputs[n].shape[1:], dtype=str(outputs[n].dtype)) for n in names]
    structure = structures(core)[1]
    if isinstance(structure, dict):  # its keys name the outputs
        layer_names = dict(zip(sorted(structure), core.output_names, strict=True))
        layer_name_of = [layer_names[name] for name in names]
    else:
        layer_name_of = list(core.output_names)
    passed = [
        keras.layers.Identity(name=name, dtype=symbol.dtype)(symbol)
        for name, symbol in zip(layer_name_of, inputs, strict=True)
    ]
    targets: Any = [labels[name] for name in names]
    if isinstance(structure, dict):
        model = keras.Model(inputs, dict(zip(names, passed, strict=True)))
        targets = dict(zip(names, targets, strict=True))
    else:
        single = len(names) == 1
        model = keras.Model(inputs, passed[0] if single else passed)
        targets = targets[0] if single else targets
    loss = keras.tree.map_structure(lambda _: _no_loss, targets)
    model.compile(optimizer=None, loss=loss, run_eagerly=True, **arguments)
    values = model.evaluate(
        list(outputs.values()), targets, batch_size=_BATCH, verbose=0, return_dict=True
    )
    losses = {"loss", *(f"{name}_loss" for name in (*names, *layer_name_of))}
    return {name: float(value) for name, value in values.items() if name not in losses}


def _no_loss(labels: Any, outputs: Any) -> Any:
    """Return zeros: Keras evaluates no model without a loss, and losses may need the weights."""
    return keras.ops.zeros(keras.ops.shape(outputs)[:1])
