"""Carry out the commands: inspect, prune, profile and compare model files, run the demo.

Every mistake of the user ends with exit code 2 and one line on standard error.
"""

import argparse
import json
import pathlib
import warnings
from typing import Any

import keras

import keras_dfprune as dfprune
from keras_dfprune.cli import demo
from keras_dfprune.cli.load_model import import_objects, load_model
from keras_dfprune.cli.messages import CommandError, show_error, show_warning
from keras_dfprune.cli.rows_file import read_labelled_rows_file, read_rows_file
from keras_dfprune.cli.sizes import read_size
from keras_dfprune.exporting.check_options import check_options
from keras_dfprune.exporting.files import check_target
from keras_dfprune.report.plot import require_matplotlib

_SPARSITY_FORM = "--sparsity takes one number in [0, 1), or NAME=F for each layer"
_USER_ERRORS = (
    CommandError,
    ValueError,
    TypeError,
    OSError,
    ImportError,
    dfprune.ExportError,
    dfprune.VerificationError,
)


def run(options: argparse.Namespace) -> int:
    """Run one command.

    Args:
        options: The namespace of `build_parser().parse_args()`.

    Returns:
        The exit code.

    Raises:
        BrokenPipeError: If the reader of the output has closed the pipe.
    """
    try:
        with warnings.catch_warnings():
            warnings.showwarning = show_warning
            _COMMANDS[options.command](options)
    except BrokenPipeError:
        raise
    except _USER_ERRORS as error:
        show_error(error)
        return 2
    return 0


def inspect(options: argparse.Namespace) -> None:
    """Print the plan for a model file."""
    arguments = _plan_arguments(options)
    plan = dfprune.plan(load_model(options.model, options.custom_objects), **arguments)
    if not options.verbose:
        print(plan)


def prune(options: argparse.Namespace) -> None:
    """Prune a model file to another file."""
    rows = _rows(options.representative_data)
    name = _check_targets(options, rows)
    labelled = _labelled(options.evaluate)
    model = load_model(options.model, options.custom_objects, compiled=labelled is not None)
    if options.plan:
        plan = dfprune.PruningPlan.load(options.plan)
        pruned = plan.apply(model, data=_rows(options.data), verify=options.verify)
    else:
        arguments = _plan_arguments(options)
        size = read_size("--max-bytes", options.max_bytes)
        if size is not None:
            kind = f"{name}:{options.quantize}" if options.quantize else name
            arguments["max_bytes"] = {kind: size}
        plan = dfprune.plan(model, **arguments)
        pruned = plan.apply(model, verify=options.verify)
    result = _write(options, pruned, rows)
    if options.save_plan:
        plan.save(options.save_plan)
    if options.plot:
        plan.plot(options.plot)
    if options.report:
        plan.report(options.report, model=model, profiles=_profiles(model, pruned))
    if not options.verbose or options.plan:
        print(plan)
        print()
    if labelled is not None:
        print(dfprune.compare(model, pruned, labelled))
        print()
    print(f"{result.path}: {result.bytes:,} bytes")


def search(options: argparse.Namespace) -> None:
    """Find the smallest model that keeps a score, and write it to a file."""
    rows = _rows(options.representative_data)
    _check_targets(options, rows)
    if options.evaluate is None:
        raise CommandError("search needs labelled rows: --evaluate FILE.npz")
    labelled = _labelled(options.evaluate)
    model = load_model(options.model, options.custom_objects, compiled=True)
    result = dfprune.search(
        model,
        labelled,
        max_drop=options.max_drop,
        min_score=options.min_score,
        objective=options.objective,
        steps=options.steps,
        checkpoint=options.checkpoint,
        **_method_arguments(options),
    )
    written = _write(options, result.model, rows)
    if options.save_plan:
        result.plan.save(options.save_plan)
    if options.plot:
        result.plot(options.plot)
    if options.report:
        result.report(options.report, model=model, profiles=_profiles(model, result.model))
    print(result)
    print()
    print(f"{written.path}: {written.bytes:,} bytes")


def _profiles(model: keras.Model, pruned: keras.Model) -> tuple[dfprune.Profile, dfprune.Profile]:
    """Measure both models for a report."""
    return dfprune.profile(model, latency=True), dfprune.profile(pruned, latency=True)


