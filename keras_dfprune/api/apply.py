"""Prune a model: the public functions `apply` and `plan`, and the way through the stages."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ParamSpec, TypeVar

import keras
import tensorflow as tf

from keras_dfprune.api.narrow_model import narrow_model
from keras_dfprune.api.open_model import locate_in_any
from keras_dfprune.api.plan_warning import warn_of_plan
from keras_dfprune.api.pruning_plan import PruningPlan
from keras_dfprune.locate.locate import LocatedModel
from keras_dfprune.methods.base import Method
from keras_dfprune.planning.planner import Planned, make_plan
from keras_dfprune.planning.request import Request, read_request
from keras_dfprune.report.memory import clear_memory_errors
from keras_dfprune.report.progress import Progress
from keras_dfprune.report.silence import without_keras_warnings

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def apply(
    model: keras.Model,
    *,
    method: str | Method = "moments",
    max_params: float | int | None = None,
    max_flops: float | int | None = None,
    max_bytes: Mapping[str, float | int] | None = None,
    sparsity: float | Mapping[Any, float] | None = None,
    tolerance: float | None = None,
    multiple_of: int | Mapping[Any, int] = 1,
    data: Any = None,
    refine_steps: int = 0,
    layers: Iterable[Any] | None = None,
    exclude: Iterable[Any] | None = None,
    trainable_only: bool = False,
    verify: bool = True,
    seed: int = 0,
    strategy: tf.distribute.Strategy | None = None,
    verbose: int = 0,
) -> keras.Model:
    """Make the layers of a trained model narrower, without data and without training.

    Args:
        model: A built Sequential or Functional `keras.Model`. It is not changed.
        method: `"moments"` (default), `"saliency"` (Srinivas & Babu 2015), or a `Method`.
        max_params: Size of the whole model, biases included: a float in (0, 1) is the fraction of
            its parameters that may remain, an integer their number. Units go where a saved
            parameter costs least.
        max_flops: Multiply-adds of one row of the inputs, as a fraction or a number, likewise.
            Products with kernels count; TensorFlow's profiler counts two for each.
        max_bytes: Size of the file that `export` would write, in bytes or as a fraction, by its
            format and quantisation: `{"tflite:int8": 100_000}`. Formats: `keras`, `saved_model`,
            `onnx`, `tflite`, `tflite:dynamic`, `tflite:float16`, `tflite:int8`. The model is
            exported up to 14 times. The file is never larger, and hardly smaller.
        sparsity: Fraction of the units to remove, in [0, 1): of every prunable layer, or by
            layer, named as in `layers`. Layers that aren't named stay whole, and attention heads
            keep their dimensions unless they are named: `{"att": 0.25}`, `{"att/value": 0.25}`.
        tolerance: Largest change of an output, at least 0: squared change over the variance, in
            front of the last activation, as in `PruningPlan.measured`. 0: lossless removals only.
        multiple_of: The units that stay in a layer that loses any are a multiple of this number
            (default 1), at least one multiple: rounded down under a budget for the whole model, to
            the nearest under `sparsity`. Or a dict of numbers by layer, named as in `layers`.
        data: Unlabelled rows, from which the method learns what the units do: an array; a dict of
            arrays by input name; a list of arrays, one for each input; a `tf.data.Dataset` or a
            generator, whose labels are ignored. A few dozen rows help much, and some hundreds are
            plenty. A quarter is held out to measure the change. None (default): assumptions.
        refine_steps: Steps of recovery, 0 or more (default 0): the narrow model learns to follow
            the original's outputs on `data`, or on drawn inputs.
        layers: Layers to consider. Each is a layer object, a name, a path (`"inner/fc1"`), the path
            of a nested model for all layers in it, or a pattern (`"block*/conv?"`). None
            (default): all.
        exclude: Layers to leave whole, named likewise.
        trainable_only: Whether to leave frozen layers (`trainable=False`) as they are. A layer
            whose units go to a frozen one stays whole, too.
        verify: Whether to compare the result with the wide twin, a copy of the original whose
            removed units are cut off, on two random inputs.
        seed: Seed for whatever a method draws at random.
        strategy: A `tf.distribute.Strategy` whose replicas share the distances of each layer, which
            `"saliency"` computes. The plan is the same. Every worker of a
            `MultiWorkerMirroredStrategy` makes the plan, from the same model. None (default):
            TensorFlow places the work.
        verbose: 1 for progress bars and the plan's table; 0 (default) for silence.

    Returns:
        A new Keras model of the same kind, compiled as `model` was, optimizer state included.
        Without a budget `"moments"` removes as many units as change the outputs by next to
        nothing, and `"saliency"` those below the paper's cut-off.

    Raises:
        TypeError: If `model` is not a Keras 3 model.
        ValueError: For a model that isn't built or whose graph can't be seen, and for arguments
            that make no sense.
        VerificationError: If the result doesn't compute what was planned.

    Examples:
        >>> import keras, numpy as np, keras_dfprune as dfprune
        >>> model = keras.Sequential(
        ...     [keras.Input((8,)), keras.layers.Dense(20, "relu"), keras.layers.Dense(3)]
        ... )
        >>> pruned = dfprune.apply(model, sparsity=0.5, data=np.random.normal(size=(200, 8)))
        >>> pruned.layers[0].units
        10
    """
    request = read_request(
        method=method,
        max_params=max_params,
        max_flops=max_flops,
        max_bytes=max_bytes,
        sparsity=sparsity,
        tolerance=tolerance,
        multiple_of=multiple_of,
        data=data,
        refine_steps=refine_steps,
        layers=layers,
        exclude=exclude,
        trainable_only=trainable_only,
        verify=verify,
        seed=seed,
        strategy=strategy,
        verbose=verbose,
    )
    return plan_and_apply(model, request)[1]


def _with_arguments_of(
    function: Callable[_Arguments, Any],
) -> Callable[[Callable[..., _Result]], Callable[_Arguments, _Result]]:
    """Return a decorator that shows the signature of another function to people and tools."""

    def decorate(other: Callable[..., _Result]) -> Callable[_Arguments, _Result]:
        returns = inspect.signature(other).return_annotation
        shown = inspect.signature(function).replace(return_annotation=returns)
        vars(other)["__signature__"] = shown  # PEP 362
        return other

    return decorate


@_with_arguments_of(apply)
def plan(model: keras.Model, **arguments: Any) -> PruningPlan:
    """Decide which units to remove, to look at before anything is cut.

    Args:
        model: A built Sequential or Functional `keras.Model`. It is not changed.
        **arguments: The arguments of `apply`, with the same defaults. `verify` and `verbose` are
            what `PruningPlan.apply` goes by.

    Returns:
        A `PruningPlan`. `plan.apply(model)` makes the narrow model.

    Raises:
        TypeError: As `apply`.
        ValueError: As `apply`.

    Examples:
        >>> import keras, keras_dfprune as dfprune
        >>> model = keras.Sequential(
        ...     [keras.Input((8,)), keras.layers.Dense(20, "relu"), keras.layers.Dense(3)]
        ... )
        >>> dfprune.plan(model, max_params=130).parameters
        (243, 123)
    """
    request = read_request(**arguments)
    with without_keras_warnings(), clear_memory_errors():
        return _plan(locate_in_any(model), request, Progress(request.verbose))[0]


def plan_and_apply(model: keras.Model, request: Request) -> tuple[PruningPlan, keras.Model]:
    """Plan and make the narrow model in one go: read, locate, merge and hash once.

    Args:
        model: The model to prune.
        request: The checked arguments.

    Returns:
        The plan and the narrow model.
    """
    with without_keras_warnings(), clear_memory_errors():
        located, progress = locate_in_any(model), Progress(request.verbose)
        pruning_plan, planned = _plan(located, request, progress)
        pruning_plan.check_scope()
        narrow = narrow_model(
            located,
            pruning_plan,
            planned.rebuilt,
            planned.rows,
            verify=pruning_plan.verify,
            progress=progress,
        )
    pruning_plan.refined.update(narrow.refined)
    return pruning_plan, narrow.model


def _plan(
    located: LocatedModel, request: Request, progress: Progress
) -> tuple[PruningPlan, Planned]:
    planned = make_plan(located, request, progress)
    pruning_plan = PruningPlan.of(planned, request)
    warn_of_plan(pruning_plan, located, request)
    if request.verbose:
        print(pruning_plan)  # noqa: T201 - the caller asked for it
    return pruning_plan, planned
