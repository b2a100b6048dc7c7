"""Prune around convolutions in groups of channels: blocks of units that lose equally many."""

import dataclasses

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from keras_dfprune.graph.read_graph import read_graph
from keras_dfprune.locate.locate import locate
from keras_dfprune.methods.join_curves import join_merges
from keras_dfprune.methods.merge import CentroidMerge, LinearMerge, SurvivorMerge
from keras_dfprune.rules.layer_state import Cut, LayerState
from keras_dfprune.rules.multiply_adds import multiply_adds
from keras_dfprune.rules.registry import find_rule
from tests.support.random_graphs import plant_copies, randomize

layers = keras.layers


def stack(*middle, channels=12):
    """Build a convolution, then `middle`, then a convolution that consumes."""
    inputs = keras.Input((6, 2))
    hidden = layers.Conv1D(channels, 1, activation="relu", name="first")(inputs)
    for layer in middle:
        hidden = layer(hidden)
    model = keras.Model(inputs, layers.Flatten()(layers.Conv1D(2, 1, name="last")(hidden)))
    randomize(model, np.random.default_rng(0))
    return model


def grouped(filters=12, groups=3, **options):
    return layers.Conv1D(filters, 2, groups=groups, activation="relu", name="grouped", **options)


def copy_filter(layer, source, target):
    """Make one filter of a layer a copy of another."""
    kernel, bias = layer.get_weights()
    kernel[..., target], bias[target] = kernel[..., source], bias[source]
    layer.set_weights([kernel, bias])


def output(model):
    return np.asarray(model(np.random.default_rng(1).normal(size=(4, 6, 2))))


def removed(plan):
    return {group.layer: sorted(group.removed.tolist()) for group in plan.groups}


def reasons(model):
    return {refusal.layer: refusal.reason for refusal in dfprune.plan(model, tolerance=0).refusals}


def test_one_copy_in_each_group_goes_and_copies_across_groups_stay():
    model = stack(grouped())
    copy_filter(model.get_layer("first"), 0, 4)  # read by other groups
    copy_filter(model.get_layer("grouped"), 0, 4)  # equal kernels that read other channels
    assert removed(dfprune.plan(model, tolerance=0)) == {"first": [], "grouped": []}
    for source, target in ((0, 1), (6, 5)):
        copy_filter(model.get_layer("first"), source, target)
        copy_filter(model.get_layer("grouped"), source, target)
    assert removed(dfprune.plan(model, tolerance=0)) == {"first": [], "grouped": []}
    for name in ("first", "grouped"):
        copy_filter(model.get_layer(name), 8, 11)
    plan = dfprune.plan(model, tolerance=0)
    assert all(len(group.removed) == 3 for group in plan.groups)
    pruned = plan.apply(model)
    assert [pruned.get_layer("grouped").filters, pruned.get_layer("grouped").groups] == [9, 3]
    np.testing.assert_allclose(output(pruned), output(model), rtol=1e-4, atol=1e-5)


def test_a_resnext_bottleneck_of_32_groups_of_four_loses_a_copy_in_each():
    inputs = keras.Input((5, 5, 3))

    def block(hidden, filters, kernel, **options):
        hidden = layers.Conv2D(filters, kernel, use_bias=False, **options)(hidden)
        return layers.BatchNormalization()(hidden)

    hidden = layers.ReLU()(block(inputs, 128, 1))
    hidden = layers.ReLU()(block(hidden, 128, 3, groups=32, padding="same", strides=2))
    hidden = layers.Add()([block(hidden, 32, 1), block(inputs, 32, 1, strides=2)])
    outputs = layers.Dense(3)(layers.GlobalAveragePooling2D()(layers.ReLU()(hidden)))
    model = keras.Model(inputs, outputs)
    randomize(model, np.random.default_rng(0))
    plant_copies(model)
    plan = dfprune.plan(model, method="saliency", tolerance=0)
    assert [len(group.removed) for group in plan.groups] == [32, 32, 1]
    pruned = plan.apply(model)
    assert plan.multiply_adds[1] == multiply_adds(read_graph(pruned).calls)
    samples = np.random.default_rng(1).normal(size=(4, 5, 5, 3))
    received, expected = (np.asarray(each(samples)) for each in (pruned, model))
    assert np.abs(received - expected).max() <= 1e-5 * np.abs(expected).max()


