"""Layers that can't be opened stay whole, models raise an error; both give the reason."""

import re

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from keras_dfprune.api.open_composites import is_composite
from tests.support.composites import FeedForward, Wrapped, built, history

layers = keras.layers
ops = keras.ops
Dense = layers.Dense


def test_training_fixed_in_the_code_is_refused():
    """Functional models pass their own `training` to all their layers."""
    model = Wrapped(lambda self, x: self.block(x, training=False), block=FeedForward(3))
    with pytest.raises(ValueError, match="it computes something else in training"):
        dfprune.functionalize(built(model, (6,)), keras.Input((6,)))


class Raw(FeedForward):
    def call(self, x):
        import tensorflow as tf

        return self.last(tf.nn.relu(self.first(x)))


class OnlyInTraining(FeedForward):
    def call(self, x, training=None):
        hidden = self.first(x)
        return self.last(ops.tanh(hidden) if training else hidden)


class Tied(FeedForward):
    """Block that reads the kernel of its first layer outside of that layer."""

    def call(self, x):
        return ops.matmul(self.first(x), ops.transpose(self.first.kernel))


class OwnWeights(FeedForward):
    def build(self, shape):
        self.scale = self.add_weight(shape=(1,), name="scale")

    def call(self, x):
        return self.last(self.first(x) * self.scale)


class Penalty(FeedForward):
    def call(self, x):
        hidden = self.first(x)
        self.add_loss(ops.mean(ops.square(hidden)))
        return self.last(hidden)


class CountsRows(FeedForward):
    """Block that needs a batch of known size, on which its outputs depend."""

    def call(self, x):
        return self.last(self.first(x)) / ops.cast(ops.shape(x)[0], "float32")


REASONS = {
    CountsRows: "computes something else at inference",
    Raw: "ValueError: A KerasTensor",
    OnlyInTraining: "computes something else in training",
    Tied: "computes something else at inference, once the weights change",
    OwnWeights: r"has weights of its own \(scale\)",
    Penalty: "computes something else at inference|add_loss",
}


@pytest.mark.parametrize("kind", REASONS)
def test_layers_that_can_t_be_opened_stay_whole_with_the_reason(kind):
    model = Wrapped(
        lambda self, x: self.head(self.good(self.bad(x))), bad=kind(6, name="bad"),
        good=FeedForward(6, name="good"), head=Dense(2),
    )  # fmt: skip
    model = built(model, (6,))
    with pytest.warns(UserWarning, match=rf"left whole .*bad \({kind.__name__}\): .*") as seen:
        made = dfprune.functionalize(model, keras.Input((6,)))
    (text,) = [str(warning.message) for warning in seen if "left whole" in str(warning.message)]
    assert re.search(REASONS[kind], text), text
    notes = " ".join(dfprune.plan(model, sparsity=0.5).notes)
    assert re.search(rf"bad \({kind.__name__}\) stays closed: .*({REASONS[kind]})", notes), notes
    names = [layer.name for layer in made.layers]
    assert "bad" in names and "good" not in names
    x = np.random.default_rng(0).normal(size=(3, 6)).astype("float32")
    np.testing.assert_allclose(made(x), model(x), rtol=1e-5)


@pytest.mark.parametrize("kind", REASONS)
def test_models_that_do_the_same_are_an_error(kind):
    body = built(Wrapped(lambda self, x: self.part(x), part=kind(6)), (6,))

    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            for name in ("first", "last", "normalize", "drop"):
                setattr(self, name, getattr(body.part, name))
            if kind is OwnWeights:
                self.scale = self.add_weight(shape=(1,), name="scale")

        call = kind.call

    model = Model()
    model(np.ones((2, 6), "float32"))
    nodes = history(model)
    with pytest.raises(ValueError, match=f"can't be made functional: .*({REASONS[kind]})"):
        dfprune.functionalize(model, keras.Input((6,)))
    assert history(model) == nodes


def test_bad_arguments():
    model = Wrapped(lambda self, x: self.head(x), head=Dense(2))
    with pytest.raises(ValueError, match="'wrapped' isn't built yet"):
        dfprune.functionalize(model, keras.Input((6,)))
    built(model, (6,))
    with pytest.raises(TypeError, match=r"`inputs` must be what the model is called with.*6"):
        dfprune.functionalize(model, (6,))
    with pytest.raises(TypeError, match="Expected a `keras.Model`"):
        dfprune.functionalize(model.head, keras.Input((6,)))
    with pytest.raises(ValueError, match="can't be made functional"):
        dfprune.functionalize(model, keras.Input((5,)))
    assert is_composite(FeedForward(3)) and not is_composite(layers.MultiHeadAttention(2, 3))
