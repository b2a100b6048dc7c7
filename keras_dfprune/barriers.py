"""Why a layer without a rule lets no units pass: one clause for each kind of layer."""

import keras

from keras_dfprune.graph import all_layers

_MIXES = "mixes all units of its input"
_RESHAPES = "rearranges units and positions"
_LEARNS = "has weights of its own for each unit that can't be cut yet"

_CLAUSES = {
    "LayerNormalization": _MIXES,
    "RMSNormalization": _MIXES,
    "UnitNormalization": _MIXES,
    "GroupNormalization": _MIXES,
    "Softmax": _MIXES,
    "Masking": "compares all units of its input with a mask value",
    "MultiHeadAttention": _LEARNS,
    "GroupQueryAttention": _LEARNS,
    "Attention": _MIXES,
    "AdditiveAttention": _MIXES,
    "LSTM": _LEARNS,
    "GRU": _LEARNS,
    "SimpleRNN": _LEARNS,
    "Bidirectional": _LEARNS,
    "RNN": _LEARNS,
    "Reshape": _RESHAPES,
    "Permute": _RESHAPES,
    "Transpose": _RESHAPES,
    "GetItem": "takes only a part of the tensor",
    "Dot": _MIXES,
    "Lambda": "runs Python code that can't be seen through; use layers or keras.ops instead",
}


def explain(operation: keras.Operation) -> str:
    """Completes "it feeds x, which ..." for an operation without a rule."""
    kind = type(operation).__name__
    if isinstance(operation, keras.Model):
        return (
            "is a subclassed model whose graph can't be seen; "
            "keras_dfprune.functionalize(model, inputs) opens it"
        )
    if type(operation).__module__.startswith("keras."):
        return _CLAUSES.get(kind, "no rule covers")
    if isinstance(operation, keras.Layer) and len(all_layers(operation)) > 1:
        return (
            "is a custom layer made of others; keras_dfprune.functionalize(model, inputs) opens it"
        )
    return "is a custom layer that no rule covers"
