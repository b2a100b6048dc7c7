"""Draws for a measurement suit the inputs of the model that takes them."""

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from keras_dfprune.locate.locate import locate_model
from keras_dfprune.planning.guard_draws import guard_draws, stacked
from tests.support.models import dense_chain

layers = keras.layers


def drawn(model, rows=64, seed=0):
    return guard_draws(locate_model(model), rows, seed)


def behind(first, shape=(6,), **settings):
    inputs = keras.Input(shape, name="x", **settings)
    hidden = layers.Flatten()(first(inputs))
    return keras.Model(inputs, layers.Dense(2)(layers.Dense(8, "relu", name="fc1")(hidden)))


@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_token_ids_are_in_the_range_of_their_embedding(dtype):
    sets = drawn(behind(layers.Embedding(50, 4), (5,), dtype=dtype))
    ids = stacked(sets)["x"]
    assert ids.dtype == dtype and ids.shape[1:] == (5,)
    assert ids.min() == 0 and ids.max() == 49
    assert np.all(ids == np.round(ids))


def test_ids_that_two_embeddings_take_are_in_the_range_of_both():
    inputs = keras.Input((5,), name="x", dtype="int32")
    both = layers.Concatenate()([layers.Embedding(n, 3)(inputs) for n in (30, 7)])
    model = keras.Model(inputs, layers.Dense(2)(layers.Dense(8)(layers.Flatten()(both))))
    assert stacked(drawn(model))["x"].max() == 6


def test_draws_in_front_of_a_normalization_have_its_statistics():
    mean, variance = np.linspace(-50, 1000, 6), np.linspace(0.01, 400, 6)
    model = behind(layers.Normalization(mean=mean, variance=variance))
    x = drawn(model, rows=4000)["normal, times 1"]["x"]
    np.testing.assert_allclose(x.mean(axis=0), mean, atol=0.1 * np.sqrt(variance.max()))
    np.testing.assert_allclose(x.std(axis=0), np.sqrt(variance), rtol=0.1)


@pytest.mark.parametrize(
    ("layer", "low", "high"),
    [
        (lambda: layers.Rescaling(1 / 255), 0, 255),
        (lambda: layers.Rescaling(1 / 127.5, offset=-1), 0, 255),
    ],
)
def test_draws_in_front_of_a_rescaling_are_in_its_range(layer, low, high):
    sets = drawn(behind(layer(), (4, 4, 3)))
    x = sets["normal, times 1"]["x"]
    assert np.mean((x > low) & (x < high)) > 0.9
    assert x.mean() == pytest.approx((low + high) / 2, rel=0.1)
    assert "smooth" in sets


def test_unknown_inputs_are_drawn_at_several_scales_and_from_the_prior():
    sets = drawn(dense_chain([8, 3]))
    (name,) = sets["prior"]
    sizes = [np.std(samples[name]) for kind, samples in sets.items() if kind.startswith("normal")]
    assert len(sizes) > 2 and max(sizes) > 100 * min(sizes)
    positive = sets["sparse and positive"][name]
    assert np.all(positive >= 0) and np.mean(positive > 0) < 0.5
    assert {len(samples[name]) for samples in sets.values()} == {64}


def test_draws_depend_on_the_seed_alone():
    model = dense_chain([8, 3])
    (name,) = drawn(model)["prior"]
    one, two, other = (stacked(drawn(model, seed=seed))[name] for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, two)
    assert np.any(one != other)


def mixed_inputs():
    word = keras.Input((3,), name="word", dtype="int32")
    number = keras.Input((4,), name="number")
    label = keras.Input((1,), name="label", dtype="string")
    known = layers.StringLookup(vocabulary=["a", "b"], output_mode="one_hot")(label)
    parts = [layers.Flatten()(layers.Embedding(9, 2)(word)), number, known]
    hidden = layers.Dense(8, "relu", name="fc1")(layers.Concatenate()(parts))
    return keras.Model([word, number, label], layers.Dense(2)(hidden))


def test_several_inputs_of_different_kinds_are_drawn_together():
    model = mixed_inputs()
    for samples in drawn(model).values():
        assert {name: array.shape for name, array in samples.items()} == {
            "word": (64, 3), "number": (64, 4), "label": (64, 1)
        }  # fmt: skip
        assert samples["word"].max() < 9 and set(samples["label"].ravel()) <= {"a", "b"}
    plan = dfprune.plan(model, sparsity=0.5)
    assert 0 < plan.measured[0].change < np.inf
