"""Silence what Python and the native code below it write to the standard streams."""

import contextlib
import os
import sys
import threading
import warnings
from collections.abc import Iterator

_LOCK = threading.RLock()


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Discard everything that is written to standard output and error, and all warnings.

    A lock keeps two threads from restoring each other's streams.
    """
    with _LOCK, warnings.catch_warnings(), open(os.devnull, "w") as devnull:
        warnings.simplefilter("ignore")
        with silence_descriptors(1, 2):
            with contextlib.redirect_stdout(devnull), contextlib.redirect_stderr(devnull):
                yield


@contextlib.contextmanager
def without_keras_warnings() -> Iterator[None]:
    """Ignore the warnings that Keras issues, about masks, say, each time a layer is called.

    The layers are the user's, and he got these warnings when he built and called the model.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module=r"keras\.")
        yield


@contextlib.contextmanager
def silence_descriptors(*descriptors: int) -> Iterator[None]:
    """Discard what is written to file descriptors.

    Native code, such as TensorFlow's converters, writes to the descriptors of the process, past
    `sys.stdout` and `sys.stderr`.

    Args:
        *descriptors: Numbers of the descriptors: 1 for standard output, 2 for standard error.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or None
            stream.flush()
    copies = {}
    for descriptor in descriptors:
        with contextlib.suppress(OSError):  # a process without standard streams
            copies[descriptor] = os.dup(descriptor)
    try:
        with open(os.devnull, "w") as devnull:
            for descriptor in copies:
                os.dup2(devnull.fileno(), descriptor)
        yield
    finally:
        for descriptor, copy in copies.items():
            os.dup2(copy, descriptor)
            os.close(copy)
