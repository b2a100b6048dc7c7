"""Random graphs of all rules: the wide twin agrees, and planted copies come out exactly."""

import collections

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from keras_dfprune.inputs.sample_inputs import draw_samples, hand_over, run_model
from keras_dfprune.rules import registry
from tests.support import random_graphs

SEEDS = 200
PART = 20
covered = collections.Counter()
pruned = []

pytestmark = pytest.mark.filterwarnings("ignore:.*nothing to prune")


@pytest.fixture(autouse=True)
def forget_models():
    yield
    keras.backend.clear_session()


@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, SEEDS, PART))
def test_wide_twin_agrees(start):
    for seed in range(start, start + PART):
        names, cut = random_graphs.check_seed(seed)
        covered.update(names)
        pruned.append(cut)


@pytest.mark.slow
def test_every_rule_occurs_often(capsys):
    if len(pruned) < SEEDS:
        pytest.skip("counts what all the seeds above covered; run the whole file")
    with capsys.disabled():
        print(f"\n{sum(pruned)} of {len(pruned)} graphs had a pruned group; {dict(covered)}")
    assert sum(pruned) >= 0.6 * len(pruned)
    rare = {type(rule).__name__: covered[type(rule).__name__] for rule in registry.RULES
            if rule.types and covered[type(rule).__name__] < 10}  # fmt: skip
    assert not rare


@pytest.mark.parametrize("start", range(0, 30, 10))
def test_planted_copies_come_out_exactly(start):
    for seed in range(start, start + 10):
        model = random_graphs.random_model(seed)
        groups = random_graphs.plant_copies(model)
        samples = draw_samples(model)
        wanted = run_model(model, samples)
        plan = dfprune.plan(model, tolerance=0)
        narrow = plan.apply(model)
        assert [group.layer for group in plan.groups] == groups
        assert all(len(group.removed) >= 1 for group in plan.groups), seed
        found = run_model(narrow, hand_over(samples, narrow))
        for name, expected in wanted.items():
            apart = np.abs(found[name] - expected).max()
            assert apart <= 1e-5 * np.abs(expected).max(), (seed, name)
