"""Find the sentence in an error of Keras or TensorFlow that says what went wrong."""

import re

# Keras appends the config of the object, or of the whole model.
_CONFIG = re.compile(r"Full object config:.*", re.DOTALL)


def cause(error: BaseException) -> str:
    """Return the message of the error that others wrap, on one line.

    Keras wraps an error in others that quote it behind the config of a layer, then of the model.

    Args:
        error: The error that was caught.
    """
    while error.__context__ is not None and _quotes(error, error.__context__):
        error = error.__context__
    text = _one_line(_CONFIG.sub("", _text(error)))
    return text if " " in text else f"{type(error).__name__}: {text}".removesuffix(": ")


def _quotes(error: BaseException, inner: BaseException) -> bool:
    """Return whether the message of an error contains that of another, which is a sentence."""
    text = _one_line(_text(inner))
    return " " in text and text in _one_line(_text(error))


def _text(error: BaseException) -> str:
    # A KeyError shows its message in quotes.
    return error.args[0] if isinstance(error, KeyError) and error.args else str(error)


def _one_line(text: str) -> str:
    return " ".join(str(text).split())
