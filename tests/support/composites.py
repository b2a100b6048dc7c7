"""Provide composite layers and subclassed models to make functional."""

import warnings

import keras
import numpy as np

import keras_dfprune as dfprune
from keras_dfprune.graph.keras_private import all_layers

layers = keras.layers
Dense = layers.Dense


class FeedForward(layers.Layer):
    """Dense, normalization and dropout, with `training` passed on by name."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.first, self.last = Dense(8, "relu", name="first"), Dense(units, name="last")
        self.normalize = layers.BatchNormalization(name="normalize")
        self.drop = layers.Dropout(0.4, name="drop")

    def call(self, x, training=False):
        hidden = self.normalize(self.first(x), training=training)
        return self.last(self.drop(hidden, training=training))


class Block(layers.Layer):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.attend = layers.MultiHeadAttention(2, 3, name="attend")
        self.before, self.inner = layers.LayerNormalization(), FeedForward(units, name="inner")

    def call(self, x):
        normal = self.before(x)
        x = x + self.attend(normal, normal)
        return x + self.inner(x)


class Transformer(keras.Model):
    """Model with two blocks, masked tokens, and Python code with side effects."""

    def __init__(self):
        super().__init__(name="transformer")
        self.embed = layers.Embedding(9, 6, mask_zero=True)
        self.blocks = [Block(6, name=f"block{number}") for number in range(2)]
        self.pool, self.head = layers.GlobalAveragePooling1D(), Dense(3, name="head")
        self.seen = []

    def call(self, tokens, scale=2.0, training=None):
        self.seen.append(len(self.seen))
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x, training=training)
        return {"scores": self.head(self.pool(x)) * scale}


class Wrapped(keras.Model):
    """Model that computes one function."""

    def __init__(self, function, **parts):
        super().__init__(name="wrapped")
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def call(self, inputs, training=None):  # else Keras runs it as at inference
        return self.function(self, inputs)


def built(model, *shapes):
    """Call a model once, give it random weights, and return it."""
    keras.utils.set_random_seed(0)
    x = [np.random.default_rng(1).normal(size=(4, *shape)).astype("float32") for shape in shapes]
    model(x[0] if len(x) == 1 else x)
    randomize(model)
    return model


def randomize(model):
    random = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(np.abs(random.normal(0.5, 0.3, weight.shape)))


def transformer():
    model = Transformer()
    model(np.ones((2, 5), "int32"))
    randomize(model)
    return model


def functionalize_silently(model, inputs):
    """Make a model functional; a warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*does not support masking")
        return dfprune.functionalize(model, inputs)


def history(model):
    """Return what `functionalize` must leave as it is: call histories and attributes."""
    return [
        (len(part._inbound_nodes), len(part._outbound_nodes), set(vars(part)))
        for part in all_layers(model)
    ]
