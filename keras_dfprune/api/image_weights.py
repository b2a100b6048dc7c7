"""Read the weight-sets of layers that take the model's input, if that is an image."""

import math

import keras
import numpy as np

from keras_dfprune.locate.groups import Layout, ProducerFeatures
from keras_dfprune.locate.locate import LocatedModel

_CHANNELS = (1, 3)  # what can be shown as grey or as colors


def image_weights(located: LocatedModel) -> dict[str, np.ndarray]:
    """Return the weight-sets of all groups that read an image.

    Args:
        located: The model with its groups.

    Returns:
        Float arrays by group name, shape `(units, height, width, channels)`, with 1 or 3 channels.
    """
    shapes = {tensor.name: tuple(tensor.shape[1:]) for tensor in located.graph.inputs}
    weights = {}
    for name, group in located.layout.groups.items():
        first = group.producers[0]
        if first.path in located.layout.origins and len(first.outputs.pieces) == 1:
            found = _weights(first, shapes, located.layout)
            if found is not None and len(found) == group.units:
                weights[name] = found
    return weights


def _weights(
    producer: ProducerFeatures, shapes: dict[str, tuple[int | None, ...]], layout: Layout
) -> np.ndarray | None:
    """Return the weights of a Dense layer or convolution on an image, or None."""
    layer, shape = producer.call.operation, shapes[layout.origins[producer.path]]
    shape = (*shape, 1) if len(shape) == 2 else shape
    if len(shape) != 3 or None in shape or shape[-1] not in _CHANNELS:
        return None
    if isinstance(layer, keras.layers.Dense) and layer.kernel.shape[0] == math.prod(
        filter(None, shape)
    ):
        return np.array(layer.kernel).T.reshape(-1, *shape)
    if isinstance(layer, keras.layers.Conv2D) and layer.kernel.shape[2] == shape[-1]:
        return np.moveaxis(np.array(layer.kernel), -1, 0)
    return None
