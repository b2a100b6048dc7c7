"""Batches of rows: the order of the epochs, mixtures of pairs, draws."""

import numpy as np

from keras_dfprune.refine.batches import RowBatches, in_chunks, needs_mixtures


def test_each_epoch_holds_every_row_once():
    batches = RowBatches([np.arange(10), np.arange(10) * 2], size=4, seed=1)
    rows = np.concatenate([batches(step)[0] for step in range(1, 6)])
    assert sorted(rows[:10]) == sorted(rows[10:]) == list(range(10))
    assert list(rows[:10]) != list(rows[10:])
    np.testing.assert_array_equal(batches(3)[1], 2 * batches(3)[0])
    again = RowBatches([np.arange(10)], size=4, seed=1)
    np.testing.assert_array_equal(again(4)[0], batches(4)[0])


def test_a_batch_may_be_larger_than_the_rows():
    (batch,) = RowBatches([np.arange(3)], size=8, seed=0)(2)
    assert len(batch) == 8 and set(batch) == {0, 1, 2}


def test_mixtures_lie_between_two_rows_and_share_their_pair():
    floats = np.eye(6, dtype="float32")[:, None]
    numbers = np.arange(6)
    mixed, whole = RowBatches([floats, numbers], size=50, seed=0, mixtures=True)(1)
    mixed = mixed[:, 0]
    assert mixed.dtype == np.float32
    np.testing.assert_allclose(mixed.sum(axis=1), 1, atol=1e-6)
    assert np.all(mixed >= 0) and np.all(np.count_nonzero(mixed, axis=1) <= 2)
    assert np.any(np.count_nonzero(mixed > 1e-3, axis=1) == 2)
    np.testing.assert_array_equal(whole, mixed.argmax(axis=1))


def test_half_of_a_mixed_batch_of_vectors_is_drawn():
    rows = np.random.default_rng(0).normal([3, -7, 0], [2, 0.5, 0], (40, 3)).astype("float32")
    (batch,) = RowBatches([rows], size=4000, seed=0, mixtures=True)(1)
    drawn = batch[:2000]
    np.testing.assert_allclose(drawn.mean(axis=0), rows.mean(axis=0), atol=0.2)
    np.testing.assert_allclose(drawn.std(axis=0), rows.std(axis=0), rtol=0.1)
    assert drawn[:, 0].max() > rows[:, 0].max()
    mixed = batch[2000:]
    assert np.all(mixed <= rows.max(axis=0) + 1e-5) and np.all(mixed >= rows.min(axis=0) - 1e-5)


def test_few_rows_of_floats_need_mixtures():
    assert needs_mixtures({"x": np.zeros((100, 3), "float32")})
    assert not needs_mixtures({"x": np.zeros((5000, 3), "float32")})
    assert not needs_mixtures({"x": np.zeros((100, 3), "int32")})


def test_the_last_chunk_is_short_or_filled_up():
    array = np.arange(5)
    assert [list(chunk[0]) for chunk in in_chunks([array], 3)] == [[0, 1, 2], [3, 4]]
    assert [list(chunk[0]) for chunk in in_chunks([array], 3, whole=True)] == [[0, 1, 2], [3, 4, 0]]
