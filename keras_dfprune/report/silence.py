"""Silence what Python and the native code below it write to the standard streams."""

import contextlib
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any, cast

_LOCK = threading.RLock()


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Discard everything that is written to standard output and error, and all warnings.

    A lock keeps two threads from restoring each other's streams.
    """
    with _LOCK, without_warnings(), open(os.devnull, "w") as devnull:
        with silence_descriptors(1, 2):
            with contextlib.redirect_stdout(devnull), contextlib.redirect_stderr(devnull):
                yield


@contextlib.contextmanager
def without_keras_warnings() -> Iterator[None]:
    """Ignore the warnings that Keras issues, about masks, say, each time a layer is called.

    The layers are the user's, and he got these warnings when he built and called the model.
    """
    with _OF_KERAS.ignored():
        yield


@contextlib.contextmanager
def without_warnings() -> Iterator[None]:
    """Ignore all warnings."""
    with _ALL.ignored():
        yield


class _Warnings:
    """Warnings that are ignored while any thread asks for it.

    Python has one list of filters for all threads. Each of them would restore the list that it
    found, with the filters of the others in it. So the first one adds a filter, and the last one
    takes it away.

    Args:
        module: Pattern of the names of modules.
        category: Kind of warnings.
    """

    def __init__(self, module: str = "", category: type[Warning] = Warning):
        self._module, self._category = module, category
        self._lock = threading.Lock()
        self._users: set[object] = set()
        self._filter: Any = None

    @contextlib.contextmanager
    def ignored(self) -> Iterator[None]:
        """Ignore them."""
        user = object()
        try:
            with self._lock:
                self._users.add(user)
                if self._filter is None:
                    warnings.filterwarnings("ignore", "", self._category, self._module)
                    self._filter = warnings.filters[0]
            yield
        finally:
            with self._lock:
                self._users.discard(user)
                if not self._users:
                    with contextlib.suppress(ValueError):  # a test may have reset the filters
                        cast(list, warnings.filters).remove(self._filter)
                    self._filter = None


_OF_KERAS = _Warnings(r"keras\.", UserWarning)
_ALL = _Warnings()


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
