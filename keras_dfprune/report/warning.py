"""Warn the caller, with the line of the caller's own code."""

import inspect
import warnings


def warn(message: str) -> None:
    """Issue a warning that points at the first line outside this package and Keras.

    Keras is left out because it calls the callbacks of this package.

    Args:
        message: Text of the warning.
    """
    inside = (__name__.split(".")[0], "keras")
    level, frame = 0, inspect.currentframe()
    while frame is not None:
        level += 1  # 1 is the frame of this function
        if frame.f_globals.get("__name__", "").split(".")[0] not in inside:
            break
        frame = frame.f_back
    warnings.warn(message, stacklevel=level)
