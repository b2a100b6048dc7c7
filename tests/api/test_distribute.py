"""Models under MirroredStrategy on four devices are pruned and trained on afterwards."""

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from tests.support.models import inputs_of, outputs, plant_copy, relative_difference

layers = keras.layers


def mirrored(strategy, optimizer="adam"):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.Input((6,)),
                layers.Dense(8, "relu", name="first"),
                layers.BatchNormalization(),
                layers.Dense(7, "tanh", name="second"),
                layers.Dense(2),
            ]
        )
        model.compile(optimizer, "mse")
    return model


def data(rows=8):
    random = np.random.default_rng(0)
    return random.normal(size=(rows, 6)), random.normal(size=(rows, 2))


def steps(model):
    return int(model.optimizer.iterations.numpy())


def test_copies_are_removed_from_a_mirrored_model(strategy):
    model = mirrored(strategy)
    assert len(strategy.experimental_local_results(model.get_layer("first").kernel.value)) == 4
    plant_copy(model.get_layer("second"), 0, 1)
    x = inputs_of(model)
    before = outputs(model, x)
    plan = dfprune.plan(model, tolerance=0)
    assert [len(group.removed) for group in plan.groups] == [0, 1]
    assert relative_difference(outputs(plan.apply(model), x), before) <= 1e-5
    np.testing.assert_array_equal(outputs(model, x), before)


@pytest.mark.parametrize("method", ["saliency", "moments"])
def test_trained_model_is_pruned_outside_the_scope(strategy, method, tmp_path):
    model = mirrored(strategy)
    model.fit(*data(), batch_size=4, verbose=0)
    pruned = dfprune.apply(model, method=method, sparsity=0.5)
    assert pruned.get_layer("first").units == 4
    assert steps(pruned) == steps(model) == 2
    pruned.fit(*data(), batch_size=4, verbose=0)
    assert steps(model) == 2
    pruned.save(tmp_path / "pruned.keras")
    loaded = keras.saving.load_model(tmp_path / "pruned.keras")
    x = inputs_of(model)
    assert relative_difference(outputs(loaded, x), outputs(pruned, x)) <= 1e-6


def test_result_made_inside_the_scope_trains_on_all_devices(strategy):
    model = mirrored(strategy)
    model.fit(*data(16), batch_size=8, verbose=0)
    with strategy.scope():
        pruned = dfprune.apply(model, sparsity=0.5)
    values = strategy.experimental_local_results(pruned.get_layer("first").kernel.value)
    assert len(values) == 4
    before = pruned.get_layer("first").kernel.numpy()
    pruned.fit(*data(16), batch_size=8, verbose=0)
    values = strategy.experimental_local_results(pruned.get_layer("first").kernel.value)
    for value in values[1:]:
        np.testing.assert_array_equal(value.numpy(), values[0].numpy())
    assert np.abs(values[0].numpy() - before).max() > 0


def test_refinement_inside_the_scope_is_an_error(strategy):
    model = mirrored(strategy)
    plan = dfprune.plan(model, refine_steps=1, sparsity=0.5)
    with strategy.scope(), pytest.raises(ValueError, match=r"outside `strategy.scope\(\)`"):
        plan.apply(model)
    assert plan.apply(model).get_layer("first").units == 4


def test_callback_prunes_when_a_distributed_fit_ends(strategy):
    model = mirrored(strategy)
    callback = dfprune.PostTrainPrune(sparsity=0.5, strict=True, validation_data=data())
    model.fit(*data(), batch_size=4, epochs=2, verbose=0, callbacks=[callback])
    pruned = callback.pruned_model
    assert callback.error is None
    assert callback.scores["pruned"]["loss"] > 0
    assert [layer.units for layer in pruned.layers if isinstance(layer, layers.Dense)] == [4, 3, 2]
    direct = dfprune.apply(model, sparsity=0.5)
    x = inputs_of(model)
    assert relative_difference(outputs(direct, x), outputs(pruned, x)) <= 1e-6
    before = steps(pruned)
    pruned.fit(*data(), batch_size=4, verbose=0)
    assert steps(pruned) == before + 2
