"""Heads of attention layers get fewer dimensions, exactly where these count for nothing."""

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from keras_dfprune.inputs.model_inputs import adapt_samples, run_model
from keras_dfprune.inputs.sample_inputs import draw_samples
from keras_dfprune.locate.locate import locate_model
from keras_dfprune.surgery.heads import view_heads
from keras_dfprune.surgery.weights import LayerStates
from tests.support.random_graphs import randomize

layers = keras.layers

DIMENSIONS, VALUES = 8, 6


def attend(**arguments):
    return layers.MultiHeadAttention(3, DIMENSIONS, value_dim=VALUES, name="att", **arguments)


def of_itself(normalized=True, **arguments):
    inputs = keras.Input((7, 16))
    hidden = layers.LayerNormalization()(inputs) if normalized else inputs
    hidden = inputs + attend(**arguments)(hidden, hidden, use_causal_mask=True)
    return keras.Model(inputs, layers.Dense(3, name="head")(hidden))


def of_three_inputs():
    query, value, key = keras.Input((5, 10)), keras.Input((7, 16)), keras.Input((7, 12))
    return keras.Model([query, value, key], attend(output_shape=(4, 2))(query, value, key))


def of_padded_tokens(**arguments):
    """Attend with a mask that leaves nothing to attend to in some rows."""
    tokens = keras.Input((6,), dtype="int32")
    hidden = layers.Embedding(9, 16, mask_zero=True)(tokens)
    return keras.Model(tokens, layers.Dense(3)(attend(**arguments)(hidden, hidden)))


def over_several_axes():
    inputs = keras.Input((4, 3, 16))
    return keras.Model(inputs, attend(attention_axes=(1, 2))(inputs, inputs))


def with_scores():
    inputs = keras.Input((5, 16))
    hidden, scores = attend(use_bias=False)(inputs, inputs, return_attention_scores=True)
    return keras.Model(inputs, [layers.Dense(3)(hidden), scores])


def called_twice():
    layer = attend()
    one, two = keras.Input((5, 16)), keras.Input((6, 16))
    return keras.Model([one, two], layer(one, two, attention_mask=None) + layer(one, one))


def in_half_precision():
    inputs = keras.Input((5, 16))
    hidden = attend(dtype="mixed_float16")(inputs, inputs)
    return keras.Model(inputs, layers.Dense(3)(hidden))


FORMS = {
    "of itself": of_itself,
    "without bias": lambda: of_itself(use_bias=False),
    "with dropout": lambda: of_itself(dropout=0.1),
    "not normalized": lambda: of_itself(normalized=False),
    "of three inputs": of_three_inputs,
    "of padded tokens": of_padded_tokens,
    "of padded tokens with dropout": lambda: of_padded_tokens(dropout=0.1),
    "over several axes": over_several_axes,
    "with scores": with_scores,
    "called twice": called_twice,
    "with regularizers": lambda: of_itself(kernel_regularizer="l2", bias_regularizer="l2"),
    "in half precision": in_half_precision,
}


def build(form):
    keras.utils.set_random_seed(0)
    model = FORMS[form]()
    randomize(model, np.random.default_rng(0))
    return model


def plant_zeros(model):
    """Take 3 dimensions from the queries of each head and 2 from its values: subspaces of each."""
    layer, random = model.get_layer("att"), np.random.default_rng(1)
    for dense, lost in ((layer.query_dense, 3), (layer.value_dense, 2)):
        kernel = dense.kernel.numpy()
        shape = (kernel.shape[1], kernel.shape[2], kernel.shape[2] - lost)
        basis = np.linalg.qr(random.normal(size=shape))[0]
        project = basis @ basis.transpose(0, 2, 1)
        dense.kernel.assign(np.einsum("dhk,hkj->dhj", kernel, project))
        # Only where the weights of the values add up to 1, their bias goes into the outputs' bias.
        exact = dense is layer.value_dense and not layer.dropout and layer.attention_axes == (1,)
        if dense.bias is not None and not exact:
            dense.bias.assign(np.einsum("hk,hkj->hj", dense.bias.numpy(), project))


