"""Say in plain values what a plan was asked for, for reports."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_dfprune.planning.request import METHODS, Request

# `method` is told by `method_settings`. Rows are told by the plan, and the others change no plan.
_LEFT_OUT = ("method", "data", "verify", "strategy", "verbose")


def plain_arguments(request: Request, method: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `plan` that differ from their defaults, JSON-serialisable.

    Args:
        request: The checked arguments.
        method: Name and settings of the method, as in `PlanData.method`.

    Returns:
        Values by argument, in the order of the signature. Layers are given by name.
        `"method"` is there unless it is the default: name and settings that differ from the
        constructor's defaults.
    """
    settings = method_settings(method)
    arguments: dict[str, Any] = {}
    if settings != {"name": Request().method.name}:
        arguments["method"] = settings
    for field in dataclasses.fields(Request):
        value = getattr(request, field.name)
        if field.name not in _LEFT_OUT and value != field.default:
            arguments[field.name] = _plain(value)
    return arguments


def method_settings(method: Mapping[str, Any]) -> dict[str, Any]:
    """Return a method's name, and the settings that differ from its defaults.

    Args:
        method: Name and settings of the method, as in `PlanData.method`.
    """
    kind = METHODS.get(method["name"])
    defaults = {} if kind is None else kind().get_config()
    return {
        name: value
        for name, value in method.items()
        if name == "name" or name not in defaults or defaults[name] != value
    }


def _plain(value: Any) -> Any:
    """Return names in place of layers, lists in place of tuples and Python's own numbers."""
    if isinstance(value, Mapping):
        return {_name(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, np.generic):
        return value.item()
    return value if isinstance(value, bool | int | float | str) else _name(value)


def _name(layer: Any) -> str:
    return layer if isinstance(layer, str) else str(getattr(layer, "name", layer))
