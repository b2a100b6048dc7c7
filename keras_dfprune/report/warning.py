"""A sentence for the caller into a warning that points at the caller's line, not at one of ours."""

import inspect
import warnings


def warn(message: str) -> None:
    """Warns from the caller's line: the first outside this package and Keras (it calls callbacks).

    Args:
        message: What to say.
    """
    inside = (__name__.split(".")[0], "keras")
    level, frame = 0, inspect.currentframe()
    while frame is not None:
        level += 1  # 1 is this function's own frame
        if frame.f_globals.get("__name__", "").split(".")[0] not in inside:
            break
        frame = frame.f_back
    warnings.warn(message, stacklevel=level)
