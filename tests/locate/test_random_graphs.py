"""Random graphs of all rules agree with the wide twin, and planted copies are removed exactly."""

import collections

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from keras_dfprune.inputs.model_inputs import adapt_samples, run_model
from keras_dfprune.inputs.sample_inputs import draw_samples
from keras_dfprune.locate.locate import locate_model
from keras_dfprune.rules import registry
from tests.support import random_graphs
from tests.support.models import relative_difference

SEEDS = 60
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
            if rule.types and covered[type(rule).__name__] < 2}  # fmt: skip
    assert not rare


def exact_removals(model):
    """Plan the lossless removals, check that they change nothing, and return how many they are."""
    samples = draw_samples(model)
    before = run_model(model, samples)
    plan = dfprune.plan(model, tolerance=0)
    narrow = plan.apply(model)
    after = run_model(narrow, adapt_samples(samples, narrow))
    for name, expected in before.items():
        assert relative_difference(after[name], expected) <= 1e-5, name
    return {group.layer: len(group.removed) for group in plan.groups}


@pytest.mark.parametrize("start", range(0, 20, 10))
def test_planted_copies_are_removed_exactly(start):
    for seed in range(start, start + 10):
        model = random_graphs.random_model(seed)
        groups = random_graphs.plant_copies(model)
        removed = exact_removals(model)
        assert list(removed) == groups
        assert all(count >= 1 for count in removed.values()), seed


@pytest.mark.parametrize("start", range(0, 20, 10))
def test_constant_units_are_removed_exactly(start):
    removed = collections.Counter()
    for seed in range(start, start + 10):
        model = random_graphs.random_model(seed)
        random_graphs.plant_constants(model, np.random.default_rng(seed))
        units = locate_model(model).layout.groups
        counts = exact_removals(model)
        removed.update(counts[name] > 0 for name in units)
    assert removed[True] > removed[False]