def test_units_in_groups_of_two_layers_lose_equally_many_in_the_finer_ones():
    model = stack(
        layers.Conv1D(12, 1, groups=2, activation="relu", name="coarse"),
        grouped(12, 6),
        layers.Conv1D(12, 1, groups=3, name="middle"),
    )
    blocks = {name: g.blocks.tolist() for name, g in locate(read_graph(model)).groups.items()}
    assert blocks["first"] == [0] * 6 + [1] * 6
    assert blocks["coarse"] == blocks["grouped"] == np.repeat(np.arange(6), 2).tolist()
    pruned = dfprune.apply(model, sparsity=0.5)
    assert [pruned.get_layer(name).filters for name in blocks] == [6, 6, 6, 6]


def test_groups_that_cannot_lose_equally_many_are_refused():
    overlap = reasons(stack(grouped(12, 2), layers.Conv1D(6, 1, groups=3)))
    assert "overlap" in overlap["grouped"]
    single = reasons(stack(grouped(24, 12)))
    assert "no two of its units" in single["first"] and "grouped" not in single
    beside = stack(lambda x: layers.Concatenate()([x, layers.Dense(12, "relu")(x)]), grouped(12, 2))
    assert "get more of its units than others" in reasons(beside)["first"]
    mixed = stack(
        layers.Permute((2, 1)), layers.Reshape((6, 12)), grouped(12, 3)
    )  # a Reshape that takes units apart
    assert "first" in reasons(mixed)


