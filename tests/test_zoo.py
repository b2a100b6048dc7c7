"""Each kind of model comes out exactly, or its layer is refused with a reason one understands."""

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from keras_dfprune.graph import read_graph
from keras_dfprune.samples import draw_samples, hand_over, run_model
from tests import random_graphs, zoo

HALF = {"half precision by layer": 1e-2, "mixed_bfloat16": 5e-2}
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*lambda"),
    pytest.mark.filterwarnings("ignore:.*optimizer|.*metrics"),
]


@pytest.fixture(autouse=True)
def forget_models():
    keras.utils.set_random_seed(0)
    yield
    keras.backend.clear_session()


def randomize_dense(model):
    """Biases that are not zero, in every Dense layer of any depth."""
    random = np.random.default_rng(0)
    for layer in model._flatten_layers():
        if type(layer) is keras.layers.Dense and layer.bias is not None:
            layer.bias.assign(random.normal(0, 0.3, layer.bias.shape))


def difference(one, two):
    scale = max(np.abs(value.astype("float64")).max() for value in one.values())
    apart = [np.abs(one[name].astype("float64") - two[name]).max() for name in one]
    return max(apart) / scale


@pytest.mark.parametrize("name", zoo.EXACT)
def test_planted_copies_come_out_exactly(name):
    build, groups = zoo.EXACT[name]
    model = build()
    if name != "zero biases":
        randomize_dense(model)
    if name != "adapters":  # their kernels are sums that can't be assigned
        random_graphs.plant_copies(model)
    samples = draw_samples(model)
    nodes = count_nodes(model)
    plan = dfprune.plan(model, tolerance=0)
    assert len(plan.groups) == groups
    if name != "adapters":
        assert all(len(group.removed) for group in plan.groups)
    pruned = plan.apply(model)
    found = run_model(pruned, hand_over(samples, pruned))
    assert difference(run_model(model, samples), found) <= HALF.get(name, 1e-5)
    for method in ("saliency", "moments"):
        plan = dfprune.plan(model, sparsity=0.5, method=method)
        assert all(len(group.kept) < group.units for group in plan.groups)
        pruned = plan.apply(model)  # and verified there
        assert pruned.count_params() == plan.parameters[1]
    assert count_nodes(model) == nodes


def count_nodes(model):
    operations = {id(call.operation): call.operation for call in read_graph(model).calls}
    return [len(o._inbound_nodes) + len(o._outbound_nodes) for o in operations.values()]


RELOADABLE = ("sequential", "nested twice, equal names", "shared layers", "shared model",
              "dicts, two heads, the same tensor twice", "adapters", "adapted lookup",
              "lookup with vocabulary", "adapted normalization", "masks", "operations",
              "registered custom layer", "half precision by layer", "frozen")  # fmt: skip


@pytest.mark.parametrize("name", RELOADABLE)
def test_the_result_is_saved_and_loaded(name, tmp_path):
    model = zoo.EXACT[name][0]()
    randomize_dense(model)
    pruned = dfprune.apply(model, sparsity=0.5)
    pruned.save(tmp_path / "pruned.keras")
    loaded = keras.saving.load_model(tmp_path / "pruned.keras")
    samples = draw_samples(pruned)
    found = run_model(loaded, hand_over(samples, loaded))
    assert difference(run_model(pruned, samples), found) <= 1e-6
    trainable = [variable.trainable for variable in pruned.weights]
    assert trainable == [variable.trainable for variable in loaded.weights]


@pytest.mark.parametrize("name", zoo.REFUSED)
def test_refused_with_a_reason(name):
    build, reason = zoo.REFUSED[name]
    model = build()
    with pytest.warns(UserWarning, match=f"left whole although they were named: fc.*{reason}"):
        plan = dfprune.plan(model, sparsity={"fc": 0.5})
    assert plan.groups == ()
    assert plan.apply(model).count_params() == model.count_params()


def test_quantized_layers_stay():
    with pytest.warns(UserWarning, match="nothing to prune"):
        plan = dfprune.plan(zoo.quantized(), sparsity=0.5)
    reasons = [refusal.reason for refusal in plan.refusals]
    assert "which is quantized; prune first, then quantize" in reasons[0]
    assert "it is quantized; prune first, then quantize" in reasons[1]


def test_two_models_never_share_variables():
    for name in ("unregistered custom layer", "frozen", "adapted normalization", "masks"):
        model = zoo.EXACT[name][0]()
        pruned = dfprune.apply(model, sparsity=0.5)
        held = {id(variable) for variable in model.variables}
        assert not held & {id(variable) for variable in pruned.variables}, name


def test_the_plan_says_what_both_models_share():
    for name, note in (("layer without config", "can't be re-made: both models share it and its"),
                       ("adapted lookup", "can't be re-made: both models share it")):  # fmt: skip
        assert note in str(dfprune.plan(zoo.EXACT[name][0](), sparsity=0.5))
