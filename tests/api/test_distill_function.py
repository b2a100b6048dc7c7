"""`distill`: a trained copy of the narrow model, and clear errors for models that don't fit."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_dfprune as dfprune
from tests.support.models import dense_chain, inputs_of, outputs

layers = keras.layers


class OwnTraining(keras.Model):
    """Model with training logic of its own."""

    def train_step(self, data):
        raise AssertionError("not to be called")


def models():
    return dense_chain([5, 3], seed=2), dense_chain([20, 3], seed=1)


def weights(*models):
    return [np.array(weight) for model in models for weight in model.get_weights()]


@pytest.mark.parametrize("with_data", [True, False])
def test_the_copy_follows_and_both_models_stay(with_data):
    narrow, wide = models()
    x = inputs_of(wide, rows=300)
    start = weights(narrow, wide)
    result = dfprune.distill(narrow, wide, x[:200] if with_data else None, steps=150)
    for one, two in zip(weights(narrow, wide), start, strict=True):
        np.testing.assert_array_equal(one, two)
    assert isinstance(result, keras.Sequential) and result.layers[0] is not narrow.layers[0]
    before, after = (
        np.mean(np.square(outputs(model, x[200:]) - outputs(wide, x[200:])))
        for model in (narrow, result)
    )
    assert after < 0.8 * before


def test_the_result_is_compiled_and_a_seed_repeats_it():
    narrow, wide = models()
    narrow.compile("adam", "mse")
    narrow.fit(inputs_of(narrow), np.zeros((16, 3)), verbose=0)
    one, two = (dfprune.distill(narrow, wide, inputs_of(wide), steps=5, seed=4) for _ in range(2))
    assert one.loss == "mse" and int(one.optimizer.iterations.numpy()) == 1
    for a, b in zip(weights(one), weights(two), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("rows", [2, 3, 7])
def test_few_rows_and_other_kinds_of_data_are_taken(rows):
    narrow, wide = models()
    x = inputs_of(wide, rows=rows)
    for data in (x, tf.data.Dataset.from_tensor_slices((x, x)).batch(2), lambda: iter([x])):
        assert dfprune.distill(narrow, wide, data, steps=2).layers[0].units == 5


def test_a_model_with_its_own_training_works():
    inputs = keras.Input((6,))
    narrow = OwnTraining(inputs, layers.Dense(3)(layers.Dense(4, "relu")(inputs)))
    narrow.compile("adam", "mse")
    wide = dense_chain([20, 3])
    with pytest.warns(UserWarning, match="not compiled"):
        result = dfprune.distill(narrow, wide, inputs_of(wide), steps=20)
    assert np.any(outputs(result, inputs_of(wide)) != outputs(narrow, inputs_of(wide)))


def test_a_checkpoint_is_left_and_used(tmp_path):
    narrow, wide = models()
    path, x = tmp_path / "run.npz", inputs_of(wide, rows=40)
    one = dfprune.distill(narrow, wide, x, steps=20, checkpoint=path)
    two = dfprune.distill(narrow, wide, x, steps=20, checkpoint=str(path))
    for a, b in zip(weights(one), weights(two), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="steps: 20 in the file, 30 now"):
        dfprune.distill(narrow, wide, x, steps=30, checkpoint=path)


def test_verbose_prints_the_difference(capsys):
    narrow, wide = models()
    dfprune.distill(narrow, wide, inputs_of(wide), steps=5)
    assert capsys.readouterr().out == ""
    dfprune.distill(narrow, wide, inputs_of(wide), steps=5, verbose=1)
    assert "squared difference from the original over its variance" in capsys.readouterr().out


def test_models_and_arguments_that_do_not_fit_are_errors():
    narrow, wide = models()
    x = inputs_of(wide)
    with pytest.raises(ValueError, match=r"outputs of the same shapes.*narrow=.*2.*wide=.*3"):
        dfprune.distill(dense_chain([5, 2]), wide, x)
    with pytest.raises(ValueError, match=r"inputs of the same shapes"):
        dfprune.distill(dense_chain([5, 3], inputs=7), wide, x)
    integers = keras.Input((6,), dtype="int32")
    counts = keras.Model(integers, layers.Dense(3)(keras.ops.cast(integers, "float32")))
    with pytest.raises(ValueError, match=r"inputs of the same dtypes"):
        dfprune.distill(counts, wide, x)
    with pytest.raises(ValueError, match="at least 2 rows.*1 row"):
        dfprune.distill(narrow, wide, x[:1])
    with pytest.raises(ValueError, match="`data` doesn't fit"):
        dfprune.distill(narrow, wide, np.zeros((4, 9)))
    for name, value in [("steps", -1), ("steps", 1.5), ("batch_size", 0), ("seed", -1)]:
        with pytest.raises(ValueError, match=f"Expected `{name}`.*{value}"):
            dfprune.distill(narrow, wide, x, **{name: value})
    with pytest.raises(TypeError, match=r"keras\.Model"):
        dfprune.distill("narrow", wide, x)
    unbuilt = keras.Sequential([layers.Dense(3)])
    with pytest.raises(ValueError, match="isn't built"):
        dfprune.distill(narrow, unbuilt, x)
