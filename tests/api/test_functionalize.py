"""Functional models of subclassed models and composite layers compute the same."""

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from tests.support.composites import (
    FeedForward,
    Wrapped,
    built,
    functionalize_silently,
    history,
    randomize,
    transformer,
)
from tests.support.models import relative_difference

layers = keras.layers
ops = keras.ops
Dense = layers.Dense


def state(model):
    return [np.array(variable) for variable in model.variables]


def test_a_transformer_computes_the_same_and_its_inner_layers_are_pruned():
    model = transformer()
    before, nodes = state(model), history(model)
    made = functionalize_silently(model, keras.Input((5,), dtype="int32"))
    tokens = np.random.default_rng(0).integers(0, 9, (6, 5))
    wanted = model(tokens)["scores"]
    assert relative_difference(made(tokens)["scores"].numpy(), wanted.numpy()) < 1e-6
    assert all(type(layer).__module__.startswith("keras.") for layer in made.layers)
    assert made.count_params() == model.count_params()
    assert history(model) == nodes
    for one, other in zip(before, state(model), strict=True):
        np.testing.assert_array_equal(one, other)
    own = {id(variable) for variable in model.variables}
    assert not own & {id(variable) for variable in made.variables}
    plan = dfprune.plan(made, sparsity=0.5)
    assert [group.layer for group in plan.groups] == ["inner_first", "inner_first_1"]
    pruned = plan.apply(made)
    assert pruned.get_layer("inner_first").units == 4


