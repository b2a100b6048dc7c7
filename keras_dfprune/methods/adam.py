"""Move variables down their gradients with Adam (Kingma & Ba 2015)."""

from collections.abc import Sequence

import tensorflow as tf

_NEW_GRADIENT = 0.1  # 1 - beta_1


class Adam:
    """Adam with its state, and without the names and schedules that Keras's optimizer adds.

    Args:
        variables: Variables of any float dtypes, moved in place. The state of those that are
            coarser than float32 is kept in float32.
        new_square: Weight of a new squared gradient in the running mean of squares,
            `1 - beta_2`.
        epsilon: Positive float, added to the square root of that mean.

    Attributes:
        state: The variables of the state: the number of steps, then the running mean of the
            gradients and the running mean of their squares of each variable.
    """

    def __init__(
        self, variables: Sequence[tf.Variable], new_square: float = 0.001, epsilon: float = 1e-7
    ) -> None:
        self._variables = variables
        self._new_square, self._epsilon = new_square, epsilon
        self._means, self._squares = (
            [tf.Variable(tf.zeros(variable.shape, _slot_dtype(variable))) for variable in variables]
            for _ in range(2)
        )
        self._steps = tf.Variable(0, dtype=tf.int64)
        self.state = [self._steps, *self._means, *self._squares]

    def reset(self) -> None:
        """Forget all steps taken."""
        for state in (*self._means, *self._squares, self._steps):
            state.assign(tf.zeros_like(state))

    def apply(self, gradients: Sequence[tf.Tensor], rate: tf.Tensor | float) -> None:
        """Take one step.

        Args:
            gradients: One for each variable, in the same order.
            rate: Learning rate of this step.
        """
        old_gradient, old_square = 1.0 - _NEW_GRADIENT, 1.0 - self._new_square
        self._steps.assign_add(1)
        steps = tf.cast(self._steps, tf.float64)
        correction = tf.sqrt(1.0 - old_square**steps) / (1.0 - old_gradient**steps)
        step_size = tf.cast(rate, tf.float64) * correction
        slots = zip(self._variables, gradients, self._means, self._squares, strict=True)
        for variable, gradient, mean, square in slots:
            gradient = tf.cast(gradient, mean.dtype)
            mean.assign(old_gradient * mean + _NEW_GRADIENT * gradient)
            square.assign(old_square * square + self._new_square * tf.square(gradient))
            change = tf.cast(step_size, mean.dtype) * mean / (tf.sqrt(square) + self._epsilon)
            variable.assign_sub(tf.cast(change, variable.dtype))


def _slot_dtype(variable: tf.Variable) -> tf.DType:
    return tf.float64 if variable.dtype == tf.float64 else tf.float32
