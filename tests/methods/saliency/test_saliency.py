"""The paper's method against plain loops: order, survivors, merged weights, options."""

import numpy as np
import pytest

import keras_dfprune as dfprune
from keras_dfprune.methods.saliency.distances import RatioDistances
from tests.support import reference
from tests.support.groups import group_view
from tests.support.models import dense_chain, inputs_of, matrix_of, outputs, plant_copy


def random_layer(seed, units=7, inputs=4, shapes=((1, 3),), activation="relu"):
    """Return a group, its weight-sets and its blocks, of `shapes` (positions, outputs)."""
    random = np.random.default_rng(seed)
    dtype = ("float32", "float64")[seed % 2]
    sets = random.normal(size=(units, inputs + 1)).astype(dtype)
    blocks = tuple(random.normal(size=(units, *shape)).astype(dtype) for shape in shapes)
    return group_view(sets, blocks, activation), sets, blocks


def immediate_survivors(curve, removals):
    """Return the survivor of each removal, read off the merge that ends with it."""
    found = []
    for count in range(1, removals + 1):
        merge = curve.merge(count)
        found.append(int(merge.kept[merge.survivor[-1]]))
    return found


def assert_agrees(group, sets, blocks, **options):
    """Compare order, costs, survivors and merged weights with plain loops."""
    curve = dfprune.Saliency(**options).curve(group, dfprune.Context())
    removals = len(sets) - 1
    wanted = reference.greedy(sets, blocks, removals, **options)
    assert curve.order.tolist() == wanted[0]
    np.testing.assert_allclose(curve.costs, wanted[2], rtol=2e-4, atol=1e-12)
    if options.get("surgery", True):
        assert immediate_survivors(curve, removals) == wanted[1]
    for count in range(removals + 1):
        merge = curve.merge(count)
        left = reference.greedy(sets, blocks, count, **options)[3]
        for block, merged in zip(blocks, left, strict=True):
            found = merge.absorb(block.reshape(len(sets), -1)).reshape(-1, *block.shape[1:])
            np.testing.assert_allclose(found, merged[merge.kept], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("seed", range(15))
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("surgery", [True, False])
def test_agrees_with_plain_loops(seed, normalize, surgery):
    assert_agrees(*random_layer(seed), normalize=normalize, surgery=surgery)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("aggregate", ["mean", "max"])
@pytest.mark.parametrize("distance", ["weights", "ratio"])
def test_agrees_with_positions_and_several_consumers(seed, aggregate, distance):
    layer = random_layer(seed, units=6, shapes=((3, 2), (1, 4), (2, 1)))
    options = {"aggregate": aggregate, "distance": distance, "normalize": seed % 3 > 0}
    assert_agrees(*layer, **options)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "gelu", "leaky_relu", "linear"])
def test_normalizes_where_that_is_exact_and_nowhere_else(seed, activation):
    group, sets, blocks = random_layer(seed, activation=activation)
    homogeneous = activation in ("leaky_relu", "linear")
    wanted = reference.greedy(sets, blocks, 6, normalize=homogeneous)
    curve = dfprune.Saliency().curve(group, dfprune.Context())
    assert curve.order.tolist() == wanted[0]
    np.testing.assert_allclose(curve.costs, wanted[2], rtol=2e-4)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("normalize", [True, False])
def test_agrees_behind_planted_copies(seed, normalize):
    """Copies are removed first at cost 0, whether the lossless pass finds them or not."""
    group, sets, blocks = random_layer(seed, units=9)
    sets[[1, 4]], sets[7] = sets[8], sets[3]
    wanted = reference.greedy(sets, blocks, 8, normalize=normalize)
    assert sorted(wanted[0][:3]) == [1, 3, 4]
    assert_agrees(group, sets, blocks, normalize=normalize)


