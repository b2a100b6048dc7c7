"""Lists of neighbours from tiles against all distances at once, at tiny tiles and short lists."""

import numpy as np
import pytest

import keras_dfprune as dfprune
from keras_dfprune.methods.saliency import distances, distances_float64, neighbours
from keras_dfprune.methods.saliency.neighbours import Neighbours
from tests.methods.saliency.test_saliency import assert_agrees, random_layer
from tests.support.groups import group_view
from tests.support.models import matrix_of, plain_distances

# Rows of a tile, length of a list, units of the largest layer that keeps its tiles.
SHAPES = [(1, 2, 0), (4, 1, 0), (5, 100, 0), (1, 2, 99), (4, 1, 99)]


def set_shape(monkeypatch, rows, length, few):
    monkeypatch.setattr(neighbours, "ROWS", rows)
    monkeypatch.setattr(neighbours, "LENGTH", length)
    monkeypatch.setattr(neighbours, "_FEW_UNITS", few)


@pytest.fixture(params=SHAPES, ids=str)
def tiny(request, monkeypatch):
    """Tiles and lists of a few units."""
    set_shape(monkeypatch, *request.param)


def cases():
    random = np.random.default_rng(0)
    noise = random.normal(size=(13, 5))
    yield "random", noise
    yield "two clusters", np.repeat([[3.0], [-2.0]], 7, axis=0)[:13] + 1e-3 * noise
    yield "hub", np.concatenate([noise[:1] * 0.01, noise[1:]])
    yield "orthogonal", np.eye(13, 14)
    yield "copies", np.concatenate([noise[:5], noise[:5], noise[:3]])
    yield "one", noise[:1]


@pytest.mark.parametrize(("name", "sets"), list(cases()), ids=lambda value: str(value)[:8])
def test_lists_are_the_sorted_rows(tiny, name, sets):
    sets = sets.astype("float32")
    pairwise = plain_distances(sets)
    allowed = np.arange(len(sets)) % 4 != 2
    found = Neighbours(pairwise, allowed, dfprune.Context(seed=0))
    matrix = np.where(allowed, matrix_of(pairwise), np.inf)
    alive = np.ones(len(sets), bool)
    for unit in np.random.default_rng(1).permutation(len(sets)):
        left = np.flatnonzero(alive)
        nearest, distance, certain = found.nearest(left, allowed & alive)
        rows = np.where(alive, matrix, np.inf)[left]
        assert np.all(distance <= rows.min(axis=1) * (1 + 1e-5))  # a bound, even where it is dry
        np.testing.assert_allclose(distance[certain], rows.min(axis=1)[certain], rtol=1e-5)
        some = certain & np.isfinite(distance)
        picked = rows[np.arange(len(left)), nearest]
        np.testing.assert_allclose(picked[some], rows.min(axis=1)[some], rtol=1e-5)
        alone = [found.nearest_of(one, allowed & alive) for one in left]
        listed = zip(nearest.tolist(), distance.tolist(), some, strict=True)
        assert alone == [(one, away) if sure else None for one, away, sure in listed]
        found.refill(left[~certain], allowed & alive, alive)
        assert found.nearest(left, allowed & alive)[2].all()
        alive[unit] = False


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("distance", ["weights", "ratio"])
def test_the_whole_path_is_that_of_plain_loops(tiny, seed, distance):
    assert_agrees(*random_layer(seed, units=9), distance=distance, normalize=seed > 1)


@pytest.mark.parametrize(("name", "sets"), list(cases()), ids=lambda value: str(value)[:8])
def test_the_order_does_not_depend_on_tiles(monkeypatch, name, sets):
    if len(sets) < 2:
        return
    blocks = (np.random.default_rng(3).normal(size=(len(sets), 1, 3)),)
    group = group_view(sets.astype("float32"), blocks, "tanh")
    whole = dfprune.Saliency().curve(group, dfprune.Context())
    for shape in SHAPES:
        set_shape(monkeypatch, *shape)
        curve = dfprune.Saliency().curve(group, dfprune.Context())
        assert curve.order.tolist() == whole.order.tolist()
        np.testing.assert_allclose(curve.costs, whole.costs, rtol=1e-5, atol=1e-12)
        assert curve.cutoff == pytest.approx(whole.cutoff, rel=1e-5)


def test_ties_go_to_the_smallest_survivor_over_tiles(tiny):
    sets = np.eye(9, 10, dtype="float32")
    found = Neighbours(plain_distances(sets), np.ones(9, bool), dfprune.Context(seed=0))
    assert found.nearest(np.arange(9), np.ones(9, bool))[0].tolist() == [1] + [0] * 8


@pytest.mark.parametrize("strategy", [None, "any"])
def test_few_tiles_wait_for_the_sort(monkeypatch, strategy):
    """At most those of eight blocks, eight each; of 46 units the last tile has only 1."""
    monkeypatch.setattr(neighbours, "ROWS", 3)
    waiting, most = 0, 0
    joined = neighbours._joined

    def counted(function, pairs, strategy):
        nonlocal waiting, most
        for first, second in pairs:
            waiting += 1 if first is second else 2
            most = max(most, waiting)
            yield function(first, second)

    def counted_down(tiles):
        nonlocal waiting
        waiting -= len(tiles)
        return joined(tiles)

    monkeypatch.setattr(neighbours, "over_replicas", counted)
    monkeypatch.setattr(neighbours, "_joined", counted_down)
    sets = np.random.default_rng(6).normal(size=(46, 4)).astype("float32")
    context = dfprune.Context(seed=0, strategy=strategy)
    found = Neighbours(plain_distances(sets), np.ones(46, bool), context)
    assert waiting == 0 and most <= 64
    rows = found.sample.astype("float32")
    np.testing.assert_array_equal(found._units, np.argsort(rows, axis=1, kind="stable")[:, :32])


