"""Plans made by the replicas of a distribution strategy: the same as alone, bit by bit."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import keras_dfprune as dfprune
from keras_dfprune.methods.saliency import neighbours, tiles
from keras_dfprune.methods.saliency.distances import PairDistances, RatioDistances
from keras_dfprune.methods.saliency.neighbours import Neighbours
from tests.support.models import dense_chain, plant_copy
from tests.support.two_workers import planned


def assert_same(plan, other):
    for first, second in zip(plan.groups, other.groups, strict=True):
        np.testing.assert_array_equal(first.removed, second.removed)
        np.testing.assert_array_equal(first.survivor, second.survivor)
        np.testing.assert_array_equal(first.saliency, second.saliency)
        assert first.cutoff == second.cutoff


@pytest.mark.parametrize(
    ("widths", "activation", "distance"),
    [([34, 6, 3], "relu", "weights"), ([30, 3], "tanh", "ratio")],
)
def test_four_replicas_make_the_same_plan(monkeypatch, strategy, widths, activation, distance):
    """Near copies are recomputed on the replicas, too. Of 34 units the last tile has only 4."""
    assert strategy.num_replicas_in_sync == 4
    monkeypatch.setattr(neighbours, "ROWS", 6)
    monkeypatch.setattr(tiles, "TILES_IN_STRIP", 2)
    replicas, logged = set(), []
    monkeypatch.setattr(tf.get_logger(), "warning", lambda *message: logged.append(message))

    def watch(kind, between):
        def watched(self, *blocks):
            tile = between(self, *blocks)
            replicas.add(tile.device[-5:])
            return tile

        monkeypatch.setattr(kind, "between", watched)

    model = dense_chain(widths, activation, inputs=12)
    layer = model.get_layer("fc1")
    plant_copy(layer, 3, 20)
    for unit in range(21, 27):
        plant_copy(layer, 4, unit, scale=1 + 1e-5 * unit)
    method = dfprune.Saliency(distance=distance)
    alone = dfprune.plan(model, sparsity=0.6, method=method)
    for kind in (PairDistances, RatioDistances):
        watch(kind, kind.between)
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

    arguments = {"method": "saliency", "sparsity": 0.6}
    alone = dfprune.plan(model, **arguments)
    monkeypatch.setattr(PairDistances, "between", wrong)
    with pytest.raises(AssertionError):
        assert_same(alone, dfprune.plan(model, **arguments, strategy=strategy))


@pytest.mark.parametrize("disabled", [False, True])
def test_options_of_tensorflow_are_as_before(monkeypatch, strategy, disabled):
    options, between, meanwhile = tf.config.optimizer, PairDistances.between, []

    def watched(self, *blocks):
        meanwhile.append(options.get_experimental_options()["disable_meta_optimizer"])
        return between(self, *blocks)

    monkeypatch.setattr(PairDistances, "between", watched)
    original = options.get_experimental_options()
    options.set_experimental_options({"disable_meta_optimizer": disabled})
    try:
        before = options.get_experimental_options()
        dfprune.plan(dense_chain([6, 3]), method="saliency", sparsity=0.6, strategy=strategy)
        assert options.get_experimental_options() == before
    finally:
        options.set_experimental_options(original)
    assert meanwhile and all(meanwhile)
    assert options.get_experimental_options() == original


def test_the_callback_hands_it_on(monkeypatch, strategy):
    seen, original = [], Neighbours.__init__

    def watched(self, distances, allowed, context):
        seen.append(context.strategy)
        original(self, distances, allowed, context)

    monkeypatch.setattr(Neighbours, "__init__", watched)
    model = dense_chain([8, 3])
    model.compile("sgd", "mse")
    callback = dfprune.PostTrainPrune(method="saliency", sparsity=0.5, strategy=strategy)
    model.fit(np.ones((4, 6)), np.ones((4, 3)), verbose=0, callbacks=[callback])
    assert callback.error is None and seen == [strategy]


def test_a_strategy_changes_nothing_where_a_method_has_no_use_for_it(strategy):
    model = dense_chain([8, 3])
    plans = [dfprune.plan(model, sparsity=0.5, strategy=given) for given in (strategy, None)]
    assert_same(*plans)
    assert plans[0].measured == plans[1].measured


def test_a_strategy_that_is_none_is_an_error():
    model = dense_chain([8, 3])
    with pytest.raises(TypeError, match="Received: strategy='mirrored'"):
        dfprune.apply(model, sparsity=0.5, strategy="mirrored")


@pytest.mark.slow
def test_two_processes_make_the_plan_of_one():
    with socket.socket() as first, socket.socket() as second:
        ports = []
        for free in (first, second):
            free.bind(("localhost", 0))
            ports.append(str(free.getsockname()[1]))
    command = [sys.executable, "-m", "tests.support.two_workers", *ports]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    workers = [
        subprocess.Popen(
            [*command, str(task)],
            stdout=subprocess.PIPE,
            env=environment,
            cwd=pathlib.Path(__file__).parents[3],
            text=True,
        )
        for task in range(2)
    ]
    try:
        printed = [worker.communicate(timeout=240)[0] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    expected = json.loads(json.dumps(planned()))
    plans = [json.loads(text.splitlines()[-1]) for text in printed]
    assert plans == [[2, expected], [2, expected]]