@pytest.mark.parametrize("normalize", [True, False])
def test_weights_taken_over_count_in_later_costs(normalize):
    """Also for a multiple that the lossless pass merges with a scale."""
    group, sets, blocks = random_layer(1, units=6)
    sets[0] = 4 * sets[5]
    curve = dfprune.Saliency(normalize=normalize).curve(group, dfprune.Context())
    assert curve.order[0] == 0 and curve.costs[0] == 0
    merged = blocks[0].copy()
    merged[5] += 4 * merged[0]
    rest = reference.greedy(sets[1:], [merged[1:]], 4, normalize=normalize)
    assert curve.order[1:].tolist() == [unit + 1 for unit in rest[0]]
    np.testing.assert_allclose(curve.costs[1:], rest[2], rtol=2e-4)


def test_ratio_of_opposite_and_equal_biases():
    weights = np.eye(3, dtype="float32")
    matrix = matrix_of(RatioDistances([weights], np.ones(3), np.zeros(3, "float32")))
    assert matrix[0, 1] == pytest.approx(1.0)  # 0/0 of the biases counts as 0
    matrix = matrix_of(RatioDistances([weights], np.ones(3), np.array([1.0, -1.0, 1.0], "float32")))
    assert np.isinf(matrix[0, 1]) and matrix[0, 2] == pytest.approx(1.0)
    opposite = np.array([[1.0, 0.0], [-1.0, 0.0]], "float32")
    assert np.isinf(matrix_of(RatioDistances([opposite], np.ones(2), np.ones(2, "float32")))[0, 1])


def test_ties_go_to_the_smallest_removed_unit_and_the_smallest_survivor():
    sets = np.eye(4, 5, dtype="float32")  # all equally far from each other
    group = group_view(sets, (np.ones((4, 1, 1)),), "tanh")
    curve = dfprune.Saliency().curve(group, dfprune.Context())
    assert curve.order[0] == 0
    assert immediate_survivors(curve, 1) == [1]


def test_surgery_decides():
    model = dense_chain([40, 5], seed=3)
    for target in range(20, 40):
        plant_copy(model.get_layer("fc1"), target - 20, target)
    x = inputs_of(model)
    with_surgery = dfprune.apply(model, sparsity=0.5, method="saliency")
    without = dfprune.apply(model, sparsity=0.5, method=dfprune.Saliency(surgery=False))
    wanted = outputs(model, x)
    np.testing.assert_allclose(outputs(with_surgery, x), wanted, atol=1e-5 * abs(wanted).max())
    assert np.abs(outputs(without, x) - wanted).max() > 0.1 * np.abs(wanted).max()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"normalize": "yes"}, "`normalize` must be one of 'auto', True, False.*'yes'"),
        ({"normalize": 1}, "`normalize` must be one of 'auto', True, False.*=1"),
        ({"distance": "cosine"}, "`distance` must be one of 'weights', 'ratio'"),
        ({"aggregate": "sum"}, "`aggregate` must be one of 'mean', 'max'"),
        ({"surgery": 2}, "`surgery` must be one of True, False"),
        ({"cutoff_scale": 0}, r"`cutoff_scale` must be a number in \(0, 1\]. Received: .*0"),
        ({"cutoff_scale": True}, "`cutoff_scale` must be a number"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        dfprune.Saliency(**arguments)


def test_normalization_is_refused_where_it_is_not_exact():
    with pytest.raises(ValueError, match="exact only for positively homogeneous.*'fc1'.*'tanh'"):
        dfprune.plan(dense_chain([8, 3], "tanh"), method=dfprune.Saliency(normalize=True))


def test_unbounded_slope_means_exact_removals_only():
    model = dense_chain([8, 3], "exponential")
    plant_copy(model.get_layer("fc1"), 0, 5)
    plan = dfprune.plan(model, sparsity=0.5, method="saliency")
    assert plan.groups[0].removed.tolist() == [0]
    assert "lossless removals only: the slope of exponential has no bound" in str(plan)
