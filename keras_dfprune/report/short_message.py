"""Shorten the messages of other libraries' errors: those may be pages long."""

import re

_LONGEST = 240  # characters
# TensorFlow's node names, and the escape sequences of bold text in Keras's messages.
_NOISE = re.compile(r"\{\{.*?\}\}|\x1b\[\d*m")
_FRAME = "Exception encountered when calling"  # In front of the message that counts.


def short_message(error: Exception) -> str:
    """Return the first paragraph of an error's message as one line, cut behind a whole sentence.

    A single sentence that is too long is cut behind a whole word, and ends in three dots.

    Args:
        error: The error. One without a message gives the name of its type.
    """
    paragraphs = re.split(r"\n\s*\n", _NOISE.sub("", str(error)).strip())
    texts = [" ".join(text.split()) for text in paragraphs]
    told = [text for text in texts if text and not text.startswith(_FRAME)]
    text = (told or texts)[0] or type(error).__name__
    if len(text) <= _LONGEST:
        return text
    sentences = [match.end() for match in re.finditer(r"[.!?](?= )", text[:_LONGEST])]
    if sentences:
        return text[: sentences[-1]]
    return text[:_LONGEST].rpartition(" ")[0] + " ..."
