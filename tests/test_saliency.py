"""The paper's method against plain loops: order, survivors, merged weights, options."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_dfprune as dfprune
from keras_dfprune.activations import describe
from keras_dfprune.methods.distances import PairDistances, RatioDistances
from tests import reference
from tests.models import dense_chain, inputs_of, outputs, plant_copy


def random_layer(seed, units=7, inputs=4, results=3, activation="relu"):
    random = np.random.default_rng(seed)
    sets = random.normal(size=(units, inputs + 1)).astype("float32")
    outgoing = random.normal(size=(units, 1, results)).astype("float32")
    return group_view(sets, (outgoing,), activation), sets, outgoing


def group_view(sets, outgoing, activation="relu", **changes):
    settings = {
        "name": "fc",
        "weight_sets": sets,
        "inputs": sets.shape[1] - 1,
        "activation": describe(keras.activations.get(activation)),
        "outgoing": outgoing,
        "offset_allowed": True,
        "can_survive": np.ones(len(sets), bool),
        "batch_mean": None,
        "batch_std": None,
        "parameters_per_unit": 1.0,
    }
    return dfprune.GroupView(**{**settings, **changes})


def immediate_survivors(curve, removals):
    """Who took over at each step, read off merges of one more removal each."""
    found = []
    for count in range(1, removals + 1):
        merge = curve.merge(count)
        found.append(int(merge.kept[merge.survivor[-1]]))
    return found


@pytest.mark.parametrize("seed", range(15))
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("surgery", [True, False])
def test_order_survivors_and_weights_agree_with_plain_loops(seed, normalize, surgery):
    group, sets, outgoing = random_layer(seed)
    method = dfprune.Saliency(normalize=normalize, surgery=surgery)
    curve = method.curve(group, dfprune.Context())
    wanted = reference.greedy(sets, outgoing, 6, normalize, surgery)
    assert curve.order.tolist() == wanted[0]
    np.testing.assert_allclose(curve.costs, wanted[2], rtol=2e-4)
    if surgery:
        assert immediate_survivors(curve, 6) == wanted[1]
    for count in (2, 5):
        merge = curve.merge(count)
        left = reference.greedy(sets, outgoing, count, normalize, surgery)[3]
        np.testing.assert_allclose(
            merge.absorb(outgoing[:, 0]), left[merge.kept, 0], rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("seed", range(5))
def test_positions_and_several_consumers(seed):
    random = np.random.default_rng(seed)
    sets = random.normal(size=(6, 4)).astype("float32")
    blocks = (random.normal(size=(6, 3, 2)), random.normal(size=(6, 1, 4)))
    curve = dfprune.Saliency(normalize=False).curve(group_view(sets, blocks), dfprune.Context())
    sums = np.concatenate([np.sum(block**2, axis=1) for block in blocks], axis=1)
    table = [
        (sums[j].mean() * np.sum((sets[i] - sets[j]) ** 2), j)
        for i in range(6) for j in range(6) if i != j
    ]  # fmt: skip
    assert curve.order[0] == min(table)[1]
    assert curve.costs[0] == pytest.approx(min(table)[0], rel=1e-4)
    largest = dfprune.Saliency(normalize=False, aggregate="max")
    curve = largest.curve(group_view(sets, blocks), dfprune.Context())
    table = [
        (sums[j].max() * np.sum((sets[i] - sets[j]) ** 2), j)
        for i in range(6) for j in range(6) if i != j
    ]  # fmt: skip
    assert curve.costs[0] == pytest.approx(min(table)[0], rel=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_ratio_distance(seed):
    group, sets, outgoing = random_layer(seed)
    curve = dfprune.Saliency(distance="ratio").curve(group, dfprune.Context())
    sets = sets.astype(np.float64)
    norms = np.linalg.norm(sets[:, :-1], axis=1)
    weights, biases = sets[:, :-1] / norms[:, None], sets[:, -1] / norms
    table = []
    for i in range(7):
        for j in range(7):
            if i == j:
                continue
            apart = np.linalg.norm(weights[i] - weights[j])
            ratio = apart / np.linalg.norm(weights[i] + weights[j])
            ratio += abs(biases[i] - biases[j]) / abs(biases[i] + biases[j])
            table.append((norms[j] ** 2 * np.mean(outgoing[j] ** 2) * ratio**2, j))
    assert curve.order[0] == min(table)[1]
    assert curve.costs[0] == pytest.approx(min(table)[0], rel=1e-3)


def test_ratio_of_opposite_and_equal_biases():
    weights = np.eye(3, dtype="float32")
    matrix = RatioDistances(weights, np.ones(3), np.zeros(3, "float32")).matrix.numpy()
    assert matrix[0, 1] == pytest.approx(1.0)  # 0/0 of the biases counts as 0
    matrix = RatioDistances(weights, np.ones(3), np.array([1.0, -1.0, 1.0], "float32"))
    matrix = matrix.matrix.numpy()
    assert np.isinf(matrix[0, 1]) and matrix[0, 2] == pytest.approx(1.0)
    opposite = np.array([[1.0, 0.0], [-1.0, 0.0]], "float32")
    assert np.isinf(RatioDistances(opposite, np.ones(2), np.ones(2, "float32")).matrix[0, 1])


def test_ties_go_to_the_smallest_removed_unit_and_the_smallest_survivor():
    sets = np.eye(4, 5, dtype="float32")  # all equally far from each other
    group = group_view(sets, (np.ones((4, 1, 1)),), "tanh")
    curve = dfprune.Saliency().curve(group, dfprune.Context())
    assert curve.order[0] == 0
    assert immediate_survivors(curve, 1) == [1]


def test_scaled_copies_are_close_in_float32():
    random = np.random.default_rng(0)
    one = random.normal(size=(1, 300)).astype("float32")
    sets = np.concatenate([one, 3 * one, 0.1 * one, random.normal(size=(1, 300))]).astype("float32")
    norms = np.linalg.norm(sets.astype(np.float64), axis=1)
    matrix = PairDistances(sets, norms).matrix.numpy()
    off_diagonal = matrix[:3, :3][~np.eye(3, dtype=bool)]
    assert off_diagonal.max() <= 1e-12
    exact = np.sum((sets[0] / norms[0] - sets[3] / norms[3]) ** 2)
    assert matrix[0, 3] == pytest.approx(exact, rel=1e-5)


def test_products_live_where_tensorflow_places_them(monkeypatch):
    placed = []
    original = tf.matmul

    def watched(*args, **kwargs):
        product = original(*args, **kwargs)
        placed.append(product.device)
        return product

    monkeypatch.setattr(tf, "matmul", watched)
    model = dense_chain([32, 3])
    with tf.device("CPU:1"):
        distances = PairDistances(np.ones((4, 3), "float32"), np.ones(4))
        assert distances.matrix.device.endswith("CPU:1")
        dfprune.plan(model, sparsity=0.5)
    assert placed and all(device.endswith("CPU:1") for device in placed)


def test_planning_makes_no_numpy_product_of_the_weight_sets(monkeypatch):
    units, inputs = 40, 30

    def forbid(name):
        original = getattr(np, name)

        def checked(*arrays, **kwargs):
            sizes = [np.size(array) for array in arrays if isinstance(array, np.ndarray)]
            assert not [size for size in sizes if size in (units * inputs, units * (inputs + 1))]
            return original(*arrays, **kwargs)

        monkeypatch.setattr(np, name, checked)

    model = dense_chain([units, 3], inputs=inputs)
    for name in ("matmul", "dot", "inner", "tensordot"):
        forbid(name)
    dfprune.plan(model, sparsity=0.5)


def test_surgery_decides():
    model = dense_chain([40, 5], seed=3)
    for target in range(20, 40):
        plant_copy(model.get_layer("fc1"), target - 20, target)
    x = inputs_of(model)
    with_surgery = dfprune.apply(model, sparsity=0.5)
    without = dfprune.apply(model, sparsity=0.5, method=dfprune.Saliency(surgery=False))
    wanted = outputs(model, x)
    np.testing.assert_allclose(outputs(with_surgery, x), wanted, atol=1e-5 * abs(wanted).max())
    assert np.abs(outputs(without, x) - wanted).max() > 0.1 * np.abs(wanted).max()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"normalize": "yes"}, "`normalize` must be one of 'auto', True, False.*'yes'"),
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
    plan = dfprune.plan(model, sparsity=0.5)
    assert plan.groups[0].removed.tolist() == [0]
    assert "exact removals only: the slope of exponential has no bound" in str(plan)
