"""Take layers apart that are several others in a row, so that no rule has to know them.

A SeparableConv is a depthwise convolution and a convolution of one position. The parts are layers
that hold the variables of the whole layer.
"""

from typing import Any

import keras

from keras_dfprune.graph.keras_private import hold_variables
from keras_dfprune.graph.recreate import read_config

DEPTHWISE = "/depthwise"
# Of a whole layer: the types of its depthwise part and of its last part.
PART_TYPES: dict[type, tuple[type, type]] = {
    keras.layers.SeparableConv1D: (keras.layers.DepthwiseConv1D, keras.layers.Conv1D),
    keras.layers.SeparableConv2D: (keras.layers.DepthwiseConv2D, keras.layers.Conv2D),
}


def parts_of(layer: keras.Operation) -> dict[str, keras.Operation]:
    """Take a layer apart.

    Args:
        layer: A layer or operation.

    Returns:
        The parts, in the order in which they run, each by what its path has behind the layer's.
        The last part has the layer's own path. `{"": layer}` for all layers that have no parts.
    """
    if type(layer) not in PART_TYPES:
        return {"": layer}
    depthwise_type, pointwise_type = PART_TYPES[type(layer)]
    common = {
        "data_format": layer.data_format,
        "trainable": layer.trainable,
        "dtype": layer.dtype_policy,
        "name": layer.name,
    }
    depthwise = depthwise_type(
        layer.kernel_size,
        layer.strides,
        layer.padding,
        depth_multiplier=layer.depth_multiplier,
        dilation_rate=layer.dilation_rate,
        use_bias=False,
        **common,
    )
    pointwise = pointwise_type(
        layer.filters, 1, use_bias=layer.use_bias, activation=layer.activation, **common
    )
    if layer.built:
        hold_variables(depthwise, kernel=layer.depthwise_kernel, bias=None)
        hold_variables(pointwise, kernel=layer.pointwise_kernel, bias=layer.bias)
    return {DEPTHWISE: depthwise, "": pointwise}


def whole_config(layer: keras.Layer, config: dict[str, Any]) -> dict[str, Any]:
    """Return the config of a layer whose last part has another config.

    Args:
        layer: The layer.
        config: The config that its last part is to have.
    """
    if type(layer) not in PART_TYPES:
        return config
    return {**read_config(layer), **{key: config[key] for key in ("filters", "use_bias")}}
