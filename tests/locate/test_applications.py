"""Planted copies are removed exactly from published architectures of `keras.applications`."""

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from benchmarks import applications
from tests.support import conformance
from tests.support.models import relative_difference


@pytest.mark.slow
@pytest.mark.parametrize("name", applications.ARCHITECTURES)
def test_planted_copies_are_removed_exactly(name):
    keras.backend.clear_session()
    model, groups = applications.prepared(name)
    images = np.random.default_rng(0).uniform(0, 1, (2, 32, 32, 3)).astype("float32")
    before = np.asarray(model(images, training=False))
    plan = dfprune.plan(model, tolerance=0)
    assert [group.layer for group in plan.groups] == groups
    assert groups
    assert all(len(group.removed) >= 1 for group in plan.groups)
    reasons = [refusal.reason for refusal in plan.refusals]
    assert reasons == ["its units are an output of the model"]
    pruned = plan.apply(model)
    assert pruned.count_params() == plan.parameters[1]
    after = np.asarray(pruned(images, training=False))
    assert relative_difference(after, before) <= 1e-5
    keras.backend.clear_session()


def test_the_table_of_formats(monkeypatch, tmp_path):
    monkeypatch.setitem(applications.ARCHITECTURES, "small", conformance.residual_convolutions)
    model, groups = applications.prepared("small")
    line = applications.measure(model, tmp_path, {".keras": "m.keras"})
    assert line["groups"] == len(groups) > 1 and line["units removed"] >= len(groups)
    assert float(line["pruned"]) < 1e-5 and float(line[".keras"]) < 1e-5
    table = applications.table({"small": line})
    assert table.splitlines()[0].endswith("| pruned | .keras |")
