"""Write errors and warnings to standard error, each on one line."""

import sys
from typing import Any

COMMAND = "keras-dfprune"


class CommandError(Exception):
    """Mistake of the user; the message is one line."""


def show_error(message: BaseException | str) -> None:
    """Write an error on one line."""
    text = " ".join(str(message).split()) or type(message).__name__
    print(f"{COMMAND}: error: {text}", file=sys.stderr)


def show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Write a warning on one line; takes the arguments of `warnings.showwarning`."""
    print(f"{COMMAND}: warning: {' '.join(str(message).split())}", file=sys.stderr)
