"""Adam against Keras's own."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dfprune.methods.adam import Adam


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_steps_are_those_of_keras(dtype):
    random = np.random.default_rng(0)
    starts = [random.normal(size=shape).astype(dtype) for shape in ((3, 2), (4,))]
    ours = [tf.Variable(start) for start in starts]
    keras_variables = [keras.Variable(start, dtype=dtype) for start in starts]
    adam = Adam(ours, new_square=0.01, epsilon=1e-5)
    optimizer = keras.optimizers.Adam(0.1, beta_2=0.99, epsilon=1e-5)
    for _ in range(5):
        gradients = [tf.constant(random.normal(size=start.shape), dtype) for start in starts]
        adam.apply(gradients, tf.constant(0.1, dtype))
        optimizer.apply(gradients, keras_variables)
    for variable, expected in zip(ours, keras_variables, strict=True):
        np.testing.assert_allclose(variable.numpy(), expected.numpy(), rtol=1e-5)


def test_steps_after_a_reset_are_those_of_a_new_one():
    used, fresh = tf.Variable([1.0, 2.0]), tf.Variable([3.0, 3.0])
    adam = Adam([used])
    adam.apply([tf.constant([0.5, -4.0])], 0.1)
    adam.reset()
    used.assign(fresh)
    for optimizer in (adam, Adam([fresh])):
        for gradient in ([2.0, 1.0], [-1.0, 3.0]):
            optimizer.apply([tf.constant(gradient)], 0.1)
    np.testing.assert_array_equal(used.numpy(), fresh.numpy())
