"""Tiles shared over the replicas of a distribution strategy: the same plan, bit by bit."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import keras_dfprune as dfprune
from keras_dfprune.methods.saliency import neighbours
from keras_dfprune.methods.saliency.distances import PairDistances, RatioDistances
from keras_dfprune.methods.saliency.neighbours import Neighbours
from tests.support.models import dense_chain, plant_copy
from tests.support.two_workers import planned


def assert_same(one, other):
    for ours, theirs in zip(one.groups, other.groups, strict=True):
        np.testing.assert_array_equal(ours.removed, theirs.removed)
        np.testing.assert_array_equal(ours.survivor, theirs.survivor)
        np.testing.assert_array_equal(ours.saliency, theirs.saliency)
        assert ours.cutoff == theirs.cutoff


@pytest.mark.parametrize(
    ("widths", "activation", "distance"),
    [([34, 6, 3], "relu", "weights"), ([30, 3], "tanh", "ratio")],
)
def test_four_replicas_make_the_same_plan(monkeypatch, strategy, widths, activation, distance):
    """Near-copies are recomputed on the replicas, too; of 34 units the last tile has only 4."""
    assert strategy.num_replicas_in_sync == 4
    monkeypatch.setattr(neighbours, "ROWS", 6)
    monkeypatch.setattr(neighbours, "_TOGETHER", 2)
    replicas, logged = set(), []
    monkeypatch.setattr(tf.get_logger(), "warning", lambda *message: logged.append(message))

    def watched(kind, between):
        def seen(self, *blocks):
            found = between(self, *blocks)
            replicas.add(found.device[-5:])
            return found

        monkeypatch.setattr(kind, "between", seen)

    model = dense_chain(widths, activation, inputs=12)
    layer = model.get_layer("fc1")
    plant_copy(layer, 3, 20)
    for unit in range(21, 27):
        plant_copy(layer, 4, unit, scale=1 + 1e-5 * unit)
    method = dfprune.Saliency(distance=distance)
    alone = dfprune.plan(model, sparsity=0.6, method=method)
    for kind in (PairDistances, RatioDistances):
        watched(kind, kind.between)
    shared = dfprune.plan(model, sparsity=0.6, method=method, strategy=strategy)
    assert replicas == {"CPU:0", "CPU:1", "CPU:2", "CPU:3"}
    assert not logged  # of functions traced again for each layer and shape
    assert_same(alone, shared)


def test_a_replica_that_is_wrong_would_be_seen(monkeypatch, strategy):
    monkeypatch.setattr(neighbours, "ROWS", 6)
    model, between = dense_chain([18, 3]), PairDistances.between

    def wrong(self, *blocks):
        tile = between(self, *blocks)
        return tile + 1.0 if tile.device.endswith("CPU:3") else tile

    alone = dfprune.plan(model, sparsity=0.6)
    monkeypatch.setattr(PairDistances, "between", wrong)
    with pytest.raises(AssertionError):
        assert_same(alone, dfprune.plan(model, sparsity=0.6, strategy=strategy))


def test_tensorflow_is_set_as_it_was(monkeypatch, strategy):
    monkeypatch.setattr(neighbours, "ROWS", 6)
    before = tf.config.optimizer.get_experimental_options()
    dfprune.plan(dense_chain([6, 3]), sparsity=0.6, strategy=strategy)
    after = tf.config.optimizer.get_experimental_options()
    assert after == {"disable_meta_optimizer": False, **before}


def test_the_callback_hands_it_on(monkeypatch, strategy):
    seen, original = [], Neighbours.__init__

    def watched(self, distances, allowed, context):
        seen.append(context.strategy)
        original(self, distances, allowed, context)

    monkeypatch.setattr(Neighbours, "__init__", watched)
    model = dense_chain([8, 3])
    model.compile("sgd", "mse")
    callback = dfprune.PostTrainPrune(sparsity=0.5, strategy=strategy)
    model.fit(np.ones((4, 6)), np.ones((4, 3)), verbose=0, callbacks=[callback])
    assert callback.error is None and seen == [strategy]


def test_what_can_not_be_shared_is_an_error(strategy):
    model = dense_chain([8, 3])
    with pytest.raises(ValueError, match="method='moments' works on one device"):
        dfprune.plan(model, method="moments", sparsity=0.5, strategy=strategy)
    with pytest.raises(ValueError, match="Leave `strategy` out"):
        dfprune.PostTrainPrune(method="moments", strategy=strategy)
    with pytest.raises(TypeError, match="Received: strategy='mirrored'"):
        dfprune.apply(model, sparsity=0.5, strategy="mirrored")


@pytest.mark.slow
def test_two_processes_make_the_plan_of_one():
    with socket.socket() as one, socket.socket() as other:
        ports = []
        for some in (one, other):
            some.bind(("localhost", 0))
            ports.append(str(some.getsockname()[1]))
    command = [sys.executable, "-m", "tests.support.two_workers", *ports]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    workers = [
        subprocess.Popen([*command, str(task)], stdout=subprocess.PIPE, env=environment, text=True)
        for task in range(2)
    ]
    try:
        found = [json.loads(one.communicate(timeout=240)[0].splitlines()[-1]) for one in workers]
    finally:
        for one in workers:
            one.kill()
    wanted = json.loads(json.dumps(planned()))
    assert found == [[2, wanted], [2, wanted]]
