"""Units of recurrent layers: copies go exactly, and what only looks like one stays."""

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from keras_dfprune.graph.read_graph import read_graph
from keras_dfprune.inputs.model_inputs import adapt_samples, run_model
from keras_dfprune.inputs.sample_inputs import draw_samples
from keras_dfprune.inputs.unit_values import unit_values
from keras_dfprune.locate.locate import locate_model
from keras_dfprune.rules.multiply_adds import multiply_adds
from keras_dfprune.rules.recurrent import RecurrentRule
from tests.support import random_graphs

layers = keras.layers


def stack(*steps, shape=(4, 5), batch=None):
    """Build a model of layers that each take one tensor, with random weights."""
    keras.utils.set_random_seed(0)
    hidden = inputs = keras.Input(shape, batch_size=batch)
    for step in steps:
        hidden = step(hidden)
    model = keras.Model(inputs, hidden)
    random_graphs.randomize(model, np.random.default_rng(0))
    return model


def translator():
    """Build masked tokens, two bidirectional layers, self-attention and a head for each step."""
    attend = layers.MultiHeadAttention(2, 3)
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5,), dtype="int32")
    hidden = layers.Embedding(7, 6, mask_zero=True)(inputs)
    hidden = layers.Bidirectional(layers.LSTM(6, return_sequences=True))(hidden)
    hidden = layers.Bidirectional(layers.LSTM(5, return_sequences=True), "ave")(hidden)
    hidden = layers.TimeDistributed(layers.Dense(3))(attend(hidden, hidden))
    model = keras.Model(inputs, hidden)
    random_graphs.randomize(model, np.random.default_rng(0))
    return model


def residual():
    """Build a residual connection around a layer, with an activation behind it."""

    def block(hidden):
        branch = layers.LSTM(6, return_sequences=True)(hidden)
        return layers.ReLU()(layers.Add()([hidden, branch]))

    return stack(layers.GRU(6, return_sequences=True), block, layers.Dense(3))


def states():
    """Build a layer whose sequence and states are all read."""

    def read(hidden):
        sequence, *last = layers.LSTM(6, return_sequences=True, return_state=True)(hidden)
        return layers.Concatenate()([layers.Flatten()(sequence), *last])

    return stack(read, layers.Dense(3))


def both_directions():
    def read(hidden):
        layer = layers.Bidirectional(layers.GRU(6, return_state=True), merge_mode=None)
        return layers.Concatenate()(layer(hidden))

    return stack(read, layers.Dense(3))


def encoder_and_decoder():
    """Build an encoder, a decoder that starts from its states, and one that starts from a Dense."""
    keras.utils.set_random_seed(0)
    source, target = keras.Input((4, 5)), keras.Input((3, 4))
    _, *last = layers.LSTM(6, return_state=True)(layers.Dense(6, "relu")(source))
    decoded = layers.LSTM(6, return_sequences=True)(target, initial_state=last)
    start = layers.Dense(5, "tanh")(source[:, 0])
    decoded = layers.GRU(5, return_sequences=True)(decoded, initial_state=layers.ReLU()(start))
    model = keras.Model([source, target], layers.Dense(3)(decoded))
    random_graphs.randomize(model, np.random.default_rng(0))
    return model


MODELS = {
    "encoder and decoder": encoder_and_decoder,
    "translator": translator,
    "residual": residual,
    "states": states,
    "both directions": both_directions,
    "unrolled": lambda: stack(layers.GRU(6, unroll=True, recurrent_dropout=0.2), layers.Dense(3)),
    "normalized": lambda: stack(
        layers.LSTM(6, "sigmoid", "tanh", use_bias=False), layers.BatchNormalization(),
        layers.ReLU(), layers.Dense(3),
    ),
    "a product": lambda: stack(
        layers.Bidirectional(layers.SimpleRNN(6, "relu"), "mul"), layers.Dense(3)
    ),
}  # fmt: skip


def difference(pruned, model, samples):
    received = run_model(pruned, adapt_samples(samples, pruned))
    return max(
        np.abs(received[name] - expected).max() / np.abs(expected).max()
        for name, expected in run_model(model, samples).items()
    )


@pytest.mark.parametrize("name", MODELS)
def test_copies_go_exactly_and_the_wide_twin_agrees(name):
    model = MODELS[name]()
    pruned = dfprune.apply(model, sparsity=0.5, method=random_graphs.Scatter())
    assert pruned.count_params() < model.count_params()
    random_graphs.plant_copies(model)
    plan = dfprune.plan(model, tolerance=0)
    recurrent = [group for group in plan.groups if "embedding" not in group.layer]
    assert recurrent and all(len(group.removed) == 1 for group in recurrent)
    assert difference(plan.apply(model), model, draw_samples(model)) <= 1e-5


@pytest.mark.parametrize("merge_mode", ["concat", "mul"])
def test_multiples_of_a_simple_rnn_go_where_the_factor_passes(merge_mode):
    layer = layers.Bidirectional(
        layers.SimpleRNN(6, "relu", return_sequences=True), merge_mode=merge_mode
    )
    model = stack(layer, layers.Dense(3))
    for variable in layer.weights:
        values = np.array(variable)
        values[..., 1] = 3 * values[..., 0]
        variable.assign(values)
    plan = dfprune.plan(model, tolerance=0)
    assert len(plan.groups[0].removed) == (merge_mode == "concat")
    assert difference(plan.apply(model), model, draw_samples(model)) <= 1e-5


