"""The automatic cut-off: the mode of the histogram, and layers without one."""

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from keras_dfprune.methods.saliency.cutoff import mode_of_saliencies
from tests.support.models import dense_chain, plant_copy


def test_the_mode_is_the_centre_of_the_tallest_smoothed_bin():
    random = np.random.default_rng(0)
    spike = np.full(3_000, 4.0)  # one tall bin is no bulk
    values = np.concatenate([np.abs(random.normal(10, 1, 20_000)), spike])
    mode, (counts, edges) = mode_of_saliencies(values.reshape(-1, 10), np.ones(10))
    top = np.percentile(values, 95)
    expected, _ = np.histogram(values[values <= top], bins=50, range=(0, top))
    np.testing.assert_array_equal(counts, expected)
    assert edges[0] == 0 and edges[-1] == pytest.approx(top)
    smooth = np.convolve(expected, np.ones(5) / 5, "same")
    tallest = int(np.argmax(smooth))
    assert mode == pytest.approx((edges[tallest] + edges[tallest + 1]) / 2)
    assert 9 < mode < 11


@pytest.mark.parametrize(
    ("values", "units"),
    [
        (np.linspace(1, 2, 42), 7),  # fewer than eight units
        (np.full(90, 3.0), 10),  # all equal
        (np.concatenate([np.full(80, 0.001), np.linspace(1, 2, 10)]), 10),  # mode in the first bin
        (np.full(90, np.inf), 10),
    ],
)
def test_there_is_no_mode(values, units):
    mode, _ = mode_of_saliencies(values.reshape(-1, units), np.ones(units))
    assert mode is None


def test_units_go_until_the_first_cost_reaches_the_cutoff():
    model = dense_chain([60, 5], seed=1)
    group = dfprune.plan(model, method="saliency").groups[0]
    count = len(group.removed)
    assert 0 < count < 59
    assert np.all(group.saliency[:count] < group.cutoff) and group.saliency[count] >= group.cutoff
    half = dfprune.plan(model, method=dfprune.Saliency(cutoff_scale=0.5)).groups[0]
    assert len(half.removed) == int(0.5 * count + 0.5)
    assert len(group.saliency) == 59


def test_filters_stay_without_a_budget():
    model = keras.Sequential(
        [keras.Input((8, 8, 2)), keras.layers.Conv2D(30, 3, activation="relu", name="conv"),
         keras.layers.Flatten(), keras.layers.Dense(3)]
    )  # fmt: skip
    plan = dfprune.plan(model, method="saliency")
    assert len(plan.groups[0].removed) == 0 and plan.groups[0].cutoff is None
    assert "conv: the automatic cut-off is for Dense layers only; give `sparsity`" in str(plan)
    exact = dfprune.plan(model, method="saliency", tolerance=0)
    assert "give `sparsity`" not in str(exact)  # a budget was given
    half = dfprune.plan(model, method="saliency", sparsity=0.5)
    assert len(half.groups[0].removed) == 15 and "automatic" not in str(half)


def test_a_small_layer_loses_only_what_is_lossless():
    model = dense_chain([7, 3])
    plant_copy(model.get_layer("fc1"), 0, 5)
    assert dfprune.plan(model, method="saliency").groups[0].removed.tolist() == [0]
