"""Under `MirroredStrategy` on two logical CPU devices."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_dfprune as dfprune

layers = keras.layers


@pytest.fixture
def mirrored():
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        model = keras.Sequential(
            [keras.Input((6,)), layers.Dense(12, "relu"), layers.BatchNormalization(),
             layers.Dense(10, "relu"), layers.Dense(2)]
        )  # fmt: skip
        model.compile("adam", "mse", metrics=["mae"])
    return model


def data():
    random = np.random.default_rng(0)
    return random.normal(size=(32, 6)).astype("float32"), random.normal(size=(32, 2))


def test_apply_on_a_mirrored_model(mirrored):
    x, y = data()
    mirrored.fit(x, y, verbose=0, epochs=2)
    assert len(mirrored.layers[0].kernel.value.values) == 2  # one for each device
    pruned = dfprune.apply(mirrored, sparsity=0.5)
    assert [pruned.layers[0].units, pruned.layers[2].units] == [6, 5]
    assert np.isfinite(pruned.evaluate(x, y, verbose=0)).all()
    lossless = dfprune.apply(mirrored, tolerance=0)
    np.testing.assert_allclose(lossless(x), mirrored(x), rtol=1e-4, atol=1e-5)
    pruned.fit(x, y, verbose=0)


def test_callback_in_a_mirrored_fit(mirrored):
    x, y = data()
    callback = dfprune.PostTrainPrune(sparsity=0.5, validation_data=(x, y), strict=True)
    mirrored.fit(x, y, verbose=0, callbacks=[callback])
    assert callback.pruned_model.layers[0].units == 6
    assert set(callback.scores) == {"trained", "pruned"}