def set_unit(layer, unit, value, biases):
    """Set all incoming weights of a unit, and its biases."""
    for variable in layer.weights:
        values = np.array(variable)
        values[..., unit :: layer.units] = biases if "bias" in variable.path else value
        variable.assign(values)


@pytest.mark.parametrize(
    ("layer", "bias", "removed"),
    [
        (layers.LSTM(6, unit_forget_bias=False), 0.0, 1),
        (layers.GRU(6, reset_after=False), 0.0, 1),
        (layers.GRU(6, "sigmoid"), 0.0, 0),  # The candidate is 1/2.
        (layers.SimpleRNN(6), 0.0, 1),
        (layers.SimpleRNN(6), 0.7, 0),  # 0 at the start, and constant only from then on.
    ],
)
def test_units_that_are_always_0_go_and_other_constants_stay(layer, bias, removed):
    model = stack(layer, layers.Dense(3))
    set_unit(layer, 1, 0.0, bias)
    plan = dfprune.plan(model, tolerance=0)
    assert len(plan.groups[0].removed) == removed
    assert difference(plan.apply(model), model, draw_samples(model)) <= 1e-5


def test_the_state_of_a_stateful_layer_is_cut_and_tells_units_apart():
    first = layers.LSTM(6, stateful=True, return_sequences=True)
    model = stack(first, layers.GRU(5, stateful=True), layers.Dense(3), batch=2)
    random_graphs.plant_copies(model)
    samples = draw_samples(model)
    (x,) = samples.values()
    model(x)
    pruned = dfprune.apply(model, tolerance=0)
    assert pruned.layers[1].units == 5
    assert difference(pruned, model, samples) <= 1e-5
    first.states[1].assign(np.arange(12.0).reshape(2, 6))
    pruned = dfprune.apply(model, tolerance=0)
    assert pruned.layers[1].units == 6 and pruned.layers[2].units == 4
    assert difference(pruned, model, samples) <= 1e-5


def test_own_weights_count_twice():
    model = stack(layers.LSTM(8, return_sequences=True), layers.GRU(6), layers.Dense(3))
    plan = dfprune.plan(model, max_flops=0.4, method="saliency")
    pruned = plan.apply(model)
    narrow = multiply_adds(read_graph(pruned).calls)
    assert narrow <= 0.4 * multiply_adds(read_graph(model).calls)
    assert pruned.count_params() == plan.parameters[1]


@pytest.mark.parametrize(
    ("argument", "words"),
    [("recurrent_constraint", "the constraint NonNeg on its recurrent_kernel"),
     ("kernel_constraint", None)],
)  # fmt: skip
def test_a_constraint_on_what_a_merge_changes_refuses(argument, words):
    layer = layers.GRU(6, **{argument: keras.constraints.NonNeg()})
    plan = dfprune.plan(stack(layer, layers.Dense(3)), sparsity=0.5)
    reasons = [refusal.reason for refusal in plan.refusals if "gru" in refusal.layer]
    assert (words is None and not reasons) or words in reasons[0]


def test_units_stay_where_the_layer_starts_from_a_given_state():
    def given(hidden):
        return layers.GRU(6, name="decoder")(hidden, initial_state=hidden[:, 0])

    plan = dfprune.plan(stack(given, layers.Dense(3), shape=(4, 6)), sparsity=0.5)
    reasons = {refusal.layer: refusal.reason for refusal in plan.refusals}
    assert "starts from a state that is not made of all units" in reasons["decoder"]


@pytest.mark.parametrize(
    "layer",
    [
        layers.LSTM(6, return_sequences=True),
        layers.GRU(6, return_sequences=True, go_backwards=True),
        layers.GRU(6, return_sequences=True, reset_after=False),
        layers.Bidirectional(layers.SimpleRNN(6, return_sequences=True), "sum"),
    ],
)
def test_the_drawn_recurrence_is_that_of_the_layer(layer):
    model = stack(layer)
    x = np.random.default_rng(1).normal(size=(3, 4, 5)).astype("float32")
    rule, expected = RecurrentRule(), np.asarray(model(x))
    if getattr(layer, "go_backwards", False):
        expected = expected[:, ::-1]
    state = rule.read(layer)
    weights, biases = rule.gates(state)
    values = rule.run(layer, state, x @ weights.T + biases)
    np.testing.assert_allclose(values, expected.reshape(values.shape), atol=1e-5)


@pytest.mark.parametrize("wrap", [lambda layer: layer, layers.Bidirectional])
def test_values_of_a_layer_that_returns_its_last_step_are_those_of_all_steps(wrap):
    model, whole = (
        stack(wrap(layers.GRU(6, return_sequences=sequences, name="rnn")), layers.Dense(3))
        for sequences in (False, True)
    )
    whole.set_weights(model.get_weights())
    rows = {model.inputs[0].name: np.random.default_rng(1).normal(size=(3, 4, 5))}
    (values,) = unit_values(locate_model(model), rows).values()
    steps = keras.Model(whole.inputs[0], whole.layers[1].output)(next(iter(rows.values())))
    expected = np.asarray(steps).reshape(12, -1, 6).reshape(-1, 6)
    np.testing.assert_allclose(values[-len(expected) :], expected, atol=1e-5)
    assert len(values) == len(expected) * 5 / 4
