"""Faults planted into ownership, constraints and states: the tests of each notice them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_dfprune as dfprune
from keras_dfprune.graph.ownership import Ownership
from keras_dfprune.locate import constraints, follow_units, locate
from tests.locate import test_constraints, test_ownership


def test_forgotten_owners_are_noticed(monkeypatch):
    model = test_ownership.tied_by_einsum()
    refused = {refusal.layer for refusal in dfprune.plan(model, sparsity=0.5).refusals}
    assert "owner" in refused
    monkeypatch.setattr(follow_units, "read_ownership", lambda graph: Ownership({}, frozenset()))
    with pytest.raises(tf.errors.InvalidArgumentError, match="Matrix size-incompatible"):
        dfprune.apply(model, sparsity=0.5)


@pytest.mark.parametrize("where", ["producer kernel", "consumer kernel"])
def test_forgotten_constraints_are_noticed(monkeypatch, where):
    model = test_constraints.net(where, keras.constraints.UnitNorm(axis=1))
    monkeypatch.setattr(locate, "check_constraints", lambda *arguments: None)
    pruned = dfprune.apply(model, sparsity=0.5)
    before = test_constraints.trainable_values(pruned)
    test_constraints.step_at_rate_0(pruned)
    after = test_constraints.trainable_values(pruned)
    assert max(np.abs(new - old).max() for old, new in zip(before, after, strict=True)) > 1e-3


def test_a_constraint_that_is_never_satisfied_refuses_nothing(monkeypatch):
    model = test_constraints.net("consumer kernel", keras.constraints.MaxNorm(0.5))
    assert not dfprune.plan(model, sparsity=0.5, layers=["units"]).groups
    monkeypatch.setattr(constraints, "_is_satisfied", lambda *arguments: False)
    assert dfprune.plan(model, sparsity=0.5, layers=["units"]).groups
