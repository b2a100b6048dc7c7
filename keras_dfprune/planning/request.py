"""Check the arguments of `apply` and keep them as one frozen `Request`."""

import dataclasses
import difflib
import math
import numbers
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from keras_dfprune.methods.base import Method
from keras_dfprune.methods.moments.moments import Moments
from keras_dfprune.methods.saliency.saliency import Saliency

METHODS: dict[str, type[Method]] = {"saliency": Saliency, "moments": Moments}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """Arguments of `apply`, checked: same names, same defaults. `read_request` makes it.

    Attributes:
        method: The pruning method.
        max_params: Largest number of parameters of the whole model, or their fraction, or None.
        sparsity: Fraction of the units to remove, for all layers or by layer name, or None.
        tolerance: Largest measured change of an output, or None.
        data: Unlabelled rows of the model's inputs, or None.
        refine_steps: Steps of recovery after the cut.
        layers: Names of the layers to consider; None for all.
        verify: Whether the result is compared with the wide twin.
        seed: Seed for random draws.
        strategy: Strategy whose replicas share the work, or None.
        verbose: 1 for progress bars and the plan's table.
    """

    method: Method = dataclasses.field(default_factory=Moments)
    max_params: float | int | None = None
    sparsity: float | dict[str, float] | None = None
    tolerance: float | None = None
    data: Any = None
    refine_steps: int = 0
    layers: tuple[str, ...] | None = None
    verify: bool = True
    seed: int = 0
    strategy: tf.distribute.Strategy | None = None
    verbose: int = 0

    @property
    def named_layers(self) -> tuple[str, ...]:
        """Layer names that the caller gave, in `layers` or as keys of `sparsity`."""
        return tuple(self.sparsity) if isinstance(self.sparsity, dict) else self.layers or ()

    @property
    def has_data(self) -> bool:
        """True if the caller gave rows."""
        return self.data is not None

    def max_params_of(self, parameters: int) -> int:
        """Return the budget `max_params` of a model as a number of parameters."""
        if isinstance(self.max_params, float):
            return math.floor(self.max_params * parameters)
        return self.max_params or 0

    @property
    def leaves_it_to_the_cutoff(self) -> bool:
        """True if the method's own cut-off says how many units go."""
        budgets = (self.sparsity, self.max_params, self.tolerance)
        return self.method.has_cutoff and all(budget is None for budget in budgets)

    @property
    def asks_for_units(self) -> bool:
        """True unless every sparsity is 0."""
        values = self.sparsity.values() if isinstance(self.sparsity, dict) else [self.sparsity]
        return any(value is None or value > 0 for value in values)


def read_request(**arguments: Any) -> Request:
    """Check the arguments of `apply`, whatever the model is.

    Args:
        **arguments: Any arguments of `apply` except the model, by name.

    Returns:
        A `Request`. Names are stored as a tuple, so that an iterator may be given.

    Raises:
        TypeError: For an unknown argument, or a `strategy` that is none.
        ValueError: For any other argument that makes no sense.
    """
    _check_names(arguments)
    arguments["method"] = find_method(arguments.get("method", "moments"))
    arguments["layers"] = _read_layers(arguments.get("layers"))
    _check_at_most_one_budget(arguments)
    arguments["sparsity"] = _read_sparsity(arguments.get("sparsity"))
    arguments["max_params"] = _read_max_params(arguments.get("max_params"))
    _check_steps(arguments.get("refine_steps", 0))
    request = Request(**arguments)
    _check_tolerance(request.tolerance)
    _check_strategy(request.strategy)
    if isinstance(request.sparsity, dict) and request.layers is not None:
        raise ValueError("Give layer names in `sparsity` or in `layers`, not in both.")
    return request


def find_method(method: str | Method) -> Method:
    """Return the method that an argument names.

    Args:
        method: `"saliency"`, `"moments"` or a `Method`.

    Raises:
        ValueError: For anything else.
    """
    if isinstance(method, Method):
        return method
    if isinstance(method, str) and method in METHODS:
        return METHODS[method]()
    advice = f" Pass an instance: {method.__name__}()." if isinstance(method, type) else ""
    raise ValueError(
        f"`method` must be one of {', '.join(map(repr, METHODS))} or a `keras_dfprune.Method`."
        f"{advice} Received: method={method!r}"
    )


def method_of_plan(config: Mapping[str, Any]) -> Method | None:
    """Make the method of a plan anew; None if it is none of this package's.

    Args:
        config: Name and settings, as in `PlanData.method`.
    """
    settings = {key: value for key, value in config.items() if key != "name"}
    return METHODS[config["name"]](**settings) if config["name"] in METHODS else None


def _check_names(arguments: Mapping[str, Any]) -> None:
    names = [field.name for field in dataclasses.fields(Request)]
    for name in arguments:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"Did you mean '{near[0]}'?" if near else f"Arguments: {', '.join(names)}"
            raise TypeError(f"Unknown argument '{name}'. {hint}")


def _check_at_most_one_budget(arguments: Mapping[str, Any]) -> None:
    budgets = ("sparsity", "max_params", "tolerance")
    given = [name for name in budgets if arguments.get(name) is not None]
    if len(given) > 1:
        raise ValueError(
            "Give at most one of `sparsity`, `max_params` and `tolerance`. Received: "
            f"{', '.join(f'{name}={arguments[name]!r}' for name in given)}"
        )


def _read_layers(layers: Any) -> tuple[str, ...] | None:
    if isinstance(layers, str):
        return (layers,)
    if not (layers is None or isinstance(layers, Iterable)):
        raise ValueError(f"`layers` must be a list of layer names. Received: layers={layers!r}")
    return None if layers is None else tuple(layers)


def _read_sparsity(sparsity: Any) -> float | dict[str, float] | None:
    if sparsity is None:
        return None
    if isinstance(sparsity, Mapping):
        return {name: _fraction(f"sparsity[{name!r}]", part) for name, part in sparsity.items()}
    return _fraction("sparsity", sparsity)


def _fraction(name: str, value: Any) -> float:
    if not (_is_number(value) and 0 <= value < 1):
        raise ValueError(
            f"`{name}` must be a number in [0, 1), the fraction of units to remove. Received: "
            f"{value!r}"
        )
    return float(value)


def _read_max_params(max_params: Any) -> float | int | None:
    if max_params is None:
        return None
    if _is_number(max_params):
        if isinstance(max_params, int | np.integer) and max_params >= 1:
            return int(max_params)
        if not isinstance(max_params, int | np.integer) and 0.0 < max_params < 1.0:
            return float(max_params)
    raise ValueError(
        "`max_params` must be a fraction of the model's parameters, a float in (0, 1) such as "
        f"0.5, or a number of parameters, an integer of at least 1. Received: {max_params!r}"
    )


def _check_steps(steps: Any) -> None:
    if not (_is_number(steps) and isinstance(steps, int | np.integer) and steps >= 0):
        raise ValueError(f"`refine_steps` must be an integer, 0 or more. Received: {steps!r}")


def _check_tolerance(tolerance: Any) -> None:
    if tolerance is None:
        return
    if not (_is_number(tolerance) and 0 <= tolerance < math.inf):
        raise ValueError(f"`tolerance` must be a number of at least 0. Received: {tolerance!r}")


def _check_strategy(strategy: Any) -> None:
    if strategy is None:
        return
    if not isinstance(strategy, tf.distribute.Strategy):
        raise TypeError(
            f"`strategy` must be a `tf.distribute.Strategy`. Received: strategy={strategy!r}"
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)
