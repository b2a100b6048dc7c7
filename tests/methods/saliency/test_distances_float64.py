"""Distances of clustered weight-sets in float64 against the differences of all pairs."""

import dataclasses

import numpy as np
import pytest

import keras_dfprune as dfprune
from keras_dfprune.methods.saliency import distances, distances_float64
from keras_dfprune.methods.saliency.blocks import concat_blocks
from keras_dfprune.methods.saliency.distances import PairDistances
from keras_dfprune.methods.saliency.distances_float64 import CentredDistances, weight_distances
from tests.methods.saliency.test_saliency import assert_agrees, random_layer
from tests.support.groups import group_view
from tests.support.models import matrix_of

UNITS = 40


def clusters(count, noise, coordinates=30):
    random = np.random.default_rng(count)
    centres = random.normal(size=(count, coordinates))
    sets = noise * random.normal(size=(UNITS, coordinates))
    return sets + centres[np.arange(UNITS) % count]


def clustered():
    yield "one", clusters(1, 1e-6)
    yield "one, in float32", clusters(1, 1e-4).astype("float32")
    yield "two", clusters(2, 1e-3)
    yield "two, of many coordinates", clusters(2, 1e-3, 700)
    yield "equal units", np.repeat(clusters(2, 1e-3, 501)[:4], 10, axis=0)
    yield "with a zero", np.concatenate([np.zeros((2, 30)), clusters(2, 1e-3)[2:]])
    yield "long and short", clusters(2, 1e-3) * np.where(np.arange(UNITS) % 2, 1e5, 1e-5)[:, None]
    yield "with a long unit", np.concatenate([clusters(1, 1e-3)[1:], 1e6 * clusters(1, 1.0)[:1]])


def pair_by_pair(sets, normalize):
    """Return squared distances in float64, and the norms."""
    sets = sets.astype(np.float64)
    norms = np.linalg.norm(sets, axis=1)
    if normalize:
        sets = sets / np.where(norms > 0, norms, 1.0)[:, None]
    matrix = np.sum(np.square(sets[:, None] - sets), axis=2)
    np.fill_diagonal(matrix, np.inf)
    return matrix, norms


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(("name", "sets"), list(clustered()), ids=lambda value: str(value)[:15])
def test_distances_are_those_of_differences(name, sets, normalize):
    expected, norms = pair_by_pair(sets, normalize)
    parts = (sets[:, :-1], sets[:, -1:])
    found = weight_distances(parts, norms, normalize)
    assert isinstance(found, CentredDistances)
    lengths = np.where(normalize & (norms > 0), 1.0, norms)
    sums = np.square(lengths)[:, None] + np.square(lengths)
    others = ~np.eye(UNITS, dtype=bool)
    for kind in (found, PairDistances(parts, norms, normalize)):
        matrix = matrix_of(kind)
        error = np.abs(np.where(others, matrix, 0.0) - np.where(others, expected, 0.0))
        assert np.all(error <= np.where(others, 1e-6 * expected, 0.0) + 1e-13 * sums)
        assert np.all(np.isinf(matrix) == ~others) and np.all(matrix[expected == 0] == 0)


def test_a_single_cluster_loses_no_digits():
    sets = clusters(1, 1e-6)
    expected, norms = pair_by_pair(sets, True)
    matrix = matrix_of(weight_distances((sets,), norms, True))
    np.testing.assert_allclose(matrix, expected, rtol=1e-6)


def test_tiles_and_parts_of_them_are_the_same():
    sets = clusters(2, 1e-3).astype("float32")
    found = weight_distances((sets,), np.linalg.norm(sets.astype(np.float64), axis=1), True)
    whole = matrix_of(found)
    first, second = found.block(0, 25), found.block(25, UNITS)
    np.testing.assert_allclose(found.between(first, second), whole[:25, 25:], rtol=1e-6)
    positions = np.array([1, 4, 9])
    some = found.between(first.subset(positions), concat_blocks([first, second]))
    np.testing.assert_allclose(some, whole[positions], rtol=1e-6)


@pytest.mark.parametrize("units", [1, 2, 500])
def test_random_weight_sets_stay_in_float32(units):
    sets = np.random.default_rng(units).normal(size=(units, 30)).astype("float32")
    norms = np.linalg.norm(sets.astype(np.float64), axis=1)
    assert not isinstance(weight_distances((sets,), norms, True), CentredDistances)


def test_the_sample_is_drawn_from_all_units():
    """Steps of 64 through the units would see only copies, or none."""
    sets = np.random.default_rng(0).normal(size=(4096, 8)).astype("float32")
    sets[np.arange(4096) % 64 > 40] = sets[0]
    norms = np.linalg.norm(sets.astype(np.float64), axis=1)
    assert isinstance(weight_distances((sets,), norms, True), CentredDistances)


def test_weight_sets_that_agree_in_most_coordinates_only_stay_in_float32():
    sets = clusters(1, 1e-6, 5000).astype("float32")
    apart = 700 * np.eye(UNITS, 5000, dtype="float32")
    norms = np.linalg.norm(sets.astype(np.float64) + apart, axis=1)
    assert isinstance(weight_distances((sets,), norms, False), CentredDistances)
    assert not isinstance(weight_distances((sets + apart,), norms, False), CentredDistances)


def test_256_clusters_of_4096_units_are_computed_in_float64():
    random = np.random.default_rng(0)
    sets = np.tile(random.normal(size=(256, 40)), (16, 1))
    sets += 1e-3 * random.normal(size=sets.shape)
    norms = np.linalg.norm(sets, axis=1)
    assert isinstance(weight_distances((sets,), norms, True), CentredDistances)


@pytest.mark.parametrize("normalize", [True, False])
def test_the_whole_path_is_that_of_plain_loops(normalize):
    group, sets, blocks = random_layer(1, units=12)
    sets = sets[:3][np.arange(12) % 3] + 1e-2 * sets
    group = dataclasses.replace(group, weights=sets[:, :-1], constants=sets[:, -1:])
    norms = np.linalg.norm(sets, axis=1)
    assert isinstance(weight_distances((sets,), norms, normalize), CentredDistances)
    assert_agrees(group, sets, blocks, normalize=normalize)


def test_no_tile_of_clusters_is_computed_twice(monkeypatch):
    def again(*args, **options):
        raise AssertionError("computed again in float64")

    sets = clusters(3, 1e-3).astype("float32")
    group = group_view(sets, (np.ones((UNITS, 1, 2), "float32") * np.arange(1, 41)[:, None, None],))
    expected = dfprune.Saliency().curve(group, dfprune.Context())
    monkeypatch.setattr(distances, "_with_near_pairs_in_float64", again)
    found = dfprune.Saliency().curve(group, dfprune.Context())
    np.testing.assert_array_equal(found.order, expected.order)
    monkeypatch.setattr(distances_float64, "_NEAR_SHARE", 1.0)
    with pytest.raises(AssertionError, match="computed again"):
        dfprune.Saliency().curve(group, dfprune.Context())