def _write(options: argparse.Namespace, model: keras.Model, rows: Any) -> dfprune.ExportResult:
    return dfprune.export(
        model,
        options.out,
        quantize=options.quantize,
        representative_data=rows,
        io_dtype=options.io_dtype,
        batch_size=options.batch_size,
    )


def _labelled(path: str | None) -> Any:
    """Return rows with labels."""
    if path is None:
        return None
    rows = read_labelled_rows_file(path)
    if not isinstance(rows, tuple):
        raise CommandError(f"{path} has no labels. Add them to the .npz as the array y or labels")
    return rows


def profile(options: argparse.Namespace) -> None:
    """Print what a model file costs."""
    with keras.saving.custom_object_scope(import_objects(options.custom_objects)):
        result = dfprune.profile(options.file, latency=options.latency)
    _show(result, options.json)


def compare(options: argparse.Namespace) -> None:
    """Print how far the outputs of two model files are apart."""
    rows = read_labelled_rows_file(options.data)
    with keras.saving.custom_object_scope(import_objects(options.custom_objects)):
        result = dfprune.compare(options.before, options.after, rows)
    _show(result, options.json)


def _show(result: dfprune.Profile | dfprune.Comparison, as_json: bool) -> None:
    print(json.dumps(result.to_dict(), indent=2) if as_json else result)


def run_demo(options: argparse.Namespace) -> None:
    """Train and prune a small net."""
    demo.run(pathlib.Path(options.output), quick=options.quick)


_COMMANDS = {
    "inspect": inspect,
    "prune": prune,
    "search": search,
    "profile": profile,
    "compare": compare,
    "demo": run_demo,
}


def _plan_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of `keras_dfprune.plan`, which prints the plan with `--verbose`."""
    return {
        **_method_arguments(options),
        "sparsity": _sparsity(options.sparsity),
        "max_params": read_size("--max-params", options.max_params),
        "max_flops": read_size("--max-flops", options.max_flops),
        "tolerance": options.tolerance,
    }


def _method_arguments(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "method": options.method,
        "data": _rows(options.data),
        "refine_steps": options.refine_steps,
        "layers": options.layers,
        "exclude": options.exclude,
        "trainable_only": options.trainable_only,
        "multiple_of": options.multiple_of,
        "seed": options.seed,
        "verbose": options.verbose,
    }


def _sparsity(values: list[str] | None) -> float | dict[str, float] | None:
    """Turn `["0.5"]` into 0.5, and `["fc1=0.8", "fc2=0.25"]` into a dict."""
    if values is None:
        return None
    if len(values) == 1 and "=" not in values[0]:
        return _fraction(values[0], values[0])
    fractions: dict[str, float] = {}
    for value in values:
        name, separator, fraction = value.rpartition("=")
        if not separator:
            raise CommandError(f"{_SPARSITY_FORM}. Received: {' '.join(values)}")
        if name in fractions:
            raise CommandError(
                f"--sparsity names the layer {name} twice. Give one fraction for each layer. "
                f"Received: {' '.join(values)}"
            )
        fractions[name] = _fraction(fraction, value)
    return fractions


def _fraction(text: str, value: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise CommandError(f"{_SPARSITY_FORM}. Received: {value}") from error


def _rows(path: str | None) -> Any:
    return None if path is None else read_rows_file(path)


def _check_targets(options: argparse.Namespace, rows: Any) -> str:
    """Check that every file can be written as it is asked for, and return the format of OUT."""
    target, name = check_target(options.out)
    check_options(name, options.quantize, rows, options.io_dtype, options.batch_size)
    for written in filter(None, (options.out, options.plot, options.save_plan, options.report)):
        folder = pathlib.Path(written).parent
        if not folder.is_dir():
            raise CommandError(f"no such folder: {folder} (for {written}). Create it first")
        if pathlib.Path(written).resolve() == pathlib.Path(options.model).resolve():
            raise CommandError(f"{written} is the model itself. Choose another name")
    if target.exists() and not options.force:
        raise CommandError(f"{options.out} exists already. Give --force to replace it")
    if options.plot:
        require_matplotlib()
    return name
