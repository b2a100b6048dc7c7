"""Explain why units can't pass a layer without a rule: one clause for each type of layer."""

import keras

from keras_dfprune.graph.keras_private import all_layers, is_preprocessing, is_stock

_MIXES = "mixes all units of its input"
_RESHAPES = "rearranges units and positions"
_LEARNS = "has weights of its own for each unit that can't be cut yet"

_UNKNOWN = "no rule covers"
_STEP = "is one step of a recurrent layer"
_FOREIGN = "runs a model of another library, which can't be analyzed"

_CLAUSES = {
    "LayerNormalization": _MIXES,
    "RMSNormalization": _MIXES,
    "UnitNormalization": _MIXES,
    "GroupNormalization": _MIXES,
    "Softmax": _MIXES,
    "SpectralNormalization": "rescales the whole kernel of the layer that it wraps",
    "Masking": "compares all units of its input with a mask value",
    "GroupedQueryAttention": "has one head_dim for queries, keys and values alike",
    "Attention": _MIXES,
    "AdditiveAttention": _MIXES,
    "RNN": _LEARNS,
    "ConvLSTM1D": _LEARNS,
    "ConvLSTM2D": _LEARNS,
    "ConvLSTM3D": _LEARNS,
    "LSTMCell": _STEP,
    "GRUCell": _STEP,
    "SimpleRNNCell": _STEP,
    "StackedRNNCells": _STEP,
    "ReversibleEmbedding": "uses its table in both directions",
    "JaxLayer": _FOREIGN,
    "FlaxLayer": _FOREIGN,
    "TorchModuleWrapper": _FOREIGN,
    "TFSMLayer": _FOREIGN,
    "Reshape": _RESHAPES,
    "Dot": _MIXES,
    "Lambda": "runs Python code that can't be analyzed; use layers or keras.ops instead",
}


def clause(kind: type) -> str:
    """Return the clause for a Keras class without a rule; it completes "it feeds x, which ..."."""
    if is_preprocessing(kind):
        return "prepares data and which no rule covers"
    return _CLAUSES.get(kind.__name__, _UNKNOWN)


def explain(operation: keras.Operation) -> str:
    """Return the clause for an operation without a rule; it completes "it feeds x, which ..."."""
    if isinstance(operation, keras.Model):
        return "is a subclassed model whose graph can't be seen"
    if is_stock(operation):
        return clause(type(operation))
    if isinstance(operation, keras.Layer) and len(all_layers(operation)) > 1:
        return "is a custom layer made of other layers, which can't be seen"
    return "is a custom layer that no rule covers; keras_dfprune.register_rule(rule) adds one"


def why_whole(operation: keras.Operation) -> str | None:
    """Return why an operation without a rule isn't pruned; None if it has no kernel to cut."""
    kernels = operation.weights if isinstance(operation, keras.Layer) else ()
    prepares = is_preprocessing(type(operation))
    if prepares or all(len(kernel.shape) < 2 for kernel in kernels):
        return None
    reason = explain(operation)
    return "no rule covers it" if reason == _UNKNOWN else f"it {reason}"
