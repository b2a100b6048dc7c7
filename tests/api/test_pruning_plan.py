"""Plans are printed, saved without pickle, loaded, and applied to their own model only."""

import json
import re

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from keras_dfprune.report import archive
from tests.support.models import dense_chain, inputs_of, outputs, plant_copy

GOLDEN = """\
Pruning plan for 'golden' (saliency)

Layer    Units  Removed  Parameters
-----------------------------------
fc1    10 -> 5   50.0 %    70 -> 35
fc2     8 -> 4   50.0 %    88 -> 24

Parameters: 185 -> 74 (60.0 % fewer)
Multiply-adds of one row: 164 -> 62 (62.2 % fewer)

Left whole
  fc3: its units are an output of the model"""


def test_report():
    model = dense_chain([10, 8, 3])
    model.name = "golden"
    plan = dfprune.plan(model, sparsity=0.5, method="saliency")
    table, change, whole = re.split(r"\n\n(?=Measured|Left)", str(plan))
    assert f"{table}\n\n{whole}" == GOLDEN
    assert re.search(r"\n  fc3: .* % to .* % .*\(draws of several kinds\)$", change)
    assert repr(plan) == "<PruningPlan for 'golden': 185 -> 74 parameters>"


def test_report_shows_predicted_errors():
    text = str(dfprune.plan(dense_chain([10, 8, 3]), sparsity=0.5))
    assert "Predicted error" in text and "(moments)" in text


@pytest.mark.parametrize("method", ["saliency", "moments"])
def test_saved_and_loaded(method, tmp_path):
    model = dense_chain([30, 20, 3])
    plan = dfprune.plan(model, sparsity=0.5, method=method)
    plan.save(tmp_path / "plan.npz")
    loaded = dfprune.PruningPlan.load(tmp_path / "plan.npz")
    assert str(loaded) == str(plan)
    assert len(plan.groups) == 2
    for saved, read in zip(plan.groups, loaded.groups, strict=True):
        np.testing.assert_array_equal(saved.removed, read.removed)
        np.testing.assert_array_equal(saved.survivor, read.survivor)
        np.testing.assert_array_equal(saved.saliency, read.saliency)
        assert (saved.layer, saved.layers, saved.cutoff) == (read.layer, read.layers, read.cutoff)
        assert saved.parameters == read.parameters
    x = inputs_of(model)
    np.testing.assert_array_equal(outputs(plan.apply(model), x), outputs(loaded.apply(model), x))
    with np.load(tmp_path / "plan.npz", allow_pickle=False) as file:
        assert file.files and all(file[name].dtype != object for name in file.files)


def test_survivors_are_kept_units():
    model = dense_chain([12, 3])
    for target in (4, 7, 11):
        plant_copy(model.get_layer("fc1"), 0, target)
    group = dfprune.plan(model, tolerance=0).groups[0]
    assert group.removed.tolist() == [0, 4, 7]
    assert group.survivor.tolist() == [11, 11, 11]
    assert group.kept.tolist() == [1, 2, 3, 5, 6, 8, 9, 10, 11]
    assert dfprune.plan(model, sparsity=0.5).groups[0].survivor.max() == -1


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
        with pytest.raises(
            ValueError, match=f"{name}.npz' is no pruning plan that can be read"
        ) as caught:
            dfprune.PruningPlan.load(tmp_path / f"{name}.npz")
        assert "unsafely" not in str(caught.value)  # NumPy's advice for pickles
    with pytest.raises(FileNotFoundError):
        dfprune.PruningPlan.load(tmp_path / "nowhere.npz")


def test_a_damaged_byte_is_an_error_or_harmless(tmp_path):
    plan = planned(tmp_path)
    content = (tmp_path / "plan.npz").read_bytes()
    random, errors = np.random.default_rng(0), 0
    for position in random.integers(len(content), size=150):
        damaged = bytearray(content)
        damaged[position] ^= 1 << int(random.integers(8))
        (tmp_path / "damaged.npz").write_bytes(damaged)
        try:
            loaded = dfprune.PruningPlan.load(tmp_path / "damaged.npz")
        except ValueError as error:
            errors += "is no pruning plan that can be read" in str(error)
        else:
            assert str(loaded) == str(plan)
    assert errors > 75


def test_an_archive_that_unpacks_to_far_more_than_it_holds_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "_MOST_BYTES", 10**6)
    np.savez_compressed(tmp_path / "bomb.npz", header=np.zeros(10**6))
    with pytest.raises(ValueError, match=r"it unpacks from [\d,]+ to 8,000,\d+ bytes"):
        dfprune.PruningPlan.load(tmp_path / "bomb.npz")


def edited(tmp_path, edit):
    """Save a plan, edit its header and return the path of the new file."""
    planned(tmp_path)
    with np.load(tmp_path / "plan.npz") as file:
        arrays = dict(file)
    header = json.loads(bytes(arrays["header"]))
    edit(header)
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    np.savez(tmp_path / "edited.npz", **arrays)
    return tmp_path / "edited.npz"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda header: header.update(version=99), "it has version 99 and not 5; plan again"),
        (lambda header: header.update(format="other"), "it has another header"),
        (lambda header: header.pop("refusals"), "'refusals'"),
        (lambda header: header["refusals"].append({"x": 1}), "unexpected keyword argument 'x'"),
        (lambda header: header["groups"][0].update(prefix="group7"), "group7"),
    ],
)
def test_headers_that_can_t_be_read(edit, message, tmp_path):
    with pytest.raises(ValueError, match=f"no pruning plan that can be read: .*{message}"):
        dfprune.PruningPlan.load(edited(tmp_path, edit))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer": "fc9"}, "layer fc9 has no 10 units"),
        ({"layer": "fc2"}, "layer fc2 has no 10 units"),
        ({"layer": "fc3"}, "layer fc3 has no 10 units"),
        ({"units": 9}, "layer fc1 has no 9 units"),
    ],
)
def test_groups_that_the_model_doesn_t_have(change, message, tmp_path):
    path = edited(tmp_path, lambda header: header["groups"][0].update(change))
    with pytest.raises(ValueError, match=f"made for another model than.*{message}"):
        dfprune.PruningPlan.load(path).apply(dense_chain([10, 8, 3]))


def test_the_same_weights_in_a_layer_that_is_refused(tmp_path):
    plan = planned(tmp_path)
    with pytest.raises(ValueError, match="layer fc1, or one before it, is set or connected diff"):
        plan.apply(dense_chain([10, 8, 3], "softmax"))


def test_a_plan_can_be_applied_after_the_model_drew_random_numbers():
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, "relu"),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(3),
        ]
    )
    plan = dfprune.plan(model, sparsity=0.5)
    model(np.ones((2, 6)), training=True)
    assert plan.apply(model).layers[0].units == 4


@pytest.mark.parametrize("method", ["saliency", "moments"])
def test_saliency_is_the_whole_path_down_to_one_unit(method):
    plan = dfprune.plan(dense_chain([10, 8, 3]), sparsity=0.3, method=method)
    assert [len(group.saliency) for group in plan.groups] == [9, 7]
    assert [len(group.removed) for group in plan.groups] == [3, 2]
    for group in plan.groups:
        np.testing.assert_array_equal(
            np.sort(np.concatenate([group.kept, group.removed])), np.arange(group.units)
        )


def test_predicted_parameters_are_those_of_the_result():
    model = dense_chain([30, 20, 3])
    for sparsity in (0.1, 0.5, 0.9):
        plan = dfprune.plan(model, sparsity=sparsity)
        assert plan.apply(model).count_params() == plan.parameters[1]
