"""What the commands do: a model file in, a table or a pruned model file out.

Whatever the user got wrong ends with exit code 2 and one line on stderr.
"""

import argparse
import importlib.util
import pathlib
import re
import sys
import warnings
import zipfile
from typing import Any

import keras

import keras_dfprune as dfprune
from keras_dfprune.exporting.files import check_target

_MODEL_SUFFIXES = (".keras", ".h5", ".hdf5")


class CommandError(Exception):
    """Something that the user has to put right; its text is one line."""


def run(options: argparse.Namespace) -> int:
    """Runs one command.

    Args:
        options: What `build_parser().parse_args()` returned.

    Returns:
        The exit code.
    """
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            _COMMANDS[options.command](options)
    except _USER_ERRORS as error:
        sys.stderr.write(f"keras-dfprune: error: {_one_line(error)}\n")
        return 2
    return 0


def inspect(options: argparse.Namespace) -> None:
    """Prints the plan for a model file."""
    print(dfprune.plan(_load(options.model), **_plan_arguments(options)))


def prune(options: argparse.Namespace) -> None:
    """Prunes a model file into another one."""
    _check_targets(options)
    model = _load(options.model)
    plan = dfprune.plan(model, verbose=options.verbose, **_plan_arguments(options))
    pruned = plan.apply(model, verify=options.verify)
    result = dfprune.export(pruned, options.out, quantize=options.quantize)
    if options.save_plan:
        plan.save(options.save_plan)
    if options.plot:
        plan.plot(options.plot)
    if not options.verbose:
        print(plan)
    print(f"{result.path}: {result.bytes:,} bytes")


def run_demo(options: argparse.Namespace) -> None:
    """Trains and prunes a small net."""
    from keras_dfprune.cli import demo

    demo.run(pathlib.Path(options.output), quick=options.quick)


def _load(path: str) -> Any:
    """Reads a model file in safe mode: no code that the file brings along is run."""
    file = pathlib.Path(path)
    if not file.exists():
        raise CommandError(f"no such file: {path}")
    if file.is_dir():
        raise CommandError(
            f"{path} is a folder; a SavedModel has lost its layers. Pass the .keras or .h5 file "
            "that the model was saved to"
        )
    if file.suffix.lower() not in _MODEL_SUFFIXES:
        raise CommandError(f"not a model file: {path} (expected .keras or .h5)")
    if file.suffix.lower() == ".keras" and not zipfile.is_zipfile(file):
        raise CommandError(f"can't read a Keras model from {path}: it is no zip archive")
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras, zipfile and h5py raise a dozen types for a foreign file
        raise CommandError(f"can't read a Keras model from {path}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """What Keras could not read; around it stands the config of the whole model."""
    inner = error
    while inner.__context__ is not None:
        inner = inner.__context__
    found = re.match(r"Could not locate (class|function) '[^']*'|.*Python lambda", str(inner))
    if found is None:
        return _one_line(error)
    return (
        f"{found[0]}. The command knows only what comes with Keras, and runs no code from a file: "
        "load this model in Python, and use keras_dfprune.apply and keras_dfprune.export"
    )


def _check_targets(options: argparse.Namespace) -> None:
    """Finds what can't be written before any work is done."""
    check_target(options.out)
    for target in filter(None, (options.out, options.plot, options.save_plan)):
        folder = pathlib.Path(target).parent
        if not folder.is_dir():
            raise CommandError(f"no such folder: {folder} (for {target})")
        if pathlib.Path(target).resolve() == pathlib.Path(options.model).resolve():
            raise CommandError(f"{target} is the model itself; choose another name")
    if options.plot and importlib.util.find_spec("matplotlib") is None:
        raise CommandError('--plot needs matplotlib: pip install "keras_dfprune[plots]"')


def _plan_arguments(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "method": options.method,
        "sparsity": _sparsity(options.sparsity),
        "max_params": options.max_params,
        "tolerance": options.tolerance,
        "layers": options.layers,
        "seed": options.seed,
    }


def _sparsity(values: list[str] | None) -> float | dict[str, float] | None:
    """`["0.5"]` into 0.5, `["fc1=0.8", "fc2=0.25"]` into a dict."""
    if values is None:
        return None
    named = [value.rpartition("=") for value in values]
    if len(values) > 1 and not all(separator for _, separator, _ in named):
        raise CommandError(
            f"--sparsity: one number, or NAME=F for each layer. Received: {' '.join(values)}"
        )
    try:
        fractions = {name: float(fraction) for name, _, fraction in named}
    except ValueError as error:
        raise CommandError(
            f"--sparsity: not a number in [0, 1) or NAME=F. Received: {' '.join(values)}"
        ) from error
    if len(fractions) < len(values):
        raise CommandError(f"--sparsity: a layer is named twice. Received: {' '.join(values)}")
    return fractions[""] if not named[0][1] else fractions


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 500 else text[:497] + "..."


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    text = " ".join(str(message).split())
    sys.stderr.write(f"keras-dfprune: warning: {text}\n")


_COMMANDS = {"inspect": inspect, "prune": prune, "demo": run_demo}
_USER_ERRORS = (
    CommandError,
    ValueError,
    TypeError,
    OSError,
    ImportError,
    dfprune.ExportError,
    dfprune.VerificationError,
)
