"""Check that Keras runs on TensorFlow."""

import keras


def require_tensorflow() -> None:
    """Make sure that TensorFlow is the backend of Keras.

    Raises:
        ImportError: If Keras uses another backend.
    """
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise ImportError(
            "keras_dfprune works with the TensorFlow backend of Keras. Set the environment "
            f"variable KERAS_BACKEND=tensorflow. Received: backend '{backend}'"
        )
