"""Locate what can be pruned in any model: subclassed models and custom layers are opened first."""

import dataclasses
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import keras

from keras_dfprune.api.functionalize import FunctionalForm, functional_form, symbols_of
from keras_dfprune.api.open_composites import hides_layers
from keras_dfprune.graph.keras_private import functional_core
from keras_dfprune.graph.read_graph import read_graph
from keras_dfprune.locate.locate import LocatedModel, locate_model
from keras_dfprune.report.short_message import short_message


def locate_in_any(model: keras.Model) -> LocatedModel:
    """Find the groups of a model, in its functional form where it hides layers.

    A subclassed model is made functional for inputs of the shape that it was built with, and so is
    a functional model around custom layers that hold layers with units.

    Args:
        model: What a caller passed. It is not changed.

    Returns:
        The located model. Its `model` is a functional form with weights of its own, or `model`
        itself where that hides nothing. Its notes say what was opened and what stays closed.

    Raises:
        TypeError: If it is not a Keras 3 model.
        ValueError: If it isn't built, or can't be made functional. The message says why.
    """
    if not isinstance(model, keras.Model) or not model.built:
        return locate_model(model)
    if functional_core(model) is not None:
        return _with_custom_layers_opened(model)
    shapes = (model.get_build_config() or {}).get("input_shape")
    if shapes is None or _takes_more_than_inputs(model):
        return locate_model(model)
    try:
        form = functional_form(model, _symbols(shapes))
        tokens = _read_by_embeddings(form.model)
        if any(tokens):
            kinds = iter(["int32" if read else None for read in tokens])
            form = functional_form(model, _symbols(shapes, kinds))
    except ValueError as error:
        raise ValueError(
            f"{error} It was run on inputs of the shape that it was built with. If it takes "
            "others, call `model = keras_dfprune.functionalize(model, keras.Input(shape))`, with a "
            "list or dict of inputs where it takes one."
        ) from error
    seen = ", ".join(str(tuple(tensor.shape)) for tensor in form.model.inputs)
    note = (
        f"{type(model).__name__} is pruned as a functional model of inputs of shape {seen}, with "
        "which it was built; keras_dfprune.functionalize makes one of other inputs"
    )
    return dataclasses.replace(locate_model(form.model), notes=(note, *_closed(form)))


def _with_custom_layers_opened(model: keras.Model) -> LocatedModel:
    if not hides_layers(model):
        return locate_model(model)
    try:
        form = functional_form(model, symbols_of(model.input))
    except Exception as error:  # whatever the code of a custom layer raises
        note = f"custom layers stay closed: {short_message(error)}"
        return dataclasses.replace(locate_model(model), notes=(note,))
    return dataclasses.replace(locate_model(form.model), notes=_closed(form))


def _takes_more_than_inputs(model: keras.Model) -> bool:
    """Return whether `call` has arguments that may be further tensors of unknown shape."""
    parameters = list(inspect.signature(model.call).parameters.values())[1:]
    known = ("training", "mask")
    return any(p.name not in known and p.kind is not p.VAR_KEYWORD for p in parameters)


def _closed(form: FunctionalForm) -> tuple[str, ...]:
    """Return a note for each custom layer that couldn't be opened."""
    return tuple(f"{layer} stays closed: {reason}" for layer, reason in form.whole.items())


def _symbols(shapes: Any, dtypes: Iterator[str | None] | None = None) -> Any:
    """Make an input of an open batch for each shape that a model was built with."""
    if isinstance(shapes, Mapping):
        return {name: _symbols(shapes[name], dtypes) for name in sorted(shapes)}
    if all(length is None or isinstance(length, int) for length in shapes):
        return keras.Input(tuple(shapes)[1:], dtype=None if dtypes is None else next(dtypes))
    return [_symbols(shape, dtypes) for shape in shapes]


def _read_by_embeddings(model: keras.Model) -> list[bool]:
    """Return for each input of a functional model whether an Embedding takes it: integers."""
    graph = read_graph(model)
    embeddings = [
        call for call in graph.calls if isinstance(call.operation, keras.layers.Embedding)
    ]
    taken = {tensor for call in embeddings for tensor in call.inputs}
    return [tensor in taken for tensor in graph.inputs]
