"""Run the command `keras-dfprune`: turn its arguments into an exit code.

TensorFlow and Keras are imported when a command runs, so that `--help` and errors in the arguments
appear at once. TensorFlow's start-up messages don't reach the terminal.
"""

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence

from keras_dfprune.cli.arguments import build_parser
from keras_dfprune.cli.messages import COMMAND, show_error
from keras_dfprune.report.silence import silence_descriptors

# The exit codes of a shell for a process that a signal ended: 128 and the number of the signal.
_INTERRUPTED = 130  # SIGINT
_BROKEN_PIPE = 141  # SIGPIPE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The arguments; None for those of the process.

    Returns:
        The exit code: 0; 2 after an error, which is one line on standard error; 130 after Ctrl-C;
        141 if the reader of the output has closed the pipe, as `head` does.
    """
    try:
        try:
            return _run(arguments)
        finally:
            print(end="", flush=True)
    except BrokenPipeError:
        _discard_unread_output()
        return _BROKEN_PIPE
    except KeyboardInterrupt:
        print(f"{COMMAND}: interrupted", file=sys.stderr)
        return _INTERRUPTED


def _run(arguments: Sequence[str] | None) -> int:
    options = build_parser().parse_args(arguments)
    # Model files don't depend on the backend, and keras_dfprune works with this one only.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    with contextlib.nullcontext() if options.verbose else _native_messages_off():
        try:
            from keras_dfprune.cli import commands
        except ImportError as error:
            show_error(error)
            return 2
        return commands.run(options)


@contextlib.contextmanager
def _native_messages_off() -> Iterator[None]:
    """Discard what native code writes to standard error; Python's own messages still appear.

    TF_CPP_MIN_LOG_LEVEL is not enough: TensorFlow 2.21 logs a dozen lines before it is read.
    """
    with contextlib.ExitStack() as stack:
        terminal = sys.__stderr__
        # If a test or a notebook has replaced sys.stderr, it doesn't write to descriptor 2.
        if terminal is not None and sys.stderr is terminal:
            encoding, errors = terminal.encoding, terminal.errors
            copy = open(os.dup(2), "w", buffering=1, encoding=encoding, errors=errors)
            stack.enter_context(contextlib.redirect_stderr(stack.enter_context(copy)))
        stack.enter_context(silence_descriptors(2))
        yield


def _discard_unread_output() -> None:
    """Discard the output that can't be written, or Python tries again when it ends."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except BrokenPipeError:
            with open(os.devnull, "w") as devnull:
                os.dup2(devnull.fileno(), stream.fileno())
