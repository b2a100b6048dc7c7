"""The command `keras-dfprune`: arguments into an exit code. A client of `keras_dfprune`.

It stands beside the library because `import keras_dfprune` brings TensorFlow: here `--help` and
wrong arguments are answered before, and TensorFlow's start-up messages don't reach the terminal.
"""

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence

from keras_dfprune.cli.arguments import build_parser

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: The arguments; None: those of the process.

    Returns:
        The exit code: 0, or 2 after one line on stderr that says what the user has to put right.
    """
    options = build_parser().parse_args(arguments)
    with contextlib.nullcontext() if options.verbose else _native_logs_off():
        from keras_dfprune.cli import commands

        return commands.run(options)


@contextlib.contextmanager
def _native_logs_off() -> Iterator[None]:
    """Sends file descriptor 2 nowhere, but not `sys.stderr`.

    TF_CPP_MIN_LOG_LEVEL is not enough: TensorFlow 2.21 logs a dozen lines before it is read.
    """
    python_stderr = sys.stderr
    terminal = os.dup(2)
    with open(os.devnull, "w") as nowhere, open(os.dup(terminal), "w", buffering=1) as stderr:
        # Where something else stands in for stderr (a test, a notebook), that stays.
        if python_stderr is sys.__stderr__:
            sys.stderr = stderr
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
            sys.stderr = python_stderr