def test_other_features_may_stand_beside_the_units_of_each_group():
    def between_inputs(hidden):
        inputs = layers.Dense(3, trainable=False)(hidden)
        return layers.Concatenate()([keras.ops.softmax(inputs), hidden, keras.ops.softmax(inputs)])

    model = stack(between_inputs, grouped(6, 2), layers.Conv1D(6, 1), channels=8)
    plan = dfprune.plan(model, sparsity=0.5, layers=["first", "grouped"])
    pruned = plan.apply(model)
    assert pruned.get_layer("first").filters == 4
    assert pruned.get_layer("grouped").kernel.shape == (2, (3 + 4 + 3) // 2, 4)


@pytest.mark.parametrize(
    "budget", [{"max_params": 0.6}, {"max_flops": 0.6}, {"sparsity": 0.4, "multiple_of": 2}]
)
@pytest.mark.parametrize("method", ["saliency", "moments"])
def test_every_budget_leaves_the_groups_equal(budget, method, tmp_path):
    model = stack(grouped(24), layers.MaxPooling1D(2), layers.Conv1D(8, 1), channels=24)
    plan = dfprune.plan(model, method=method, **budget)
    assert any(len(group.removed) for group in plan.groups)
    for group in plan.groups:
        assert len(group.kept) % group.multiple == 0
    plan.save(tmp_path / "plan.npz")
    loaded = dfprune.PruningPlan.load(tmp_path / "plan.npz")
    assert output(loaded.apply(model)) == pytest.approx(output(plan.apply(model)))
    if "sparsity" not in budget:
        again = loaded.at(**{key: 0.8 for key in budget}, multiple_of=4)
        assert {group.multiple for group in again.groups} == {12, 4}
        again.apply(model)


def test_a_plan_is_reused_and_each_layer_is_cut_alone():
    model, other = stack(grouped()), stack(grouped())
    randomize(other, np.random.default_rng(7))
    plan = dfprune.plan(model, sparsity=0.5)
    pruned = plan.apply(other, reuse=True)
    assert pruned.get_layer("grouped").filters == 6
    result = dfprune.sensitivity(model, sparsity=0.4)
    assert {layer.kept for layer in result.layers} == {6}


class Names(dfprune.Saliency):
    """Method that records the groups that it is shown."""

    def curve(self, group, context):
        self.seen = [*getattr(self, "seen", []), group]
        return super().curve(group, context)


def test_a_method_sees_each_block_as_a_group_with_its_own_inputs():
    model, method = stack(grouped()), Names()
    dfprune.apply(model, sparsity=0.5, method=method)
    assert [view.name for view in method.seen] == [
        *(f"first[{k}]" for k in range(3)), *(f"grouped[{k}]" for k in range(3))
    ]  # fmt: skip
    first, behind = method.seen[0], method.seen[5]
    assert first.weights.shape == (4, 2) and np.any(first.outgoing[0], axis=(0, 1)).sum() == 4
    assert behind.weights.shape == (4, 4) and [feed.group for feed in behind.feeds] == ["first[2]"]
    assert behind.feeds[0].units.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("change", ["more of one block", "survivor of another"])
def test_a_merge_that_breaks_the_blocks_is_refused(change):
    model = stack(grouped())
    plan = dfprune.plan(model, method="saliency", sparsity=0.25)
    group = plan.groups[0]
    merge = group.merge
    if change == "survivor of another":
        merge = dataclasses.replace(merge, survivor=np.roll(merge.survivor, 1))
    else:
        gone = np.array([0, 1, 2])
        kept = np.setdiff1d(np.arange(12), gone)
        merge = SurvivorMerge(kept, gone, np.zeros(12), np.zeros(3, int), np.ones(3))
    groups = (dataclasses.replace(group, merge=merge), *plan.groups[1:])
    with pytest.raises(ValueError, match="group of channels|equally many"):
        dataclasses.replace(plan, groups=groups).apply(model)


def test_merges_of_all_kinds_are_joined():
    random, blocks = np.random.default_rng(0), [np.array([0, 3, 4]), np.array([1, 2, 5])]
    survivors = SurvivorMerge([0, 2], [1], [0.0, 0.5, 0.0], [1], [2.0])
    linear = LinearMerge([1, 2], [0], random.normal(size=3), random.normal(size=(2, 1)))
    centroid = CentroidMerge(
        [0, 1], [2], np.zeros(3), random.normal(size=(2, 3)), random.normal(size=(2, 3)), [1, 2]
    )  # fmt: skip
    kernel = random.normal(size=(6, 4))
    for first in (survivors, linear, centroid):
        for second in (survivors, linear, centroid):
            joined = join_merges([first, second], blocks)
            expected = np.zeros((6, 4))
            for merge, units in zip((first, second), blocks, strict=True):
                expected[units[merge.kept]] = merge.absorb(kernel[units])
            np.testing.assert_allclose(joined.absorb(kernel), expected[joined.kept])
            shifts = [m.shift(kernel[u]) for m, u in zip((first, second), blocks, strict=True)]
            np.testing.assert_allclose(joined.shift(kernel), sum(shifts))
            assert isinstance(joined, SurvivorMerge) == (first is second is survivors)
            if isinstance(joined, CentroidMerge):
                shares = np.zeros((6, 6))
                for merge, units in zip((first, second), blocks, strict=True):
                    own = getattr(merge, "shares", np.eye(3)[merge.kept])
                    shares[np.ix_(units[merge.kept], units)] = own
                np.testing.assert_array_equal(joined.shares, shares[joined.kept])


def test_arrays_of_the_kernel_are_cut_group_by_group():
    layer = grouped(6, 3)
    layer.build((None, 6, 12))
    rule = find_rule(layer)
    kernel = np.arange(2 * 4 * 6.0).reshape(2, 4, 6)
    inputs = np.array([1, 1, 0, 1, 0, 1, 1, 1, 1, 0, 1, 1], bool)
    outputs = np.array([1, 0, 0, 1, 0, 1], bool)
    state = LayerState(layer.get_config(), {"kernel": kernel})
    narrow = rule.narrow(state, Cut(inputs, outputs, 2)).variables["kernel"]
    expected = [kernel[:, [0, 1, 3], 0], kernel[:, [1, 2, 3], 3], kernel[:, [0, 2, 3], 5]]
    np.testing.assert_array_equal(narrow, np.stack(expected, axis=-1))
    outgoing = rule.outgoing(state)
    np.testing.assert_array_equal(outgoing[5, :, 2], kernel[:, 1, 2])
    assert np.count_nonzero(outgoing) == np.count_nonzero(kernel)
    back = rule.with_outgoing(state, outgoing).variables["kernel"]
    np.testing.assert_array_equal(back, kernel)
