"""Feed-forward blocks of transformers are pruned exactly, in every usual form."""

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from tests.support.models import relative_difference
from tests.support.random_graphs import plant_copies, randomize

layers = keras.layers
ops = keras.ops
Dense = layers.Dense

WIDTH, HIDDEN, LENGTH, TOKENS = 8, 12, 6, 11


def plain(x, name):
    return Dense(WIDTH)(Dense(HIDDEN, "gelu", name=f"{name}_up")(x))


def operation(x, name):
    hidden = ops.gelu(Dense(HIDDEN, name=f"{name}_up")(x), approximate=False)
    return Dense(WIDTH, use_bias=False)(layers.Dropout(0.1)(hidden))


def gated(x, name):
    gate = Dense(HIDDEN, "silu", use_bias=False, name=f"{name}_up")(x)
    return Dense(WIDTH, use_bias=False)(gate * Dense(HIDDEN, use_bias=False)(x))


def gated_by_layers(x, name):
    up, gate = Dense(HIDDEN, name=f"{name}_up")(x), Dense(HIDDEN)(x)
    return Dense(WIDTH)(layers.Multiply()([layers.Activation("gelu")(gate), up]))


def einsum(x, name):
    up = layers.EinsumDense(
        "abc,cd->abd", (LENGTH, HIDDEN), "gelu", bias_axes="d", name=f"{name}_up"
    )
    return layers.EinsumDense("abd,dc->abc", (LENGTH, WIDTH), bias_axes="c")(up(x))


def gated_einsum(x, name):
    up = layers.EinsumDense("...x,xy->...y", HIDDEN, name=f"{name}_up")
    gate = ops.gelu(layers.EinsumDense("...x,xy->...y", HIDDEN)(x), approximate=True)
    return layers.EinsumDense("...x,xy->...y", WIDTH)(gate * up(x))


def pointwise(x, name):
    return layers.Conv1D(WIDTH, 1)(
        layers.Conv1D(HIDDEN, 1, activation="relu", name=f"{name}_up")(x)
    )


FORMS = (plain, operation, gated, gated_by_layers, einsum, gated_einsum, pointwise)
MEMBERS = {gated: 2, gated_by_layers: 2, gated_einsum: 2}


def transformer(form, norm_first):
    """Build two blocks of masked self-attention and a feed-forward part, and a head."""
    tokens = keras.Input((LENGTH,), dtype="int32")
    x = layers.Embedding(TOKENS, WIDTH, mask_zero=True, name="words")(tokens)
    for number in range(2):
        attend = layers.MultiHeadAttention(2, 4, name=f"attend{number}")
        if norm_first:
            normal = layers.LayerNormalization()(x)
            x = layers.Add()([x, attend(normal, normal, use_causal_mask=True)])
            x = x + form(layers.LayerNormalization()(x), f"block{number}")
        else:
            x = layers.LayerNormalization()(x + attend(x, x))
            x = layers.LayerNormalization()(layers.Add()([x, form(x, f"block{number}")]))
    return keras.Model(tokens, Dense(3, name="head")(layers.GlobalAveragePooling1D()(x)))


def check_planted(model, tokens):
    """Check that planted copies are removed exactly; return the plan and the pruned model."""
    randomize(model, np.random.default_rng(0))
    groups = plant_copies(model)
    before = np.asarray(model(tokens))
    plan = dfprune.plan(model, tolerance=0)
    assert [group.layer for group in plan.groups] == groups
    assert all(len(group.removed) == 1 for group in plan.groups)
    pruned = plan.apply(model)
    assert pruned.count_params() == plan.parameters[1]
    assert relative_difference(np.asarray(pruned(tokens)), before) <= 1e-5
    return plan, pruned


@pytest.fixture
def tokens():
    return np.random.default_rng(1).integers(0, TOKENS, (4, LENGTH))


@pytest.mark.parametrize("form", FORMS)
def test_planted_copies_in_feed_forward_blocks_are_removed_exactly(form, tokens):
    norm_first = FORMS.index(form) % 2 == 0
    plan, pruned = check_planted(transformer(form, norm_first), tokens)
    groups = [group for group in plan.groups if group.kind == "units"]
    for number, group in enumerate(groups):
        assert f"block{number}_up" in group.layers
    assert {len(group.layers) for group in groups} == {MEMBERS.get(form, 1)}
    assert [group.layer for group in plan.groups if group not in groups] == [
        f"attend{number}/{kind}" for number in range(2) for kind in ("query_key", "value")
    ]
    assert {type(layer).__module__.split(".")[0] for layer in pruned.layers} == {"keras"}


