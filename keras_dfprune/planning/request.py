"""Check the arguments of `apply` and keep them as one frozen `Request`."""

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from keras_dfprune.methods.base import Method
from keras_dfprune.methods.moments.moments import Moments
from keras_dfprune.methods.saliency.saliency import Saliency
from keras_dfprune.planning.read_arguments import (
    BUDGETS,
    check_at_most_one_budget,
    check_steps,
    check_tolerance,
    read_max_bytes,
    read_multiple,
    read_names,
    read_size,
    read_sparsity,
)

METHODS: dict[str, type[Method]] = {"saliency": Saliency, "moments": Moments}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """Arguments of `apply`, checked: same names, same defaults. `read_request` makes it.

    Attributes:
        method: The pruning method.
        max_params: Largest number of parameters of the whole model, or their fraction, or None.
        max_flops: Largest number of multiply-adds of one row, or their fraction, or None.
        max_bytes: Largest size of an exported file, or its fraction, by format; or None.
        sparsity: Fraction of the units to remove, for all layers or by layer, or None.
        tolerance: Largest measured change of an output, or None.
        multiple_of: Number that the units that stay are a multiple of, for all layers that lose
            any, or by layer.
        data: Unlabelled rows of the model's inputs, or None.
        refine_steps: Steps of recovery after the cut.
        layers: Layers to consider, by name, path, pattern or object; None for all.
        exclude: Layers to leave whole, likewise; None for none.
        trainable_only: Whether frozen layers stay as they are.
        verify: Whether the result is compared with the wide twin.
        seed: Seed for random draws.
        strategy: Strategy whose replicas share the work, or None.
        verbose: 1 for progress bars and the plan's table.
    """

    method: Method = dataclasses.field(default_factory=Moments)
    max_params: float | int | None = None
    max_flops: float | int | None = None
    max_bytes: dict[str, float | int] | None = None
    sparsity: float | dict[Any, float] | None = None
    tolerance: float | None = None
    multiple_of: int | dict[Any, int] = 1
    data: Any = None
    refine_steps: int = 0
    layers: tuple[Any, ...] | None = None
    exclude: tuple[Any, ...] | None = None
    trainable_only: bool = False
    verify: bool = True
    seed: int = 0
    strategy: tf.distribute.Strategy | None = None
    verbose: int = 0

    @property
    def named_layers(self) -> tuple[Any, ...]:
        """Layers that the caller named, in `layers` or as keys of `sparsity`."""
        return tuple(self.sparsity) if isinstance(self.sparsity, dict) else self.layers or ()

    @property
    def has_data(self) -> bool:
        """True if the caller gave rows."""
        return self.data is not None

    @property
    def has_budget(self) -> bool:
        """True if the caller gave any budget."""
        return any(getattr(self, name) is not None for name in BUDGETS)

    @property
    def has_size_budget(self) -> bool:
        """True if the caller gave a budget for the size of the whole model."""
        return self.has_budget and self.sparsity is None and self.tolerance is None

    @property
    def leaves_it_to_the_cutoff(self) -> bool:
        """True if the method's own cut-off says how many units go."""
        return self.method.has_cutoff and not self.has_budget

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
    arguments["layers"] = read_names("layers", arguments.get("layers"))
    arguments["exclude"] = read_names("exclude", arguments.get("exclude"))
    check_at_most_one_budget(arguments)
    arguments["sparsity"] = read_sparsity(arguments.get("sparsity"))
    arguments["max_params"] = read_size("max_params", arguments.get("max_params"), "parameters")
    arguments["max_flops"] = read_size("max_flops", arguments.get("max_flops"), "multiply-adds")
    arguments["max_bytes"] = read_max_bytes(arguments.get("max_bytes"))
    arguments["multiple_of"] = read_multiple(arguments.get("multiple_of", 1))
    check_steps(arguments.get("refine_steps", 0))
    request = Request(**arguments)
    check_tolerance(request.tolerance)
    _check_strategy(request.strategy)
    if isinstance(request.sparsity, dict) and request.layers is not None:
        raise ValueError("Give layer names in `sparsity` or in `layers`, not in both.")
    return request


def read_budget(arguments: Mapping[str, Any]) -> Request:
    """Check a budget for a plan that is cut again: a budget of `apply`, and `multiple_of`.

    Raises:
        TypeError: For any other argument.
        ValueError: For a budget that makes no sense.
    """
    names = (*BUDGETS, "multiple_of")
    for name in arguments:
        if name not in names:
            raise TypeError(f"Unknown argument '{name}'. Arguments: {', '.join(names)}")
    return read_request(**arguments)


def with_budget(request: Request, budget: Request) -> Request:
    """Return a request with the budget of another one."""
    changed = {name: getattr(budget, name) for name in (*BUDGETS, "multiple_of")}
    return dataclasses.replace(request, **changed)


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


def _check_strategy(strategy: Any) -> None:
    if strategy is None:
        return
    if not isinstance(strategy, tf.distribute.Strategy):
        raise TypeError(
            f"`strategy` must be a `tf.distribute.Strategy`. Received: strategy={strategy!r}"
        )
