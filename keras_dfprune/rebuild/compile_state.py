"""The compile state of a model carried over to its pruned copy, the optimizer's slots cut along.

What holds state is made anew from its config: neither model's training touches the other's.
"""

from typing import Any

import keras
import numpy as np

from keras_dfprune.graph.keras_private import compile_arguments, is_decayed, optimizer_slots
from keras_dfprune.graph.recreate import VariablePair
from keras_dfprune.report.warning import warn

# Their slots are element-wise: one number for each weight, which is cut along with it.
_ELEMENTWISE = (
    keras.optimizers.SGD,
    keras.optimizers.Adam,
    keras.optimizers.AdamW,
    keras.optimizers.RMSprop,
    keras.optimizers.Lion,
)
_OWN_TRAINING = ("train_step", "test_step", "compute_loss", "compute_metrics")


def carry_compile_state(
    model: keras.Model, new: keras.Model, variables: tuple[VariablePair, ...]
) -> None:
    """Compiles `new` as `model` was compiled.

    Args:
        model: The original; not changed, nor are the states of its metrics and optimizer.
        new: The pruned model, not compiled.
        variables: Which variable took the place of which.
    """
    arguments = compile_arguments(model)
    if not arguments:
        return
    if any(getattr(type(model), name) is not getattr(keras.Model, name) for name in _OWN_TRAINING):
        warn(
            f"The pruned model is not compiled: {type(model).__name__} has training logic of its "
            "own, which a plain Keras model can't take over. Its weights are right.",
        )
        return
    lost: list[str] = []
    for name in ("metrics", "weighted_metrics"):
        if arguments.get(name) is not None:
            arguments[name] = _remade_tree(name, arguments[name], lost)
    arguments["optimizer"] = _remade_optimizer(model.optimizer, new, variables, lost)
    given = {key: value for key, value in arguments.items() if value is not None}
    new.compile(**{**given, "optimizer": arguments["optimizer"]})  # None stays None: no RMSprop
    if lost:
        warn(
            f"The pruned model was compiled without the original's {'; '.join(lost)}. Where that "
            "matters, call `compile` on it.",
        )


def _remade_tree(name: str, value: Any, lost: list[str], inside: bool = False) -> Any:
    """A metrics argument with every object that holds state made anew.

    Where one can't be, an empty list keeps its place: the outer list may have one entry for each
    output. Lists inside hold the metrics of one output.
    """
    if isinstance(value, dict):
        return {key: _remade_tree(name, item, lost, True) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [_remade_tree(name, item, lost, True) for item in value]
        return [item for item in items if item != []] if inside else items
    if not isinstance(value, keras.metrics.Metric):
        # Names, functions and losses hold no state. Losses are not made again, since the config
        # of some leaves settings out (keras.losses.Huber loses its delta).
        return value
    try:
        return type(value).from_config(value.get_config())
    except Exception:  # whatever a user's constructor raises
        lost.append(f"{name} {type(value).__name__} (can't be made again from its config)")
        return []


def _remade_optimizer(optimizer, new: keras.Model, variables, lost: list[str]):
    if optimizer is None:
        return None
    try:
        made = type(optimizer).from_config(optimizer.get_config())
    except Exception:  # whatever a user's constructor raises
        lost.append(f"optimizer {type(optimizer).__name__} (can't be made again from its config)")
        return None
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if inner.weight_decay is not None:
        _carry_exclusions(inner, getattr(made, "inner_optimizer", made), new, variables)
    if type(inner) not in _ELEMENTWISE:
        lost.append(
            f"state of optimizer {type(inner).__name__} (its slots can't be cut: it starts anew)"
        )
    elif inner.built:
        _carry_slots(optimizer, made, new, variables)
    return made


def _carry_exclusions(inner, made, new: keras.Model, variables) -> None:
    """Which variables don't decay stands in no config; a fresh bias goes by its name."""
    old = {id(pair.new): pair.old for pair in variables}
    spared = [v for v in new.trainable_variables if not is_decayed(inner, old.get(id(v), v))]
    if spared:
        made.exclude_from_weight_decay(var_list=spared)


def _carry_slots(optimizer, made, new: keras.Model, variables) -> None:
    pairs = {id(pair.old): pair for pair in variables}
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    trained, old_slots = optimizer_slots(inner)
    known = [pairs[id(variable)] for variable in trained if id(variable) in pairs]
    targets = [pair.new for pair in known]
    fresh = [v for v in new.trainable_variables if all(v is not target for target in targets)]
    made.build([*targets, *fresh])
    _, new_slots = optimizer_slots(getattr(made, "inner_optimizer", made))
    slots = {id(slot) for values in old_slots.values() for slot in values}
    rows = [row for row, variable in enumerate(trained) if id(variable) in pairs]
    for name, values in old_slots.items():
        for row, target, pair in zip(rows, new_slots[name], known, strict=False):
            if values[row] is not None:
                target.assign(pair.cut(np.asarray(values[row].value)))
    new_ids = {id(slot) for values in new_slots.values() for slot in values}
    counters = [v for v in optimizer.variables if id(v) not in slots]
    new_counters = [v for v in made.variables if id(v) not in new_ids]
    for old, target in zip(counters, new_counters, strict=True):
        target.assign(old)