def difference(one, two, samples):
    outputs = [run_model(model, adapt_samples(samples, model)).values() for model in (one, two)]
    pairs = zip(*outputs, strict=True)
    return max(np.abs(a - b).max() / np.abs(b).max() for a, b in pairs)


def samples_of(model):
    samples = draw_samples(model)
    for name, values in samples.items():
        if values.dtype.kind == "i":
            samples[name] = np.where(np.arange(values.shape[1]) < 2, 0, values)  # padding
    return samples


@pytest.mark.parametrize("form", FORMS)
def test_planted_zeros_are_removed_exactly(form):
    model = build(form)
    plant_zeros(model)
    bound = 2e-3 if form == "in half precision" else 1e-5
    for budget in ({"tolerance": 0}, {"sparsity": {"att/query_key": 0.375, "att/value": 0.33}}):
        plan = dfprune.plan(model, **budget)
        removed = {g.layer: len(g.removed) for g in plan.groups if g.kind == "dimensions"}
        assert removed == {"att/query_key": 3, "att/value": 2}
        pruned = plan.apply(model)
        layer = pruned.get_layer("att")
        assert (layer.key_dim, layer.value_dim) == (DIMENSIONS - 3, VALUES - 2)
        assert pruned.count_params() == plan.parameters[1]
        assert difference(pruned, model, samples_of(model)) <= bound


@pytest.mark.parametrize("form", FORMS)
def test_rotated_heads_of_full_size_compute_the_same(form):
    model = build(form)
    located = locate_model(model)
    states = LayerStates(located.layout)
    for group in located.layout.heads.values():
        view = view_heads(group, states, {}, 0)
        into, back = view.weighed.maps(group.units)
        through = np.einsum("hk,hkr,hdr->hd", view.level, into, back)
        state = group.rule.with_maps(
            states[group.path], group.kind, into, back, view.level - through
        )
        states.edit(group.path, state)
    before = run_model(model, samples_of(model))
    for name, variable in group.rule.variables(model.get_layer("att")).items():
        variable.assign(states["att"].variables[name])
    after = run_model(model, samples_of(model))
    for name, values in after.items():
        bound = 2e-3 if form == "in half precision" else 1e-5
        assert np.abs(values - before[name]).max() <= bound * np.abs(before[name]).max()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("sparsity", [0.25, 0.8])
def test_the_wide_twin_agrees(form, sparsity):
    model = build(form)
    plan = dfprune.plan(model, sparsity={"att": sparsity}, seed=1)
    pruned = plan.apply(model)  # raises VerificationError
    assert pruned.count_params() == plan.parameters[1] < plan.parameters[0]
    if "half" not in form:
        assert all(0 < group.predicted_error < 1 for group in plan.groups)


def test_units_in_front_and_heads_are_cut_together():
    inputs = keras.Input((5, 9))
    hidden = layers.Dense(16, "relu", name="front")(inputs)
    hidden = attend(use_bias=False, output_shape=(4,))(hidden, hidden)
    model = keras.Model(inputs, layers.Dense(3)(hidden))
    # A constant unit goes into biases, which the heads don't have before.
    kernel, bias = model.get_layer("front").get_weights()
    kernel[:, 0], bias[0] = 0.0, 1.0
    model.get_layer("front").set_weights([kernel, bias])
    plan = dfprune.plan(model, sparsity={"front": 0.25, "att": 0.5})
    pruned = plan.apply(model)  # compares with the wide twin
    assert pruned.get_layer("att").query_dense.bias.shape == (3, DIMENSIONS // 2)
    assert pruned.count_params() == plan.parameters[1]


def test_attention_from_units_to_a_wider_tensor():
    query, value = keras.Input((5, 9)), keras.Input((7, 16))
    hidden = layers.Dense(10, "relu", name="front")(query)
    model = keras.Model([query, value], attend(output_shape=(4,))(hidden, value))
    plan = dfprune.plan(model, sparsity={"att": 0.5})
    assert [group.layer for group in plan.groups] == ["att/query_key", "att/value"]
    assert plan.apply(model).count_params() == plan.parameters[1]
