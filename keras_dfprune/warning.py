"""A sentence for the caller into a warning that points at the caller's line, not at one of ours."""

import inspect
import warnings


def warn(message: str) -> None:
    """Warns from the first line outside this package, however deep the warning arises.

    Args:
        message: What to say.
    """
    package = __name__.split(".")[0]
    level, frame = 0, inspect.currentframe()
    while frame is not None:
        level += 1  # 1 is this function's own frame
        if frame.f_globals.get("__name__", "").split(".")[0] != package:
            break
        frame = frame.f_back
    warnings.warn(message, stacklevel=level)
