"""A subclassed model, or one with composite layers, into a functional model of its inner layers.

`call` is run on symbolic inputs, and so is that of every custom layer that holds Dense or
convolution layers. What comes out is compared with the original before it is handed out.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_dfprune.graph.keras_private import all_layers, compile_arguments, functional_core
from keras_dfprune.graph.recreate import VariablePair, copy_state, is_reused, recreate
from keras_dfprune.graph.symbolic_calls import TraceError
from keras_dfprune.graph.trace import Trace, model_of, trace
from keras_dfprune.rebuild.compile_state import carry_compile_state
from keras_dfprune.report.warning import warn
from keras_dfprune.rules import registry
from keras_dfprune.rules.base import UnitRule
from keras_dfprune.verify.same_answers import difference


def functionalize(model: keras.Model, inputs: Any) -> keras.Model:
    """Makes a subclassed model functional, so that its layers can be seen and pruned.

    `model.call` is run on symbolic inputs, and with it the `call` of each custom layer inside that
    holds Dense layers, convolutions or the like; all other layers are taken as they are. A layer
    whose `call` doesn't run on symbolic tensors, or that then computes something else, stays
    whole, with one warning that says why.

    Args:
        model: A built `keras.Model` of any kind, for most subclassed. It is not changed, though
            the Python code in its `call` runs a few times.
        inputs: What the model is called with: one tensor, or a list or dict of tensors, each given
            as `keras.Input(shape, dtype=...)` or as an example array with the batch axis first.

    Returns:
        A functional `keras.Model` with weights of its own, with the state, names and trainable
        flags of the original's layers (a name that occurs twice gets that of the layer around it
        in front), compiled as the original is. It answers as the original does, in training too.

    Raises:
        TypeError: If `model` is not a Keras model or `inputs` holds no tensors.
        ValueError: If the model isn't built, its `call` can't be run on symbolic tensors, or the
            functional model computes something else.

    Example:
    >>> import keras, numpy as np, keras_dfprune as dfprune
    >>> class Net(keras.Model):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.hidden = keras.layers.Dense(20, "relu")
    ...         self.head = keras.layers.Dense(3)
    ...
    ...     def call(self, x):
    ...         return self.head(self.hidden(x))
    >>> net = Net()
    >>> _ = net(np.ones((1, 8)))  # which builds its layers
    >>> functional = dfprune.functionalize(net, keras.Input((8,)))
    >>> dfprune.apply(functional, sparsity=0.5).count_params()
    123
    """
    _check(model)
    symbols = _symbols(inputs)
    whole: dict[int, TraceError] = {}
    composites = [part for part in all_layers(model)[1:] if is_composite(part) or _contains(part)]
    for part in (model, *composites):
        own = _own_weights(part)
        if own:
            reason = f"it has weights of its own ({', '.join(own)}); put them into a layer"
            whole[id(part)] = TraceError(part, reason)
    made = _largest(model, symbols, composites, whole)
    if whole:
        reasons = "; ".join(
            f"{error.layer.name} ({type(error.layer).__name__}): {error.reason}"
            for error in whole.values()
        )
        warn(f"Layers left whole by functionalize: {reasons}")
    if compile_arguments(model):
        carry_compile_state(model, made.model, made.variables)
    return made.model


@dataclasses.dataclass(frozen=True, eq=False)
class _Made:
    """A functional model with its variables and those of the original; what is wrong with it."""

    model: keras.Model
    variables: tuple[VariablePair, ...]
    fault: str | None


def _check(model: keras.Model) -> None:
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"Expected a `keras.Model`. Received: {model!r} of type {type(model).__name__}"
        )
    if not model.built:
        raise ValueError(
            f"Model '{model.name}' isn't built yet, so it has no weights. Call it once on data "
            "before `functionalize`."
        )


def _symbols(inputs: Any) -> Any:
    if isinstance(inputs, dict):  # Keras wants inputs to be named as their keys
        return {
            key: _symbol(value, key) if not keras.tree.is_nested(value) else _symbols(value)
            for key, value in inputs.items()
        }
    return keras.tree.map_structure(_symbol, inputs)


def _symbol(value: Any, name: str | None = None) -> keras.KerasTensor:
    if isinstance(value, keras.KerasTensor):
        shape, dtype, name = value.shape, value.dtype, name or value.name
    elif isinstance(value, np.ndarray) or keras.ops.is_tensor(value):
        shape = (None, *value.shape[1:])
        dtype = keras.backend.standardize_dtype(value.dtype)
    else:
        raise TypeError(
            "`inputs` must be what the model is called with, each tensor as `keras.Input(shape)` "
            "or as an example array: dfprune.functionalize(model, keras.Input((28, 28, 1))). "
            f"Received: {value!r} of type {type(value).__name__}"
        )
    return keras.Input(batch_shape=shape, dtype=dtype, name=name)


def is_composite(layer: keras.Layer) -> bool:
    """Whether it is a custom layer without a rule that holds layers with units."""
    stock = type(layer).__module__.split(".")[0] == "keras"
    if stock or functional_core(layer) is not None or registry.lookup(layer) is not None:
        return False
    return any(isinstance(registry.lookup(part), UnitRule) for part in all_layers(layer)[1:])


def _contains(layer: keras.Layer) -> bool:
    """Whether it is a functional model with composite layers somewhere inside."""
    return functional_core(layer) is not None and any(map(is_composite, all_layers(layer)[1:]))


def _own_weights(layer: keras.Layer) -> list[str]:
    """Names of weights that no layer inside it holds."""
    inside = {id(weight) for part in all_layers(layer)[1:] for weight in part.weights}
    return [weight.name for weight in layer.weights if id(weight) not in inside]


def _largest(model, symbols, composites, whole: dict[int, TraceError]) -> _Made:
    """The functional model with as many composite layers opened as give the same answers.

    All at once, for nearly always that works; else one after the other, to see which don't.
    """
    if id(model) in whole:
        raise _refusal(model, whole[id(model)].reason)
    opened = [part for part in composites if id(part) not in whole]
    made = _attempt(model, symbols, opened, whole)
    if made.fault is None:
        return made
    opened = [part for part in composites if id(part) not in whole]
    made = _attempt(model, symbols, (), whole)
    if made.fault is not None:
        raise _refusal(model, made.fault)
    chosen: list[keras.Layer] = []
    for part in opened:
        further = _attempt(model, symbols, [*chosen, part], whole)
        if further.fault is None:
            made = further
            chosen.append(part)
        else:
            whole[id(part)] = TraceError(part, further.fault)
    return made


def _attempt(model, symbols, opened: Sequence[keras.Layer], whole) -> _Made:
    """Traces with these layers opened, without those that turn out not to trace."""
    batch = None
    while True:
        opened = [part for part in opened if id(part) not in whole]
        try:
            found = trace(model, symbols, opened, batch)
        except TraceError as error:
            if batch is None:
                # Code that asks for the size of the batch, for a causal mask, say, gets one. The
                # comparison has another: what depends on it shows there.
                batch = 1
                continue
            if error.layer is model:
                raise _refusal(model, error.reason) from error
            whole[id(error.layer)] = error
            batch = None
            continue
        return _make(model, found, [model, *opened])


def _refusal(model: keras.Model, reason: str) -> ValueError:
    return ValueError(
        f"Model '{model.name}' ({type(model).__name__}) can't be made functional: {reason}. Its "
        "`call` may use Keras layers and `keras.ops` on its inputs only, and has to do the same "
        "in training and at inference but for what its layers do."
    )


def _make(model: keras.Model, found: Trace, opened: Sequence[keras.Layer]) -> _Made:
    held: dict[int, str] = {}
    for operation in found.operations:
        if isinstance(operation, keras.Layer):
            for variable in {id(one): one for one in operation.variables}.values():
                other = held.setdefault(id(variable), operation.name)
                if other != operation.name:
                    return _Made(model, (), f"{other} and {operation.name} share their weights")
    new, pairs = model_of(found, recreate, _names(found, opened), model.name)
    new.trainable = model.trainable
    variables: list[VariablePair] = []
    for old, made in pairs:
        if isinstance(made, keras.Model) and functional_core(old) is not None:
            made.trainable = old.trainable
        elif isinstance(old, keras.Layer) and is_reused(old, made):
            if old.variables:
                fault = f"{old.name} ({type(old).__name__}) can't be made anew from its config"
                return _Made(new, (), fault)
        elif isinstance(old, keras.Layer):
            copy_state(old, made)
            variables += [
                VariablePair(a, b, lambda array: array)
                for a, b in zip(old.variables, made.variables, strict=True)
            ]
    for pair in variables:
        pair.new.assign(pair.old)  # the states of random generators are nobody's own variables
    return _Made(new, tuple(variables), difference(model, new, found.inputs, variables))


def _names(found: Trace, opened: Sequence[keras.Layer]) -> dict[int, str]:
    """The operations' own names; where several have the same, with the layer around in front."""
    around = {id(part): layer.name for layer in opened for part in all_layers(layer)[1:]}
    names = [operation.name for operation in found.operations]
    taken = {symbol.name for symbol in keras.tree.flatten(found.inputs)}
    chosen = {}
    for operation, name in zip(found.operations, names, strict=True):
        if names.count(name) > 1 and id(operation) in around:
            name = f"{around[id(operation)]}_{name}"
        number, base = 0, name
        while name in taken:
            number += 1
            name = f"{base}_{number}"
        taken.add(name)
        chosen[id(operation)] = name
    return chosen
