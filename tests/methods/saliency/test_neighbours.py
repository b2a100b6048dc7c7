"""Lists of neighbours against all distances at once, with small tiles and short lists."""

import numpy as np
import pytest

import keras_dfprune as dfprune
from keras_dfprune.methods.saliency import (
    distances,
    distances_float64,
    neighbours,
    pair_sample,
    saliency,
    tiles,
)
from keras_dfprune.methods.saliency.neighbours import Neighbours
from tests.methods.saliency.test_saliency import assert_agrees, random_layer
from tests.support.groups import group_view
from tests.support.models import matrix_of, plain_distances

# Rows of a tile, length of a list, units of the largest layer that stores its tiles.
SHAPES = [(1, 2, 0), (4, 1, 0), (5, 100, 0), (1, 2, 99), (4, 1, 99)]


def set_shape(monkeypatch, rows, length, most_units_stored):
    monkeypatch.setattr(neighbours, "ROWS", rows)
    monkeypatch.setattr(neighbours, "LENGTH", length)
    monkeypatch.setattr(neighbours, "_MOST_UNITS_STORED", most_units_stored)


@pytest.fixture(params=SHAPES, ids=str)
def tiny(request, monkeypatch):
    """Tiles and lists of very few units."""
    set_shape(monkeypatch, *request.param)


def cases():
    random = np.random.default_rng(0)
    noise = random.normal(size=(13, 5))
    yield "random", noise
    yield "two clusters", np.repeat([[3.0], [-2.0]], 7, axis=0)[:13] + 1e-3 * noise
    yield "hub", np.concatenate([noise[:1] * 0.01, noise[1:]])
    yield "orthogonal", np.eye(13, 14)
    yield "copies", np.concatenate([noise[:5], noise[:5], noise[:3]])


@pytest.mark.parametrize(("name", "sets"), list(cases()), ids=lambda value: str(value)[:8])
def test_lists_are_the_sorted_rows(tiny, name, sets):
    sets = sets.astype("float32")
    pairwise = plain_distances(sets)
    allowed = np.arange(len(sets)) % 4 != 2
    lists = Neighbours(pairwise, allowed, dfprune.Context(seed=0))
    matrix = np.where(allowed, matrix_of(pairwise), np.inf)
    alive = np.ones(len(sets), bool)
    for unit in np.random.default_rng(1).permutation(len(sets)):
        remaining = np.flatnonzero(alive)
        nearest, distance, certain = lists.nearest(remaining, allowed & alive)
        rows = np.where(alive, matrix, np.inf)[remaining]
        smallest = rows.min(axis=1)
        assert np.all(distance <= smallest * (1 + 1e-5))  # a bound where the list is exhausted
        np.testing.assert_allclose(distance[certain], smallest[certain], rtol=1e-5)
        listed = certain & np.isfinite(distance)
        of_nearest = rows[np.arange(len(remaining)), nearest]
        np.testing.assert_allclose(of_nearest[listed], smallest[listed], rtol=1e-5)
        pairs = zip(nearest.tolist(), distance.tolist(), listed, strict=True)
        expected = [(unit, away) if is_listed else None for unit, away, is_listed in pairs]
        assert [lists.nearest_listed(row, allowed & alive) for row in remaining] == expected
        lists.rebuild(remaining[~certain], allowed & alive, alive)
        assert lists.nearest(remaining, allowed & alive).certain.all()
        alive[unit] = False


def test_a_unit_alone_has_no_neighbour(tiny):
    one = np.ones(1, bool)
    lists = Neighbours(plain_distances(np.ones((1, 5))), one, dfprune.Context(seed=0))
    assert lists.nearest_listed(0, one) is None
    assert lists.nearest(np.array([0]), one).distances.tolist() == [np.inf]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("distance", ["weights", "ratio"])
def test_the_whole_path_is_that_of_plain_loops(tiny, seed, distance):
    assert_agrees(*random_layer(seed, units=9), distance=distance, normalize=seed > 1)


@pytest.mark.parametrize(("name", "sets"), list(cases()), ids=lambda value: str(value)[:8])
def test_the_order_does_not_depend_on_tiles(monkeypatch, name, sets):
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
    lists = Neighbours(plain_distances(sets), np.ones(9, bool), dfprune.Context(seed=0))
    nearest = lists.nearest(np.arange(9), np.ones(9, bool)).units
    assert nearest.tolist() == [1] + [0] * 8


