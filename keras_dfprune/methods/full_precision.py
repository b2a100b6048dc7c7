"""Products in true float32: keep newer GPUs from rounding the factors to ten bits (TF32)."""

import contextlib

import tensorflow as tf


@contextlib.contextmanager
def full_precision():
    """Keeps newer GPUs from rounding the factors of a float32 product to ten bits (TF32)."""
    enabled = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(enabled)
