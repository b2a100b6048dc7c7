"""Read what a model knows of its training data: the statistics of its normalizations."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from keras_dfprune.graph.calls import Call, Graph, Tensor
from keras_dfprune.rules.layer_state import as_array


@dataclasses.dataclass(frozen=True, eq=False)
class Statistics:
    """Statistics of the input of a BatchNormalization over the training data.

    Attributes:
        tensor: The input.
        axis: Axis of its channels.
        channels: Indices of the channels with usable statistics.
        mean, std: Their measured mean and standard deviation, float32.
        scale: The deviation with the layer's epsilon, which bounds how much it can enlarge.
    """

    tensor: Tensor
    axis: int
    channels: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    scale: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Units:
    """Units in which an input is moved.

    Attributes:
        mean, std: Arrays that broadcast to a row of the input.
    """

    mean: np.ndarray
    std: np.ndarray


def squared_difference(value: tf.Tensor, target: Statistics) -> tf.Tensor:
    """Return the squared differences of mean and deviation, averaged over channels.

    Args:
        value: Rows of `target.tensor`.
        target: The measured statistics. The differences are in units of `target.scale`.
    """
    value = tf.cast(value, tf.float32)
    others = [axis for axis in range(len(value.shape)) if axis != target.axis]
    mean, variance = (tf.gather(m, target.channels) for m in tf.nn.moments(value, others))
    std = tf.sqrt(variance + 1e-8 * target.scale**2)  # the root has no gradient at 0
    squares = tf.square(mean - target.mean) + tf.square(std - target.std)
    return tf.reduce_mean(squares / target.scale**2)


def find_statistics(graph: Graph) -> list[Statistics]:
    """Return the statistics of each call of a BatchNormalization at inference that has any."""
    targets = [
        _statistics(call)
        for call in graph.calls
        if type(call.operation) is keras.layers.BatchNormalization and not call.training
    ]
    return [target for target in targets if len(target.channels)]


def _statistics(call: Call) -> Statistics:
    layer, tensor = call.operation, call.inputs[0]
    mean, variance = (as_array(v) for v in (layer.moving_mean, layer.moving_variance))
    usable = np.flatnonzero(np.isfinite(mean) & np.isfinite(variance) & (variance > 0))
    mean, variance = mean[usable].astype(np.float32), variance[usable].astype(np.float32)
    return Statistics(
        tensor=tensor,
        axis=layer.axis % len(tensor.shape),
        channels=usable,
        mean=mean,
        std=np.sqrt(variance),
        scale=np.sqrt(variance + layer.epsilon),
    )


def units_of_input(graph: Graph, tensor: Tensor) -> Units:
    """Return the mean and deviation that a `Normalization` directly behind an input removes."""
    same = {tensor}
    for call in graph.calls:
        if not same.intersection(call.inputs):
            continue
        layer = call.operation
        if isinstance(layer, keras.layers.InputLayer):  # of a nested model
            same.update(call.outputs)
        elif type(layer) is keras.layers.Normalization and not layer.invert:
            mean, variance = (np.asarray(v, np.float32) for v in (layer.mean, layer.variance))
            if np.isfinite(mean).all() and np.isfinite(variance).all():
                return Units(mean, np.sqrt(np.maximum(variance, 1e-12)))
    return Units(np.zeros(1, np.float32), np.ones(1, np.float32))
