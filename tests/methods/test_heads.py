"""Products of two matrices in each head are truncated at the least expected error."""

import numpy as np
import pytest

from keras_dfprune.methods.heads import HeadFactors, HeadView, head_curve


def factors(heads=3, rows=9, columns=7, dimensions=5, seed=0):
    random = np.random.default_rng(seed)
    left = random.normal(size=(heads, rows, dimensions))
    return HeadFactors(left, random.normal(size=(heads, columns, dimensions)))


def products(left, right):
    return left @ right.transpose(0, 2, 1)


@pytest.mark.parametrize("sizes", [{}, {"rows": 3}, {"columns": 4}, {"dimensions": 12}])
@pytest.mark.parametrize("rank", [1, 3, 5])
def test_maps_give_the_nearest_product_of_a_rank(sizes, rank):
    heads = factors(**sizes)
    u, values, vt = np.linalg.svd(products(heads.left, heads.right))
    count = min(rank, values.shape[1])
    nearest = u[:, :, :count] * values[:, None, :count] @ vt[:, :count]
    into, back = heads.maps(rank)
    assert into.shape == back.shape == (3, heads.dimensions, rank)
    np.testing.assert_allclose(products(heads.left @ into, heads.right @ back), nearest, atol=1e-9)
    np.testing.assert_allclose(heads.values[:, : values.shape[1]], values[:, : heads.dimensions])


def test_costs_are_the_squared_errors_of_all_heads():
    heads, shares = factors(), np.array([1.0, 2.0, 0.5])
    curve = head_curve(HeadView(heads, heads, np.zeros((3, 5)), shares, 1.0))
    assert curve.order.tolist() == [4, 3, 2, 1] and curve.lossless == 0
    whole = products(heads.left, heads.right)
    for count in range(5):
        merge = curve.merge(count)
        assert merge.kept.tolist() == list(range(5 - count))
        narrow = products(heads.left @ merge.into, heads.right @ merge.back)
        errors = np.square(narrow - whole).sum(axis=(1, 2))
        np.testing.assert_allclose(shares @ errors, curve.costs[:count].sum(), atol=1e-9)


def test_dimensions_of_value_zero_in_all_heads_are_lossless():
    heads = factors()
    heads.left[:, :, 3] = heads.left[:, :, 1]
    heads.left[:2, :, 0] = 0.0  # in two of three heads
    curve = head_curve(HeadView(heads, heads, np.zeros((3, 5)), np.ones(3), 1.0))
    assert curve.lossless == 1 and curve.costs[0] == 0.0 < curve.costs[1]
    dead = HeadFactors(0 * heads.left, heads.right)
    curve = head_curve(HeadView(dead, dead, np.zeros((3, 5)), np.ones(3), 1.0))
    assert curve.lossless == 4 and not curve.merge(4).into.any()


def test_the_mean_is_kept_or_lost_to_a_bias():
    heads, level = factors(), np.random.default_rng(1).normal(size=(3, 5))
    merge = head_curve(HeadView(heads, heads, level, np.ones(3), 1.0)).merge(2)
    through = np.einsum("hk,hkr,hdr->hd", level, merge.into, merge.back)
    np.testing.assert_allclose(through + merge.lost_level(), level, atol=1e-12)