@pytest.mark.parametrize(("few", "again"), [(13, 0), (12, 2)])
def test_tiles_of_few_units_are_computed_once(monkeypatch, few, again):
    set_shape(monkeypatch, 4, 2, few)
    computed = []

    def counted(self, *blocks):
        computed.append(1)
        return between(self, *blocks)

    between = distances.PairDistances.between
    monkeypatch.setattr(distances.PairDistances, "between", counted)
    pairwise = plain_distances(np.random.default_rng(7).normal(size=(13, 5)).astype("float32"))
    found, alive = Neighbours(pairwise, np.ones(13, bool), dfprune.Context(seed=0)), np.ones(13)
    assert len(computed) == 10  # of four blocks
    alive[::2] = 0
    found.refill(np.array([1, 3]), alive > 0, alive > 0)
    assert len(computed) == 10 + again


def test_the_sample_is_all_pairs_or_those_of_some_units(tiny, monkeypatch):
    sets = np.random.default_rng(4).normal(size=(11, 4)).astype("float32")
    pairwise = plain_distances(sets)
    wanted = matrix_of(pairwise)
    found = Neighbours(pairwise, np.arange(11) != 3, dfprune.Context(seed=0))
    np.testing.assert_allclose(found.sample, wanted, rtol=1e-5)
    monkeypatch.setattr(neighbours, "_SAMPLE", 100)
    found = Neighbours(pairwise, np.arange(11) != 3, dfprune.Context(seed=2))
    units = found.sample.argmax(axis=1)  # infinitely far from itself
    np.testing.assert_allclose(found.sample, wanted[units], rtol=1e-5)
    blocks = -(-11 // neighbours.ROWS)
    share = max(1, 9 // blocks)  # 100 pairs are 9 rows of 11
    sizes = [min(neighbours.ROWS, 11 - first) for first in range(0, 11, neighbours.ROWS)]
    assert np.all(np.diff(units) > 0)
    assert np.bincount(units // neighbours.ROWS).tolist() == [min(share, size) for size in sizes]


@pytest.mark.parametrize("distance", ["weights", "ratio"])
def test_tiles_full_of_near_copies_take_the_product_in_float64(monkeypatch, distance):
    """Where differences would cost too much; the worst is 1e-16 over the closeness."""
    random = np.random.default_rng(5)
    sets = np.repeat([[1.0], [-2.0]], 6, axis=0) + 1e-4 * random.normal(size=(12, 30))
    blocks = (random.normal(size=(12, 1, 3)),)
    group = group_view(sets.astype("float32"), blocks, "tanh")
    monkeypatch.setattr(distances_float64, "_CROWDED", 1.0)
    wanted = dfprune.Saliency(distance=distance).curve(group, dfprune.Context())
    taken = []
    product = distances._product
    monkeypatch.setattr(distances, "_MANY", 0)
    monkeypatch.setattr(distances, "_product", lambda *rest: taken.append(1) or product(*rest))
    curve = dfprune.Saliency(distance=distance).curve(group, dfprune.Context())
    assert taken
    assert curve.order.tolist() == wanted.order.tolist()
    np.testing.assert_allclose(curve.costs, wanted.costs, rtol=1e-5)
    equal = plain_distances(np.ones((4, 7), "float32") / 3)
    assert np.all(matrix_of(equal)[~np.eye(4, dtype=bool)] == 0)


def test_no_list_is_made_where_nothing_is_left(monkeypatch):
    """All units equal: the lossless pass has taken them already."""
    monkeypatch.setattr(dfprune.methods.saliency, "Neighbours", None)
    for sets in (np.ones((9, 4), "float32"), np.zeros((9, 4), "float32")):
        group = group_view(sets, (np.ones((9, 1, 2)),))
        curve = dfprune.Saliency().curve(group, dfprune.Context())
        assert len(curve.order) == 8 and curve.lossless == 8 and not curve.costs.any()


def path_of(survivors, outgoing):
    """What `Saliency` does with random weight-sets where only some may survive."""
    sets = np.random.default_rng(8).normal(size=(len(outgoing), 4)).astype("float32")
    can_survive = np.isin(np.arange(len(outgoing)), survivors)
    block = np.array(outgoing, "float32")[:, None, None]
    group = group_view(sets, (block,), "tanh", can_survive=can_survive)
    curve = dfprune.Saliency().curve(group, dfprune.Context())
    return curve, curve.merge(len(outgoing) - 1)


def test_only_units_that_may_survive_take_over(tiny):
    curve, merge = path_of([4], np.arange(1, 8))
    assert merge.kept.tolist() == [4] and merge.survivor.tolist() == [0] * 6
    assert np.isfinite(curve.costs).all()
    curve, merge = path_of([], np.arange(1, 8))
    assert curve.order.tolist() == list(range(6))
    assert merge.survivor.tolist() == [-1] * 6 and np.isinf(curve.costs).all()


def test_a_sum_of_nothing_costs_nothing_at_any_distance(tiny):
    """The last unit that may survive, too: what it has taken over cancels."""
    curve, _ = path_of([2], [1, 50, -1])
    assert curve.order.tolist() == [0, 2] and curve.costs[1] == 0
