"""Write errors and warnings to standard error, each on one line."""

import sys
from typing import Any

COMMAND = "keras-dfprune"
_LONGEST = 500  # characters: some errors of Keras hold the config of the whole model


class CommandError(Exception):
    """Mistake of the user; the message is one line."""


def show_error(message: BaseException | str) -> None:
    """Write an error on one line."""
    print(f"{COMMAND}: error: {one_line(message)}", file=sys.stderr)


def show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Write a warning on one line; takes the arguments of `warnings.showwarning`."""
    print(f"{COMMAND}: warning: {' '.join(str(message).split())}", file=sys.stderr)


def one_line(message: BaseException | str) -> str:
    """Return the text of an error on one line of limited length."""
    text = " ".join(str(message).split()) or type(message).__name__
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