def test_the_residual_width_stays_whole_with_the_reason():
    model = transformer(gated, norm_first=True)
    refusals = dfprune.plan(model, sparsity=0.5).refusals
    reasons = {refusal.layer: refusal.reason for refusal in refusals}
    assert reasons["words"].endswith("LayerNormalization), which mixes all units of its input")
    down = [reason for name, reason in reasons.items() if name.startswith("dense")]
    assert len(down) == 2  # the second projection of each block
    for reason in down:
        assert reason.endswith(
            "(Add), which joins the units, one by one, with a tensor that keeps its width, as a "
            "residual connection does"
        )
    assert len(reasons) == 4  # also the embedding and the head


def test_heads_written_by_hand_stay_whole_with_the_reason():
    inputs = keras.Input((LENGTH, WIDTH))
    query = layers.EinsumDense("abc,cde->abde", (LENGTH, 2, 4), bias_axes="de", name="query")
    value = layers.EinsumDense("abc,cde->abde", (LENGTH, 2, 4), name="value")
    out = layers.EinsumDense("abcd,cde->abe", (LENGTH, WIDTH), bias_axes="e", name="out")
    q = query(inputs)
    scores = ops.softmax(ops.einsum("aecd,abcd->acbe", q, q))
    x = inputs + out(ops.einsum("acbe,aecd->abcd", scores, value(inputs)))
    model = keras.Model(inputs, Dense(3)(plain(x, "block")))
    plan = dfprune.plan(model, sparsity=0.5)
    assert plan.groups[0].layer == "block_up"
    reasons = {refusal.layer: refusal.reason for refusal in plan.refusals}
    for name in ("query", "value", "out"):
        assert "of several axes, as of attention heads written by hand" in reasons[name]


class Block(layers.Layer):
    """Causal attention with an explicit mask, then a gated feed-forward part."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.attend = layers.MultiHeadAttention(2, 4, dropout=0.1, name="attend")
        self.norms = [layers.LayerNormalization(name=f"norm{number}") for number in range(2)]
        self.gate, self.up = Dense(HIDDEN, name="gate"), Dense(HIDDEN, name="up")
        self.down, self.drop = Dense(WIDTH, name="down"), layers.Dropout(0.1)

    def call(self, x, training=None):
        batch, length, _ = ops.shape(x)
        positions = ops.arange(length)
        causal = ops.broadcast_to(positions[:, None] >= positions, (batch, length, length))
        x = x + self.attend(x, x, attention_mask=causal, training=training)
        hidden = self.norms[0](x)
        hidden = ops.silu(self.gate(hidden)) * self.up(hidden)
        return self.norms[1](x + self.drop(self.down(hidden), training=training))


class Decoder(keras.Model):
    def __init__(self):
        super().__init__(name="decoder")
        self.words = layers.Embedding(TOKENS, WIDTH)
        self.positions = layers.Embedding(LENGTH, WIDTH)
        self.blocks = [Block(name=f"block{number}") for number in range(2)]
        self.head = Dense(TOKENS, name="head")

    def call(self, tokens, training=None):
        x = self.words(tokens) + self.positions(ops.arange(LENGTH))
        for block in self.blocks:
            x = block(x, training=training)
        return self.head(x)


def test_subclassed_decoders_are_opened_and_pruned(tokens, tmp_path):
    model = Decoder()
    model(tokens)
    randomize(model, np.random.default_rng(2))
    expected = np.asarray(model(tokens))
    functional = dfprune.functionalize(model, keras.Input((LENGTH,), dtype="int32"))
    assert relative_difference(np.asarray(functional(tokens)), expected) < 1e-6
    for rows in (1, 3):  # the mask doesn't keep the size of the batch that it was made with
        np.testing.assert_allclose(functional(tokens[:rows]), expected[:rows], rtol=1e-4, atol=1e-5)
    # The position embedding has constant inputs, but stays a layer with weights.
    assert sum(isinstance(layer, layers.Embedding) for layer in functional.layers) == 2
    plan, pruned = check_planted(functional, tokens)
    assert [group.layers for group in plan.groups if group.kind == "units"] == [
        (f"block{number}_gate", f"block{number}_up") for number in range(2)
    ]
    pruned.save(tmp_path / "pruned.keras")
    loaded = keras.saving.load_model(tmp_path / "pruned.keras")
    np.testing.assert_array_equal(loaded(tokens), pruned(tokens))
