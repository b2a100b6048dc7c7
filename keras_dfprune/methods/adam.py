"""Move variables down their gradients with Adam (Kingma & Ba 2015)."""

from collections.abc import Sequence

import tensorflow as tf

_NEW_GRADIENT = 0.1  # 1 - beta_1


class Adam:
    """Adam with its state, and without the names and schedules that Keras's optimizer adds.

    Args:
        variables: One or more variables of the same dtype, moved in place.
        new_square: Weight of a new squared gradient in the running mean of squares,
            `1 - beta_2`.
        epsilon: Positive float, added to the square root of that mean.
    """

    def __init__(
        self, variables: Sequence[tf.Variable], new_square: float = 0.001, epsilon: float = 1e-7
    ) -> None:
        self._variables = variables
        self._new_square, self._epsilon = new_square, epsilon
        self._means = [tf.Variable(tf.zeros_like(variable)) for variable in variables]
        self._squares = [tf.Variable(tf.zeros_like(variable)) for variable in variables]
        self._steps = tf.Variable(0.0, dtype=variables[0].dtype)

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
        self._steps.assign_add(1.0)
        correction = tf.sqrt(1.0 - old_square**self._steps) / (1.0 - old_gradient**self._steps)
        slots = zip(self._variables, gradients, self._means, self._squares, strict=True)
        for variable, gradient, mean, square in slots:
            mean.assign(old_gradient * mean + _NEW_GRADIENT * gradient)
            square.assign(old_square * square + self._new_square * tf.square(gradient))
            variable.assign_sub(rate * correction * mean / (tf.sqrt(square) + self._epsilon))
