"""Layers that can't be pruned are left whole with the reason, and the rest is pruned."""

import re

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from tests.support import kinds, kinds_refused, kinds_refused_by_consumers
from tests.support.kinds_refused import in_front_of
from tests.support.kinds_refused_by_consumers import MyDense, Square

layers = keras.layers
Dense = layers.Dense
ROWS = kinds_refused.ROWS | kinds_refused_by_consumers.ROWS
RANDOM = {name for name in ROWS if name.endswith("in_training")}
NOT_FINITE = {name for name in ROWS if "not_finite" in name}


@pytest.mark.parametrize("name", ROWS)
def test_layer_is_refused_with_the_reason_and_the_rest_is_pruned(name):
    row = ROWS[name]
    model = kinds.prepare(row.build)
    plan = dfprune.plan(model, tolerance=0)
    reasons = {refusal.layer: refusal.reason for refusal in plan.refusals}
    assert re.search(row.reason, reasons[row.layer]), reasons[row.layer]
    removed = {group.layer: len(group.removed) for group in plan.groups}
    assert row.layer not in removed
    # A layer whose weights can't be read can't absorb the units in front of it either.
    assert removed["copy3" if name in ("int8_layer", "not_finite") else "copy1"] == 1
    assert removed == {path: kinds.planted(path) for path in removed}
    pruned = plan.apply(model)
    before, after = (net.get_layer(row.layer).weights for net in (model, pruned))
    assert before
    assert [weight.shape[-1] for weight in after] == [weight.shape[-1] for weight in before]
    if name not in RANDOM | NOT_FINITE:
        x = kinds.draw(model)
        kinds.assert_agree(kinds.run(pruned, x), kinds.run(model, x), 1e-5)


def test_tables_that_units_point_into_are_compared_as_a_whole():
    """Nine tokens follow eight units: columns that differ for the last token only are no copies."""
    model = in_front_of(layers.Embedding(9, 4, name="table"), layers.Flatten(), Dense(3))
    table = model.get_layer("table").embeddings
    values = np.random.default_rng(0).normal(size=(9, 4))
    values[:8, 3] = values[:8, 1]
    table.assign(values)
    removed = {group.layer: len(group.removed) for group in dfprune.plan(model, tolerance=0).groups}
    assert removed["table"] == 0
    values[8, 3] = values[8, 1]
    table.assign(values)
    removed = {group.layer: group.removed for group in dfprune.plan(model, tolerance=0).groups}
    assert removed["table"].tolist() == [1]


def test_layers_with_kernels_that_no_rule_covers_are_listed_too():
    inputs = keras.Input((4, 4, 6))
    hidden = layers.LayerNormalization()(Square(name="mine")(inputs))
    hidden = layers.ConvLSTM1D(3, 2, name="memory")(hidden)
    outputs = layers.SpectralNormalization(Dense(3), name="wrapped")(layers.Flatten()(hidden))
    plan = dfprune.plan(keras.Model(inputs, Dense(2, name="last")(outputs)), verify=False)
    reasons = {refusal.layer: refusal.reason for refusal in plan.refusals}
    assert list(reasons) == ["mine", "memory", "wrapped", "last"]
    assert reasons["mine"].startswith("it is a custom layer that no rule covers")
    assert reasons["memory"].startswith("it has weights of its own for each unit")
    assert reasons["wrapped"] == "it rescales the whole kernel of the layer that it wraps"


def test_naming_a_refused_layer_warns():
    model = kinds.prepare(ROWS["layer_normalization"].build)
    with pytest.warns(UserWarning, match="whole: it feeds layer_normalization"):
        dfprune.plan(model, sparsity={"whole": 0.5, "copy1": 0.5})


def test_dense_subclass_is_no_producer():
    model = kinds.prepare(lambda: in_front_of(Dense(5), MyDense(8, "relu", name="mine"), Dense(3)))
    plan = dfprune.plan(model, sparsity=0.5)
    assert "mine" not in {group.layer for group in plan.groups}
    assert plan.apply(model).get_layer("mine").units == 8
