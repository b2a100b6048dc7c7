"""Find where assumptions about the inputs lose touch with a network.

Without rows, the values in front of a layer are only assumed. Errors of the assumption multiply
from layer to layer, until a normalisation brings them back to a known scale.
"""

import keras

from keras_dfprune.graph.calls import Graph, Tensor

# Layers after which the scale of the values is known.
_NORMALIZATIONS = (
    keras.layers.BatchNormalization,
    keras.layers.LayerNormalization,
    keras.layers.RMSNormalization,
    keras.layers.GroupNormalization,
    keras.layers.UnitNormalization,
)
# Kernels in a row through which assumptions were found to hold. A convolution is beyond it at once:
# how its positions are correlated isn't known. Measured: docs/research/measurements.md.
MOST_KERNELS = 3


def why_untied(graph: Graph) -> str | None:
    """Explain why assumptions about the values inside a network can't be trusted.

    Args:
        graph: The calls of a model.

    Returns:
        A clause for a sentence, or None where each layer is near the inputs or a normalisation.
    """
    depths: dict[Tensor, int] = {}
    for call in graph.calls:
        depth = max((depths.get(tensor, 0) for tensor in call.inputs), default=0)
        if isinstance(call.operation, _NORMALIZATIONS):
            depth = 0
        elif _has_kernel(call.operation):
            if depth > MOST_KERNELS:
                return (
                    f"nothing normalises what '{call.path}' gets, which lies behind a convolution "
                    f"or more than {MOST_KERNELS} layers"
                )
            depth += MOST_KERNELS + 1 if _is_convolution(call.operation) else 1
        depths.update(dict.fromkeys(call.outputs, depth))
    return None


def _has_kernel(operation: keras.Operation) -> bool:
    weights = operation.weights if isinstance(operation, keras.Layer) else []
    is_table = isinstance(operation, keras.layers.Embedding)
    return not is_table and any(len(weight.shape) > 1 for weight in weights)


def _is_convolution(operation: keras.Operation) -> bool:
    return any(length > 1 for length in keras.tree.flatten(getattr(operation, "kernel_size", ())))
