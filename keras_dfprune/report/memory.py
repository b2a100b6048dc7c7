"""Say what to do when memory runs out."""

import contextlib
from collections.abc import Iterator

import tensorflow as tf

OUT_OF_MEMORY = (MemoryError, tf.errors.ResourceExhaustedError)


class NeedsMemory(MemoryError):
    """Error for work that doesn't fit into memory; the message says what needs how much."""


@contextlib.contextmanager
def clear_memory_errors() -> Iterator[None]:
    """Let errors of NumPy and TensorFlow about memory say how to go on.

    Raises:
        MemoryError: In place of either.
    """
    try:
        yield
    except NeedsMemory:
        raise
    except OUT_OF_MEMORY as error:
        first, *_ = str(error).splitlines() or [""]
        raise MemoryError(
            f"The memory ran out: {first}. The model is as it was. Give fewer rows in `data`, "
            "fewer `layers` at once, or method='saliency', which needs the least."
        ) from error
