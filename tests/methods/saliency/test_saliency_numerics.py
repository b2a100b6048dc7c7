"""Distances of near copies and of any size, and the device and precision of products."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

import keras_dfprune as dfprune
from keras_dfprune.methods.saliency import distances
from keras_dfprune.methods.saliency.distances import PairDistances, RatioDistances
from tests.support import reference
from tests.support.models import dense_chain, matrix_of, plain_distances


def exact_distances(sets, norms):
    rows = sets.astype(np.float64) / norms[:, None]
    return np.sum((rows[:, None] - rows[None]) ** 2, axis=2)


def off_diagonal(matrix):
    return matrix[~np.eye(len(matrix), dtype=bool)]


def test_scaled_copies_are_close_in_float32():
    random = np.random.default_rng(0)
    one = random.normal(size=(1, 300)).astype("float32")
    sets = np.concatenate([one, 3 * one, 0.1 * one, random.normal(size=(1, 300))]).astype("float32")
    norms = np.linalg.norm(sets.astype(np.float64), axis=1)
    matrix = matrix_of(PairDistances([sets], norms, normalize=True))
    assert off_diagonal(matrix[:3, :3]).max() <= 1e-12
    exact = np.sum((sets[0] / norms[0] - sets[3] / norms[3]) ** 2)
    assert matrix[0, 3] == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("spread", [1e-5, 1e-3, 3e-2, 0.05, 0.1, 1.0])
def test_near_copies_agree_with_float64(size, spread):
    """The largest error is just above `NEAR`, where the float32 product counts: 2^-24 / 4e-3."""
    random = np.random.default_rng(1)
    sets = size * (random.normal(size=(1, 300)) + spread * random.normal(size=(12, 300)))
    sets = sets.astype("float32")
    matrix = matrix_of(plain_distances(sets))
    wanted = exact_distances(sets, np.ones(12))
    np.testing.assert_allclose(off_diagonal(matrix), off_diagonal(wanted), rtol=3e-4)
    if spread <= 0.05:
        np.testing.assert_allclose(off_diagonal(matrix), off_diagonal(wanted), rtol=1e-6)
    assert np.all(np.isinf(np.diag(matrix)))
    np.testing.assert_array_equal(matrix, matrix.T)


def test_near_copies_taken_in_several_chunks(monkeypatch):
    monkeypatch.setattr(distances, "_ELEMENTS_AT_ONCE", 50)
    sets = (1 + 1e-4 * np.random.default_rng(2).normal(size=(11, 20))).astype("float32")
    matrix = matrix_of(plain_distances(sets))
    wanted = exact_distances(sets, np.ones(11))
    np.testing.assert_allclose(off_diagonal(matrix), off_diagonal(wanted), rtol=1e-6)


@pytest.mark.parametrize("kind", [PairDistances, RatioDistances])
def test_nothing_is_divided_by_a_norm_of_zero(kind, recwarn):
    sets = np.array([[0, 0], [3, 4], [0, 2]], "float32")
    rest = {"biases": np.zeros(3)} if kind is RatioDistances else {"normalize": True}
    matrix = matrix_of(kind([sets], np.array([0.0, 5.0, 2.0]), **rest))
    np.testing.assert_allclose(off_diagonal(matrix)[:3], [1, 1, 1])
    assert not recwarn


@pytest.mark.parametrize("size", [1e-150, 1e-60, 1e60, 1e150])
def test_float64_weight_sets_of_any_size(size):
    """Also beyond the exponents of float32."""
    sets = size * np.random.default_rng(4).normal(size=(6, 20))
    norms = size * np.linalg.norm(sets / size, axis=1)
    matrix = matrix_of(PairDistances([sets], norms, normalize=True))
    np.testing.assert_allclose(
        off_diagonal(matrix), off_diagonal(exact_distances(sets, norms)), rtol=1e-5
    )


@pytest.mark.parametrize("size", [1e-30, 1e-8, 1e8, 1e30])
def test_float32_weight_sets_of_any_size_beside_moderate_ones(size):
    sets = np.random.default_rng(4).normal(size=(6, 20))
    sets = (np.where(np.arange(6) % 2, size, 1.0)[:, None] * sets).astype("float32")
    norms = np.linalg.norm(sets.astype(np.float64), axis=1)
    matrix = matrix_of(PairDistances([sets], norms, normalize=True))
    np.testing.assert_allclose(
        off_diagonal(matrix), off_diagonal(exact_distances(sets, norms)), rtol=1e-5
    )


def test_weights_of_one_input_cancel_to_nothing():
    """W' is exactly 1 or -1. A ratio of 1e32 in place of x/0 would be the histogram's mode."""
    weights = np.array([[49], [1], [-49], [-1]], "float32")  # 49 * (1 / 49) is not 1
    norms = np.abs(weights[:, 0]).astype(np.float64)
    alike = np.sign(weights) == np.sign(weights.T)
    plain = off_diagonal(matrix_of(PairDistances([weights], norms, normalize=True)))
    np.testing.assert_allclose(plain, off_diagonal(np.where(alike, 0.0, 4.0)), rtol=1e-6)
    ratio = off_diagonal(matrix_of(RatioDistances([weights], norms, norms)))
    np.testing.assert_array_equal(ratio, off_diagonal(np.where(alike, 0.0, np.inf)))


def test_the_order_of_near_copies_is_that_of_float64():
    """The float32 product loses everything beside a common part a thousand times larger."""
    random = np.random.default_rng(3)
    model = dense_chain([8, 3], "tanh", inputs=40)
    kernel = 10 * random.normal(size=(40, 1)) + 1e-2 * random.normal(size=(40, 8))
    model.get_layer("fc1").set_weights([kernel, np.zeros(8)])
    group = dfprune.plan(model, sparsity=0.9, method="saliency").groups[0]
    sets = np.concatenate([model.get_layer("fc1").kernel.numpy(), np.zeros((1, 8))]).T
    wanted = reference.greedy(sets, [model.get_layer("fc2").kernel.numpy()[:, None]], 7)
    assert group.removed.tolist() == wanted[0]
    np.testing.assert_allclose(group.saliency, wanted[2], rtol=1e-5)


def test_tensor_float_32_is_off_for_the_product_alone(monkeypatch):
    seen, product = [], tf.matmul
    enabled = tf.config.experimental.tensor_float_32_execution_enabled

    def watched(*args, **kwargs):
        seen.append(enabled())
        return product(*args, **kwargs)

    monkeypatch.setattr(tf, "matmul", watched)
    before = enabled()
    for state in (True, False):
        tf.config.experimental.enable_tensor_float_32_execution(state)
        matrix_of(plain_distances(np.eye(4, 3, dtype="float32")))
        assert enabled() is state
    tf.config.experimental.enable_tensor_float_32_execution(before)
    assert seen == [False, False]


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
        found = plain_distances(np.ones((4, 3), "float32"))
        block = found.block(0, 4)
        assert block.values.device.endswith("CPU:1")
        assert found.between(block, block).device.endswith("CPU:1")
        dfprune.plan(model, method="saliency", tolerance=0)
    assert placed and all(device.endswith("CPU:1") for device in placed)


PRODUCTS = ("matmul", "vecdot", "dot", "vdot", "inner", "outer", "tensordot", "einsum", "kron",
            "correlate", "convolve", "cdist")  # fmt: skip


class Watched(np.ndarray):
    """Array of weight-sets that raises an error in a NumPy product, also as `@` and after a cast.

    Matrices that are computed from it are watched, too. Sums that give one number for each unit are
    allowed: they are one pass over memory.
    """

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **kwargs):
        if ufunc.__name__ in PRODUCTS:
            raise AssertionError(f"NumPy product of weight-sets: {ufunc.__name__}")
        plain = [one.view(np.ndarray) if isinstance(one, Watched) else one for one in inputs]
        if out is not None:
            kwargs["out"] = tuple(np.asarray(one) for one in out)
        return watch(getattr(ufunc, method)(*plain, **kwargs))

    def __array_function__(self, function, types, args, kwargs):
        one_each = function is np.einsum and args[0].endswith("->i")
        if function.__name__ in PRODUCTS and not one_each:
            raise AssertionError(f"NumPy product of weight-sets: {function.__name__}")
        return watch(super().__array_function__(function, types, args, kwargs))

    def dot(self, *args, **kwargs):
        raise AssertionError("NumPy product of weight-sets: ndarray.dot")


def watch(value):
    large = isinstance(value, np.ndarray) and value.ndim == 2 and value.dtype.kind == "f"
    return value.view(Watched) if large else value


class OnWatched(dfprune.Method):
    """Method that gets watched weight-sets."""

    def __init__(self, method):
        self._method = method

    def curve(self, group, context):
        weights, constants = (part.view(Watched) for part in (group.weights, group.constants))
        group = dataclasses.replace(group, weights=weights, constants=constants)
        return self._method.curve(group, context)


@pytest.mark.parametrize("options", [{}, {"normalize": False}, {"distance": "ratio"}])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_planning_makes_no_numpy_product_of_the_weight_sets(options, activation):
    model = dense_chain([40, 3], activation, inputs=30)
    method = OnWatched(dfprune.Saliency(**options))
    assert len(dfprune.plan(model, sparsity=0.5, method=method).groups[0].removed) == 20


@pytest.mark.parametrize(
    "product",
    [
        lambda sets: sets @ sets.T,
        lambda sets: np.asarray(sets[:, :3], sets.dtype).T @ sets,
        lambda sets: sets.astype(np.float64).dot(np.ones(sets.shape[1])),
        lambda sets: np.einsum("ij,kj->ik", sets / 2, sets),
        lambda sets: np.inner(np.concatenate([sets, sets]), sets),
    ],
)
def test_a_numpy_product_would_be_seen(product):
    with pytest.raises(AssertionError, match="NumPy product of weight-sets"):
        product(np.ones((40, 31), "float32").view(Watched))
