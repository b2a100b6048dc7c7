"""Check the values of single arguments of `apply`, whatever the model is."""

import math
import numbers
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

BUDGETS = ("sparsity", "max_params", "max_flops", "max_bytes", "tolerance")
FORMATS = (
    *("keras", "saved_model", "onnx"),
    *("tflite", "tflite:dynamic", "tflite:float16", "tflite:int8"),
)


def check_at_most_one_budget(arguments: Mapping[str, Any]) -> None:
    """Check that at most one budget is given.

    Raises:
        ValueError: If there are several.
    """
    given = [name for name in BUDGETS if arguments.get(name) is not None]
    if len(given) > 1:
        raise ValueError(
            f"Give at most one of {', '.join(f'`{name}`' for name in BUDGETS)}. Received: "
            f"{', '.join(f'{name}={arguments[name]!r}' for name in given)}"
        )


def read_names(argument: str, names: Any) -> tuple[Any, ...] | None:
    """Return names, paths, patterns or layer objects as a tuple; None for None.

    Raises:
        ValueError: If they are no list.
    """
    if names is None:
        return None
    if isinstance(names, str) or not isinstance(names, Iterable):
        names = [names]
    names = tuple(names)
    for name in names:
        if not isinstance(name, str) and not hasattr(name, "name"):
            raise ValueError(
                f"`{argument}` must be a list of layers, by name, path, pattern or object. "
                f"Received: {argument}={name!r}"
            )
    return names


def read_sparsity(sparsity: Any) -> float | dict[Any, float] | None:
    """Check `sparsity`: a fraction, or one for each named layer.

    Raises:
        ValueError: For a number outside of [0, 1).
    """
    if sparsity is None:
        return None
    if isinstance(sparsity, Mapping):
        return {name: _fraction(f"sparsity[{name!r}]", part) for name, part in sparsity.items()}
    return _fraction("sparsity", sparsity)


def _fraction(name: str, value: Any) -> float:
    if not (is_number(value) and 0 <= value < 1):
        raise ValueError(
            f"`{name}` must be a number in [0, 1), the fraction of units to remove. Received: "
            f"{value!r}"
        )
    return float(value)


def read_size(argument: str, size: Any, noun: str) -> float | int | None:
    """Check a budget of a size: a fraction of the model's, or a number.

    Args:
        argument: Name of the argument.
        size: Its value.
        noun: What is counted, in the plural.

    Raises:
        ValueError: For anything else than a float in (0, 1) or an integer of at least 1.
    """
    if size is None:
        return None
    if is_number(size):
        if isinstance(size, int | np.integer) and size >= 1:
            return int(size)
        if not isinstance(size, int | np.integer) and 0.0 < size < 1.0:
            return float(size)
    raise ValueError(
        f"`{argument}` must be a fraction of the model's {noun}, a float in (0, 1) such as "
        f"0.5, or a number of {noun}, an integer of at least 1. Received: {size!r}"
    )


def read_max_bytes(sizes: Any) -> dict[str, float | int] | None:
    """Check `max_bytes`: the size of one file, by its format.

    Raises:
        ValueError: For anything else.
    """
    if sizes is None:
        return None
    if not isinstance(sizes, Mapping) or len(sizes) != 1:
        raise ValueError(
            "`max_bytes` must be a dict of one format and the size of its file, such as "
            f'{{"tflite:int8": 100_000}}. Received: {sizes!r}'
        )
    ((kind, size),) = sizes.items()
    if kind not in FORMATS:
        raise ValueError(
            f"`max_bytes` must name one of the formats {', '.join(FORMATS)}. Received: {kind!r}"
        )
    checked = read_size(f"max_bytes[{kind!r}]", size, "bytes")
    if checked is None:
        raise ValueError(f"`max_bytes` must say how many bytes. Received: {sizes!r}")
    return {kind: checked}


def limit_of(size: float | int, whole: int) -> int:
    """Return a budget as a number.

    Args:
        size: A fraction of the whole, or a number.
        whole: The size of the whole model.
    """
    return math.floor(size * whole) if isinstance(size, float) else size


def read_multiple(multiple: Any) -> int | dict[Any, int]:
    """Check `multiple_of`: an integer of at least 1, or one for each named layer.

    Raises:
        ValueError: For anything else.
    """
    values = multiple.values() if isinstance(multiple, Mapping) else [multiple]
    for value in values:
        if not (is_number(value) and isinstance(value, int | np.integer) and value >= 1):
            raise ValueError(
                "`multiple_of` must be an integer of at least 1, or a dict of them by layer. "
                f"Received: {multiple!r}"
            )
    return dict(multiple) if isinstance(multiple, Mapping) else int(multiple)


def check_steps(steps: Any) -> None:
    """Check `refine_steps`.

    Raises:
        ValueError: If it is no integer of at least 0.
    """
    if not (is_number(steps) and isinstance(steps, int | np.integer) and steps >= 0):
        raise ValueError(f"`refine_steps` must be an integer, 0 or more. Received: {steps!r}")


def check_tolerance(tolerance: Any) -> None:
    """Check `tolerance`.

    Raises:
        ValueError: If it is no number of at least 0.
    """
    if tolerance is None:
        return
    if not (is_number(tolerance) and 0 <= tolerance < math.inf):
        raise ValueError(f"`tolerance` must be a number of at least 0. Received: {tolerance!r}")


def is_number(value: Any) -> bool:
    """Return whether a value is a real number, NumPy's included, and not a bool."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)