@pytest.mark.parametrize("strategy", [None, "any"])
def test_few_tiles_wait_for_their_strip(monkeypatch, strategy):
    """At most eight of each of eight blocks. Of 46 units in blocks of 3 the last block has 1."""
    waiting, most = 0, 0

    def counted(function, pairs, strategy):
        nonlocal waiting, most
        for first, second in pairs:
            waiting += 1 if first is second else 2
            most = max(most, waiting)
            yield function(first, second)

    monkeypatch.setattr(tiles, "over_replicas", counted)
    pairwise = plain_distances(np.random.default_rng(6).normal(size=(46, 4)).astype("float32"))
    collected = np.zeros((46, 46), "float32")
    ends = np.zeros(46, int)
    blocks = tiles.UnitBlocks(pairwise, size=3)
    for strip in blocks.all_strips(dfprune.Context(strategy=strategy)):
        waiting -= -(-len(strip.columns) // 3)
        assert strip.columns.tolist() == list(range(ends[strip.rows[0]], strip.columns[-1] + 1))
        ends[strip.rows] = strip.columns[-1] + 1
        collected[np.ix_(strip.rows, strip.columns)] = strip.closeness
    assert waiting == 0 and 8 < most <= 64
    assert np.all(ends == 46)
    np.testing.assert_allclose(-collected, matrix_of(pairwise), rtol=1e-5)


@pytest.mark.parametrize(("most_units_stored", "again"), [(13, 0), (12, 2)])
def test_tiles_of_small_layers_are_computed_once(monkeypatch, most_units_stored, again):
    set_shape(monkeypatch, 4, 2, most_units_stored)
    computed = []

    def counted(self, *blocks):
        computed.append(1)
        return between(self, *blocks)

    between = distances.PairDistances.between
    monkeypatch.setattr(distances.PairDistances, "between", counted)
    pairwise = plain_distances(np.random.default_rng(7).normal(size=(13, 5)).astype("float32"))
    lists = Neighbours(pairwise, np.ones(13, bool), dfprune.Context(seed=0))
    assert len(computed) == 10  # of four blocks
    alive = np.arange(13) % 2 == 1
    lists.rebuild(np.array([1, 3]), alive, alive)
    assert len(computed) == 10 + again


def test_the_sample_is_all_pairs_or_those_of_some_units(tiny, monkeypatch):
    sets = np.random.default_rng(4).normal(size=(11, 4)).astype("float32")
    pairwise = plain_distances(sets)
    matrix, allowed = matrix_of(pairwise), np.arange(11) != 3
    sample = Neighbours(pairwise, allowed, dfprune.Context(seed=0)).sample
    np.testing.assert_allclose(sample, matrix, rtol=1e-5)
    monkeypatch.setattr(pair_sample, "_PAIRS", 100)
    sample = Neighbours(pairwise, allowed, dfprune.Context(seed=2)).sample
    units = sample.argmax(axis=1)  # infinitely far from itself
    np.testing.assert_allclose(sample, matrix[units], rtol=1e-5)
    blocks = -(-11 // neighbours.ROWS)
    share = max(1, 9 // blocks)  # 100 pairs are 9 rows of 11
    sizes = [min(neighbours.ROWS, 11 - first) for first in range(0, 11, neighbours.ROWS)]
    assert np.all(np.diff(units) > 0)
    assert np.bincount(units // neighbours.ROWS).tolist() == [min(share, size) for size in sizes]


@pytest.mark.parametrize("distance", ["weights", "ratio"])
def test_tiles_full_of_near_copies_take_the_product_in_float64(monkeypatch, distance):
    """Differences would take too long. The product's error is 1e-16 over the closeness at most."""
    random = np.random.default_rng(5)
    sets = np.repeat([[1.0], [-2.0]], 6, axis=0) + 1e-4 * random.normal(size=(12, 30))
    blocks = (random.normal(size=(12, 1, 3)),)
    group = group_view(sets.astype("float32"), blocks, "tanh")
    monkeypatch.setattr(distances_float64, "_NEAR_SHARE", 1.0)
    expected = dfprune.Saliency(distance=distance).curve(group, dfprune.Context())
    calls = []
    product = distances._by_product_in_float64
    monkeypatch.setattr(distances, "_NEAR_PAIRS_PER_ROW", 0)
    monkeypatch.setattr(
        distances, "_by_product_in_float64", lambda *args: calls.append(1) or product(*args)
    )
    curve = dfprune.Saliency(distance=distance).curve(group, dfprune.Context())
    assert calls
    assert curve.order.tolist() == expected.order.tolist()
    np.testing.assert_allclose(curve.costs, expected.costs, rtol=1e-5)
    equal = plain_distances(np.ones((4, 7), "float32") / 3)
    assert np.all(matrix_of(equal)[~np.eye(4, dtype=bool)] == 0)


def test_no_list_is_made_if_one_unit_is_left(monkeypatch):
    """Of equal units, the lossless removals leave one."""
    monkeypatch.setattr(saliency, "Neighbours", None)
    for sets in (np.ones((9, 4), "float32"), np.zeros((9, 4), "float32")):
        group = group_view(sets, (np.ones((9, 1, 2)),))
        curve = dfprune.Saliency().curve(group, dfprune.Context())
        assert len(curve.order) == 8 and curve.lossless == 8 and not curve.costs.any()


def remove_all(survivors, outgoing):
    """Remove all but one of some units with random weight-sets, of which only some may survive."""
    sets = np.random.default_rng(8).normal(size=(len(outgoing), 4)).astype("float32")
    can_survive = np.isin(np.arange(len(outgoing)), survivors)
    block = np.array(outgoing, "float32")[:, None, None]
    group = group_view(sets, (block,), "tanh", can_survive=can_survive)
    curve = dfprune.Saliency().curve(group, dfprune.Context())
    return curve, curve.merge(len(outgoing) - 1)


def test_only_units_that_may_survive_take_over(tiny):
    curve, merge = remove_all([4], np.arange(1, 8))
    assert merge.kept.tolist() == [4] and merge.survivor.tolist() == [0] * 6
    assert np.isfinite(curve.costs).all()
    curve, merge = remove_all([], np.arange(1, 8))
    assert curve.order.tolist() == list(range(6))
    assert merge.survivor.tolist() == [-1] * 6 and np.isinf(curve.costs).all()


def test_outgoing_weights_that_cancel_cost_nothing_at_any_distance(tiny):
    """Not even for the last unit that may survive, which has no neighbour."""
    curve, _ = remove_all([2], [1, 50, -1])
    assert curve.order.tolist() == [0, 2] and curve.costs[1] == 0
