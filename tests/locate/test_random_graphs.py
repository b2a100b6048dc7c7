"""Random graphs of all rules agree with the wide twin, and planted copies are removed exactly."""

import collections

import keras
import pytest

import keras_dfprune as dfprune
from keras_dfprune.inputs.model_inputs import adapt_samples, run_model
from keras_dfprune.inputs.sample_inputs import draw_samples
from keras_dfprune.rules import registry
from tests.support import random_graphs
from tests.support.models import relative_difference

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
def test_planted_copies_are_removed_exactly(start):
    removed = 0
    for seed in range(start, start + 10):
        model = random_graphs.random_model(seed)
        groups = random_graphs.plant_copies(model)
        samples = draw_samples(model)
        before = run_model(model, samples)
        plan = dfprune.plan(model, tolerance=0)
        narrow = plan.apply(model)
        assert [group.layer for group in plan.groups] == groups
        assert all(len(group.removed) >= 1 for group in plan.groups), seed
        removed += sum(len(group.removed) for group in plan.groups)
        after = run_model(narrow, adapt_samples(samples, narrow))
        for name, expected in before.items():
            assert relative_difference(after[name], expected) <= 1e-5, (seed, name)
    assert removed >= 10
