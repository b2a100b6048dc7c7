"""Compile the narrow model as the original was compiled, with the optimizer's slots cut to size.

Objects that hold state are made again from their configs, so that training one of the two models
doesn't touch the other.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_dfprune.graph.keras_private import compile_arguments, is_decayed, optimizer_slots
from keras_dfprune.graph.recreate import VariablePair
from keras_dfprune.rebuild.overrides import has_own_training
from keras_dfprune.report.warning import warn

# Optimizers whose slots hold one number for each weight, so that they can be cut along with it.
_ELEMENTWISE = (
    keras.optimizers.SGD,
    keras.optimizers.Adam,
    keras.optimizers.AdamW,
    keras.optimizers.RMSprop,
    keras.optimizers.Lion,
)


def carry_compile_state(
    model: keras.Model, narrow: keras.Model, variables: Sequence[VariablePair]
) -> None:
    """Compile `narrow` as `model` was compiled.

    A model whose class has training logic of its own is not compiled. Warns once of what can't be
    made again.

    Args:
        model: The original. It doesn't change, nor do the states of its metrics and optimizer.
        narrow: The narrow model, not compiled.
        variables: Each variable of the original with its counterpart.
    """
    arguments = compile_arguments(model)
    if not arguments or has_own_training(model):
        return
    lost: list[str] = []
    for name in ("metrics", "weighted_metrics"):
        if arguments.get(name) is not None:
            arguments[name] = remake_metrics(name, arguments[name], lost)
    optimizer = _remake_optimizer(model.optimizer, narrow, variables, lost)
    given = {key: value for key, value in arguments.items() if value is not None}
    # Without this entry Keras would choose RMSprop where the original has no optimizer.
    narrow.compile(**{**given, "optimizer": optimizer})
    if lost:
        warn(
            f"The pruned model was compiled without the original's {'; '.join(lost)}. Where that "
            "matters, call `compile` on it."
        )


def remake_metrics(name: str, value: Any, lost: list[str], *, nested: bool = False) -> Any:
    """Make every object again that holds state in an argument for metrics.

    Args:
        name: The argument's name.
        value: The argument, or a part of it.
        lost: Gets a clause for each metric that can't be made again.
        nested: Whether `value` is a part: the metrics of one output.

    Returns:
        The argument with new objects. In the outer list, which may have one entry for each output,
        an empty list keeps the position of a metric that can't be made again.
    """
    if isinstance(value, dict):
        return {key: remake_metrics(name, part, lost, nested=True) for key, part in value.items()}
    if isinstance(value, list | tuple):
        parts = [remake_metrics(name, part, lost, nested=True) for part in value]
        return [part for part in parts if part != []] if nested else parts
    if not isinstance(value, keras.metrics.Metric):
        # Names, functions and losses hold no state. Losses are not made again, because some
        # configs leave settings out (keras.losses.Huber loses its delta).
        return value
    try:
        return type(value).from_config(value.get_config())
    except Exception:  # whatever a user's constructor raises
        lost.append(f"{name} {type(value).__name__} (can't be made again from its config)")
        return []


def _remake_optimizer(
    optimizer: keras.Optimizer | None,
    narrow: keras.Model,
    variables: Sequence[VariablePair],
    lost: list[str],
) -> keras.Optimizer | None:
    """Make an optimizer again with its state; `lost` gets a clause for what can't be."""
    if optimizer is None:
        return None
    try:
        remade = type(optimizer).from_config(optimizer.get_config())
    except Exception:  # whatever a user's constructor raises
        lost.append(f"optimizer {type(optimizer).__name__} (can't be made again from its config)")
        return None
    inner = _without_loss_scale(optimizer)
    if inner.weight_decay is not None:
        _carry_exclusions(inner, _without_loss_scale(remade), narrow, variables)
    if type(inner) not in _ELEMENTWISE:
        lost.append(
            f"state of optimizer {type(inner).__name__} (its slots can't be cut: it starts anew)"
        )
    elif inner.built:
        _carry_slots(optimizer, remade, narrow, variables)
    return remade


def _without_loss_scale(optimizer: keras.Optimizer) -> keras.Optimizer:
    """Return the optimizer inside a loss-scale wrapper, or the optimizer itself."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def _carry_exclusions(
    inner: keras.Optimizer,
    remade: keras.Optimizer,
    narrow: keras.Model,
    variables: Sequence[VariablePair],
) -> None:
    """Exclude the counterparts of the variables that don't decay. No config names them."""
    old = {id(pair.new): pair.old for pair in variables}
    # A new bias has no counterpart: it is excluded by its own name.
    excluded = [v for v in narrow.trainable_variables if not is_decayed(inner, old.get(id(v), v))]
    if excluded:
        remade.exclude_from_weight_decay(var_list=excluded)


def _carry_slots(
    optimizer: keras.Optimizer,
    remade: keras.Optimizer,
    narrow: keras.Model,
    variables: Sequence[VariablePair],
) -> None:
    """Give a new optimizer the slots of the old one, cut to size, and its counters."""
    pairs = {id(pair.old): pair for pair in variables}
    trained, old_slots = optimizer_slots(_without_loss_scale(optimizer))
    rows = [row for row, variable in enumerate(trained) if id(variable) in pairs]
    kept_pairs = [pairs[id(trained[row])] for row in rows]
    targets = [pair.new for pair in kept_pairs]
    new = [v for v in narrow.trainable_variables if all(v is not target for target in targets)]
    remade.build([*targets, *new])
    _, new_slots = optimizer_slots(_without_loss_scale(remade))
    for name, values in old_slots.items():
        for row, target, pair in zip(rows, new_slots[name], kept_pairs, strict=False):
            if values[row] is not None:
                target.assign(pair.cut(np.asarray(values[row].value)))
    counters = _without_slots(optimizer, old_slots), _without_slots(remade, new_slots)
    for counter, target in zip(*counters, strict=True):
        target.assign(counter)


def _without_slots(optimizer: keras.Optimizer, slots: dict[str, list]) -> list[keras.Variable]:
    """Return an optimizer's variables that are no slots: iterations, learning rate, loss scale."""
    ids = {id(slot) for values in slots.values() for slot in values}
    return [variable for variable in optimizer.variables if id(variable) not in ids]
