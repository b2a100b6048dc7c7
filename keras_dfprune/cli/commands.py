"""Carry out the commands: inspect a model file, prune it to another file, run the demo.

Every mistake of the user ends with exit code 2 and one line on standard error.
"""

import argparse
import pathlib
import re
import warnings
import zipfile

import keras

import keras_dfprune as dfprune
from keras_dfprune.cli import demo
from keras_dfprune.cli.messages import CommandError, one_line, show_error, show_warning
from keras_dfprune.exporting.files import check_target
from keras_dfprune.report.plot import require_matplotlib

_MODEL_SUFFIXES = (".keras", ".h5", ".hdf5")
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
    plan = _plan(_load(options.model), options)
    if not options.verbose:
        print(plan)


def prune(options: argparse.Namespace) -> None:
    """Prune a model file to another file."""
    _check_targets(options)
    model = _load(options.model)
    plan = _plan(model, options)
    pruned = plan.apply(model, verify=options.verify)
    result = dfprune.export(pruned, options.out, quantize=options.quantize)
    if options.save_plan:
        plan.save(options.save_plan)
    if options.plot:
        plan.plot(options.plot)
    if not options.verbose:
        print(plan)
        print()
    print(f"{result.path}: {result.bytes:,} bytes")


def run_demo(options: argparse.Namespace) -> None:
    """Train and prune a small net."""
    demo.run(pathlib.Path(options.output), quick=options.quick)


_COMMANDS = {"inspect": inspect, "prune": prune, "demo": run_demo}


def _plan(model: keras.Model, options: argparse.Namespace) -> dfprune.PruningPlan:
    """Make the plan; with `--verbose`, `keras_dfprune.plan` prints it."""
    return dfprune.plan(
        model,
        method=options.method,
        sparsity=_sparsity(options.sparsity),
        max_params=options.max_params,
        tolerance=options.tolerance,
        layers=options.layers,
        seed=options.seed,
        verbose=options.verbose,
    )


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


def _load(path: str) -> keras.Model:
    """Read a model file in Keras' safe mode, which runs no code from the file."""
    file = pathlib.Path(path)
    if not file.exists():
        raise CommandError(f"no such file: {path}")
    if file.is_dir():
        raise CommandError(
            f"{path} is a folder, and a SavedModel doesn't hold the layers of its model. Pass the "
            ".keras or .h5 file that the model was saved to"
        )
    if file.suffix.lower() not in _MODEL_SUFFIXES:
        raise CommandError(f"not a model file: {path} (expected .keras or .h5)")
    if file.suffix.lower() == ".keras" and not zipfile.is_zipfile(file):
        raise CommandError(f"can't read a Keras model from {path}: it is not a zip archive")
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras, zipfile and h5py raise errors of a dozen types
        raise CommandError(f"can't read a Keras model from {path}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """Return why Keras can't load a model, without the config of the model in its message."""
    inner = error
    while inner.__context__ is not None:
        inner = inner.__context__
    match = re.match(r"Could not locate (class|function) '[^']*'|.*Python lambda", str(inner))
    if match is None:
        return one_line(error)
    return (
        f"{match[0]}. This command knows the classes of Keras only, and runs no code from a file. "
        "Load the model in Python, and use keras_dfprune.apply and keras_dfprune.export"
    )


def _check_targets(options: argparse.Namespace) -> None:
    """Check that every file can be written, before any work is done."""
    check_target(options.out)
    for target in filter(None, (options.out, options.plot, options.save_plan)):
        folder = pathlib.Path(target).parent
        if not folder.is_dir():
            raise CommandError(f"no such folder: {folder} (for {target}). Create it first")
        if pathlib.Path(target).resolve() == pathlib.Path(options.model).resolve():
            raise CommandError(f"{target} is the model itself. Choose another name")
    if options.plot:
        require_matplotlib()