def test_training_is_the_same_step_by_step():
    model = built(Wrapped(lambda self, x: self.block(x), block=FeedForward(3)), (6,))
    made = functionalize_silently(model, keras.Input((6,)))
    x, y = np.random.default_rng(0).normal(size=(2, 12, 6)).astype("float32")
    losses = []
    for trained in (model, made):
        trained.compile(keras.optimizers.SGD(0.1), "mse")
        losses.append([float(trained.train_on_batch(x, y[:, :3])) for _ in range(3)])
    np.testing.assert_allclose(*losses, rtol=1e-5)
    assert np.ptp(losses[0]) > 0
    for name in ("first", "last", "normalize"):
        pair = vars(model.block)[name].get_weights(), made.get_layer(name).get_weights()
        for one, other in zip(*pair, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


class Masking(FeedForward):
    """Passes on the mask of its input, which its own arithmetic loses."""

    def __init__(self, units, **kwargs):
        super().__init__(units, **kwargs)
        self.supports_masking = True

    def call(self, x):
        return self.last(self.first(x) * 1.0) + x


def opened_on_padded_tokens(model):
    """Make a model of four tokens functional, and check its outputs and its block."""
    tokens = np.array([[1, 2, 0, 0], [3, 0, 0, 0]])
    model(tokens)
    randomize(model)
    made = functionalize_silently(model, keras.Input((4,), dtype="int32"))
    assert "first" in [layer.name for layer in made.layers]
    np.testing.assert_allclose(made(tokens), model(tokens), rtol=1e-6)
    return made


def test_masks_that_a_composite_passes_on_are_kept():
    parts = {"embed": layers.Embedding(9, 6, mask_zero=True), "block": Masking(6),
             "drop": layers.Dropout(0.1), "pool": layers.GlobalAveragePooling1D()}  # fmt: skip
    model = Wrapped(lambda self, x: self.pool(self.drop(self.block(self.embed(x)))), **parts)
    made = opened_on_padded_tokens(model)
    assert [len(group.removed) for group in dfprune.plan(made, sparsity=0.5).groups] == [4]


def test_masks_are_kept_for_layers_of_several_tensors():
    parts = {"embed": layers.Embedding(9, 6, mask_zero=True), "block": Masking(6),
             "attend": layers.MultiHeadAttention(2, 3), "head": Dense(2)}  # fmt: skip

    def function(self, tokens):
        x = self.embed(tokens)
        return self.head(self.attend(x, value=self.block(x)))

    opened_on_padded_tokens(Wrapped(function, **parts))


@pytest.mark.parametrize("kind", ["list", "dict", "arrays"])
def test_several_inputs(kind):
    def function(self, inputs):
        a, b = (inputs["a"], inputs["b"]) if isinstance(inputs, dict) else inputs
        return [
            self.head(ops.concatenate([self.one(a), self.two(b)], axis=-1)),
            {"gate": ops.tanh(b)},
        ]

    model = Wrapped(function, one=Dense(5, "relu"), two=Dense(4, "relu"), head=Dense(2))
    a, b = np.random.default_rng(0).normal(size=(2, 3, 6)).astype("float32")
    x = {"a": a, "b": b} if kind == "dict" else [a, b]
    model(x)
    randomize(model)
    symbols = x if kind == "arrays" else keras.tree.map_structure(lambda _: keras.Input((6,)), x)
    made = functionalize_silently(model, symbols)
    received, wanted = made(x), model(x)
    np.testing.assert_allclose(received[0], wanted[0], rtol=1e-6)
    np.testing.assert_allclose(received[1]["gate"], wanted[1]["gate"], rtol=1e-6)


def test_composite_layers_in_functional_and_sequential_models_are_opened():
    inner = keras.Sequential([keras.Input((6,)), FeedForward(6), Dense(4, "relu", name="behind")])
    plain = keras.Sequential([keras.Input((4,)), Dense(4, "relu")], name="plain")
    inputs = keras.Input((6,), name="x")
    model = keras.Model(inputs, Dense(2)(plain(inner(FeedForward(6)(inputs)))))
    randomize(model)
    refused = {one.layer: one.reason for one in dfprune.plan(model, sparsity=0.5).refusals}
    assert not any(name.endswith("first") for name in refused)
    made = functionalize_silently(model, keras.Input((6,), name="x"))
    x = np.random.default_rng(0).normal(size=(3, 6)).astype("float32")
    np.testing.assert_allclose(made(x), model(x), rtol=1e-5)
    assert made.get_layer("plain").layers[0].units == 4  # without composites it stays nested
    assert len(dfprune.plan(made, sparsity=0.5).groups) == 6


def test_shared_composites_share_their_layers():
    block = FeedForward(6)
    model = built(Wrapped(lambda self, x: self.block(self.block(x)), block=block), (6,))
    made = functionalize_silently(model, keras.Input((6,)))
    assert made.count_params() == model.count_params()
    assert len([layer for layer in made.layers if isinstance(layer, Dense)]) == 2


def test_flags_dtypes_and_compile_state_are_kept():
    parts = {"first": Dense(8, "relu", dtype="mixed_bfloat16"), "block": FeedForward(3)}
    model = built(Wrapped(lambda self, x: self.block(self.first(x)), **parts), (6,))
    model.first.trainable = False
    model.compile("adam", "mse")
    model.train_on_batch(np.ones((2, 6)), np.ones((2, 3)))
    made = functionalize_silently(model, keras.Input((6,)))
    kept = made.get_layer(model.first.name)
    assert kept.compute_dtype == "bfloat16" and not kept.trainable
    assert len(made.trainable_variables) == len(model.trainable_variables)
    assert int(made.optimizer.iterations) == 1
    made.train_on_batch(np.ones((2, 6)), np.ones((2, 3)))


def test_adapted_state_is_copied():
    normalization = layers.Normalization()
    normalization.adapt(np.random.default_rng(0).normal(3, 2, (50, 6)))
    model = Wrapped(lambda self, x: self.head(self.scale(x)), scale=normalization, head=Dense(2))
    x = np.random.default_rng(1).normal(size=(3, 6)).astype("float32")
    model(x)
    np.testing.assert_allclose(functionalize_silently(model, x)(x), model(x), rtol=1e-6)


class MoreConfig(layers.Layer):
    """Layer whose config has an entry that its constructor doesn't take."""

    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def build(self, shape):
        self.shift = self.add_weight(shape=(shape[-1],))

    def call(self, x):
        return self.factor * x + self.shift

    def get_config(self):
        return {**super().get_config(), "factor": self.factor, "half": self.factor / 2}


def test_a_config_may_hold_more_than_the_constructor_takes():
    parts = {"more": MoreConfig(3.0), "head": Dense(2)}
    model = built(Wrapped(lambda self, x: self.head(self.more(x)), **parts), (6,))
    made = functionalize_silently(model, keras.Input((6,)))
    assert made.layers[1].shift is not model.more.shift
    assert made.layers[1].factor == 3.0


def test_the_result_is_saved_without_this_package(tmp_path):
    model = transformer()
    made = functionalize_silently(model, keras.Input((5,), dtype="int32"))
    made.save(tmp_path / "made.keras")
    loaded = keras.saving.load_model(tmp_path / "made.keras")
    tokens = np.random.default_rng(0).integers(0, 9, (6, 5))
    np.testing.assert_allclose(loaded(tokens)["scores"], made(tokens)["scores"], rtol=1e-6)
