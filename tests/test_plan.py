"""Plans: data that is saved without pickle, bound to its model, and readable."""

import json

import numpy as np
import pytest

import keras_dfprune as dfprune
from tests.models import dense_chain, inputs_of, outputs, plant_copy

GOLDEN = """\
Pruning plan for 'golden' (saliency)

Layer    Units  Removed
-----------------------
fc1    10 -> 5   50.0 %
fc2     8 -> 4   50.0 %

Parameters: 185 -> 74 (60.0 % fewer)

Left whole
  fc3: its units are an output of the model"""


def test_report():
    model = dense_chain([10, 8, 3])
    model.name = "golden"
    assert str(dfprune.plan(model, sparsity=0.5)) == GOLDEN


def test_report_shows_predicted_errors():
    text = str(dfprune.plan(dense_chain([10, 8, 3]), sparsity=0.5, method="moments"))
    assert "Predicted error" in text and "(moments)" in text


@pytest.mark.parametrize("method", ["saliency", "moments"])
def test_saved_and_loaded(method, tmp_path):
    model = dense_chain([30, 20, 3])
    plan = dfprune.plan(model, sparsity=0.5, method=method)
    plan.save(tmp_path / "plan.npz")
    loaded = dfprune.PruningPlan.load(tmp_path / "plan.npz")
    assert str(loaded) == str(plan)
    for one, other in zip(plan.groups, loaded.groups, strict=True):
        np.testing.assert_array_equal(one.removed, other.removed)
        np.testing.assert_array_equal(one.survivor, other.survivor)
        np.testing.assert_array_equal(one.saliency, other.saliency)
        assert (one.layer, one.layers, one.cutoff) == (other.layer, other.layers, other.cutoff)
    x = inputs_of(model)
    np.testing.assert_array_equal(outputs(plan.apply(model), x), outputs(loaded.apply(model), x))
    with np.load(tmp_path / "plan.npz", allow_pickle=False) as file:
        assert all(file[name].dtype != object for name in file.files)


def test_apply_is_plan_and_apply():
    model = dense_chain([20, 10, 3])
    x = inputs_of(model)
    plan = dfprune.plan(model, sparsity=0.5)
    np.testing.assert_array_equal(
        outputs(plan.apply(model), x), outputs(dfprune.apply(model, sparsity=0.5), x)
    )


def test_survivors_are_kept_units():
    model = dense_chain([12, 3])
    for target in (4, 7, 11):
        plant_copy(model.get_layer("fc1"), 0, target)
    group = dfprune.plan(model, tolerance=0).groups[0]
    assert group.removed.tolist() == [0, 4, 7]
    assert group.survivor.tolist() == [11, 11, 11]
    assert group.kept.tolist() == [1, 2, 3, 5, 6, 8, 9, 10, 11]
    assert dfprune.plan(model, method="moments", sparsity=0.5).groups[0].survivor.max() == -1


def planned(tmp_path):
    plan = dfprune.plan(dense_chain([10, 8, 3]), sparsity=0.5)
    plan.save(tmp_path / "plan.npz")
    return plan


def other_weights():
    model = dense_chain([10, 8, 3])
    model.get_layer("fc2").kernel.assign(np.ones((10, 8)))
    return model


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: dense_chain([10, 8, 4]), r"weights of layer fc3 have shapes .*\[8, 4\]"),
        (lambda: dense_chain([10, 8]), "it has no layer fc3"),
        (lambda: dense_chain([10, 8, 3, 3]), "it has further layers fc4"),
        (other_weights, "the weights of layer fc2 differ"),
    ],
)
def test_a_plan_for_another_model(model, message, tmp_path):
    plan = planned(tmp_path)
    with pytest.raises(ValueError, match=f"made for another model.*{message}"):
        plan.apply(model())


def test_files_that_are_no_plans(tmp_path):
    planned(tmp_path)
    content = (tmp_path / "plan.npz").read_bytes()
    (tmp_path / "half.npz").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.npz").write_text("hello")
    np.savez(tmp_path / "other.npz", weights=np.ones(3))
    np.savez(tmp_path / "objects.npz", header=np.array([{"a": 1}], dtype=object))
    for name in ("half", "text", "other", "objects"):
        with pytest.raises(ValueError, match=f"{name}.npz' is no pruning plan that can be read"):
            dfprune.PruningPlan.load(tmp_path / f"{name}.npz")
    with pytest.raises(FileNotFoundError):
        dfprune.PruningPlan.load(tmp_path / "nowhere.npz")


def test_a_file_of_a_newer_version(tmp_path):
    planned(tmp_path)
    with np.load(tmp_path / "plan.npz") as file:
        arrays = dict(file)
    header = json.loads(bytes(arrays["header"]))
    header["version"] = 99
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    np.savez(tmp_path / "newer.npz", **arrays)
    with pytest.raises(ValueError, match="it has version 99, newer than 1"):
        dfprune.PruningPlan.load(tmp_path / "newer.npz")


def test_predicted_parameters_are_those_of_the_result():
    model = dense_chain([30, 20, 3])
    for sparsity in (0.1, 0.5, 0.9):
        plan = dfprune.plan(model, sparsity=sparsity)
        assert plan.apply(model).count_params() == plan.parameters[1]
