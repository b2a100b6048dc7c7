"""`PostTrainPrune` prunes, scores and exports a model when `fit` ends."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_dfprune as dfprune
from tests.support.models import warnings_are_errors


def small_model(**compile_arguments):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(16, activation="relu", name="hidden"),
            keras.layers.Dense(3, name="logits"),
        ]
    )
    model.compile("adam", "mse", metrics=["mae"], **compile_arguments)
    return model


@pytest.fixture
def data():
    generator = np.random.default_rng(0)
    return generator.normal(size=(64, 6)).astype("float32"), generator.normal(size=(64, 3))


@pytest.fixture
def no_user_warning():
    """Turn every UserWarning into an error, but that of the outputs of small random models."""
    with warnings_are_errors():
        yield


class ChangesWeights(keras.callbacks.Callback):
    """Callback that changes the weights when training ends, as EarlyStopping can."""

    def on_train_end(self, logs=None):
        self.model.set_weights([2 * weight for weight in self.model.get_weights()])


def test_it_is_a_keras_callback():
    assert issubclass(dfprune.PostTrainPrune, tf.keras.callbacks.Callback)


@pytest.mark.usefixtures("no_user_warning")
def test_fit_leaves_the_pruned_model_in_the_callback(data):
    model = small_model()
    callback = dfprune.PostTrainPrune(sparsity=0.5)
    assert callback.pruned_model is None
    model.fit(*data, verbose=0, callbacks=[callback])
    assert callback.error is None
    assert callback.pruned_model.get_layer("hidden").units == 8
    assert model.get_layer("hidden").units == 16
    expected = dfprune.apply(model, sparsity=0.5)
    np.testing.assert_array_equal(
        callback.pruned_model.predict(data[0], verbose=0), expected.predict(data[0], verbose=0)
    )
    assert len(callback.plan.groups[0].removed) == 8


def test_the_pruned_model_is_compiled_and_trains_on(data):
    callback = dfprune.PostTrainPrune(sparsity=0.5)
    small_model().fit(*data, verbose=0, callbacks=[callback])
    pruned = callback.pruned_model
    before = pruned.evaluate(*data, verbose=0)[0]
    pruned.fit(*data, epochs=5, verbose=0)
    assert pruned.evaluate(*data, verbose=0)[0] < before


def test_scores_are_those_of_evaluate(data, capsys):
    model = small_model()
    callback = dfprune.PostTrainPrune(sparsity=0.5, validation_data=data)
    model.fit(*data, verbose=0, callbacks=[callback])
    expected = model.evaluate(*data, verbose=0, return_dict=True)
    assert callback.scores["trained"] == pytest.approx(expected)
    expected = callback.pruned_model.evaluate(*data, verbose=0, return_dict=True)
    assert callback.scores["pruned"] == pytest.approx(expected)
    assert capsys.readouterr().out == ""


def test_scores_of_a_data_set_and_of_weighted_samples(data):
    x, y = data
    weights = np.linspace(0, 1, len(x))
    weighted = dfprune.PostTrainPrune(sparsity=0.5, validation_data=[x, y, weights])
    batches = tf.data.Dataset.from_tensor_slices((x, y, weights)).batch(16)
    from_batches = dfprune.PostTrainPrune(sparsity=0.5, validation_data=batches)
    small_model().fit(x, y, verbose=0, callbacks=[weighted, from_batches])
    assert weighted.scores["pruned"]["loss"] == pytest.approx(
        from_batches.scores["pruned"]["loss"], rel=1e-5
    )
    plain = weighted.pruned_model.evaluate(x, y, verbose=0, return_dict=True)
    assert plain["loss"] != pytest.approx(weighted.scores["pruned"]["loss"], rel=1e-3)


def test_scoring_leaves_the_models_metrics_as_fit_left_them(data):
    x, y = data
    states = []
    for validation_data in (None, (x[:8], y[:8])):
        model = small_model()
        callback = dfprune.PostTrainPrune(sparsity=0.5, validation_data=validation_data)
        model.fit(x, y, verbose=0, callbacks=[callback])
        states.append([variable.numpy() for variable in model.metrics_variables])
    np.testing.assert_array_equal(*map(np.asarray, states))


def test_verbose_prints_the_plan_and_the_scores(data, capsys):
    callback = dfprune.PostTrainPrune(sparsity=0.5, validation_data=data, verbose=1)
    small_model().fit(*data, verbose=0, callbacks=[callback])
    out = capsys.readouterr().out
    assert "16 -> 8" in out
    assert f"pruned: loss {callback.scores['pruned']['loss']:.4f}" in out


@pytest.mark.parametrize("name", ["pruned.keras", "pruned.tflite", "saved_model"])
def test_export_path_is_written(data, tmp_path, name):
    callback = dfprune.PostTrainPrune(sparsity=0.5, export_path=tmp_path / name)
    small_model().fit(*data, verbose=0, callbacks=[callback])
    assert callback.error is None
    assert (tmp_path / name).exists()


def test_an_export_path_that_cannot_be_written_is_refused_before_training(tmp_path):
    with pytest.raises(ValueError, match="doesn't exist"):
        dfprune.PostTrainPrune(export_path=tmp_path / "missing" / "pruned.keras")


def test_an_error_does_not_lose_the_training(data):
    model = small_model()
    callback = dfprune.PostTrainPrune(sparsity={"no such layer": 0.5})
    with (
        pytest.warns(UserWarning, match="can't prune this model when.*no such layer"),
        pytest.warns(UserWarning, match="training is complete.*no such layer") as seen,
    ):
        history = model.fit(*data, verbose=0, callbacks=[callback])
    assert {warning.filename for warning in seen} == {__file__}  # where `fit` is called
    assert len(history.history["loss"]) == 1
    assert isinstance(callback.error, ValueError)
    assert callback.pruned_model is None
    assert callback.plan is None


def test_a_subclassed_model_is_pruned_after_its_training(data):
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden, self.head = keras.layers.Dense(12, "relu"), keras.layers.Dense(3)

        def call(self, x):
            return self.head(self.hidden(x))

    model, callback = Net(), dfprune.PostTrainPrune(sparsity=0.5, strict=True)
    model.compile("adam", "mse")
    model.fit(*data, verbose=0, callbacks=[callback])
    assert callback.pruned_model.layers[1].units == 6
    assert int(callback.pruned_model.optimizer.iterations) == int(model.optimizer.iterations)


def test_an_error_while_scoring_keeps_the_pruned_model(data):
    x, y = data
    callback = dfprune.PostTrainPrune(sparsity=0.5, validation_data=(x[:, :2], y))
    with pytest.warns(UserWarning, match="could not be scored"):
        small_model().fit(x, y, verbose=0, callbacks=[callback])
    assert callback.pruned_model is not None
    assert callback.error is not None


@pytest.mark.parametrize("bad", [{"sparsity": 2}, {"method": "magic"}, {"tolerance": -1}])
def test_arguments_that_suit_no_model_are_errors_before_the_training(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        dfprune.PostTrainPrune(**bad)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"sparsity": {"no such layer": 0.5}}, "no such layer"),
        ({"method": dfprune.Moments(prior={"no input": (0.0, 1.0)})}, "`prior` must name inputs"),
    ],
)
def test_strict_raises_before_the_training(data, bad, message):
    callback = dfprune.PostTrainPrune(**{"sparsity": 0.5, **bad}, strict=True)
    model = small_model()
    with pytest.raises(ValueError, match=message):
        model.fit(*data, verbose=0, callbacks=[callback])
    assert model.optimizer.iterations == 0


@pytest.mark.usefixtures("no_user_warning")
def test_a_callback_in_front_of_it_may_change_the_weights(data):
    callback = dfprune.PostTrainPrune(sparsity=0.5)
    small_model().fit(*data, verbose=0, callbacks=[ChangesWeights(), callback])
    assert callback.pruned_model is not None


def test_a_callback_behind_it_that_changes_the_weights_is_noticed(data):
    callback = dfprune.PostTrainPrune(sparsity=0.5)
    small_model().fit(*data, verbose=0, callbacks=[callback, ChangesWeights()])
    with pytest.warns(UserWarning, match=r"callbacks=\[early_stopping, post_train_prune\]"):
        assert callback.pruned_model is not None


def test_weights_that_early_stopping_restores_are_pruned(data):
    x, y = data
    stop = keras.callbacks.EarlyStopping("loss", patience=0, restore_best_weights=True)
    model = small_model()
    model.optimizer.learning_rate = 1.0
    callback = dfprune.PostTrainPrune(tolerance=0)
    model.fit(x, y, epochs=5, verbose=0, callbacks=[stop, callback])
    np.testing.assert_allclose(
        callback.pruned_model.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-4
    )


def test_a_second_fit_starts_anew(data):
    good, bad = small_model(), small_model()
    bad.get_layer("hidden").name = "other"
    callback = dfprune.PostTrainPrune(sparsity={"hidden": 0.5}, validation_data=data)
    good.fit(*data, verbose=0, callbacks=[callback])
    assert callback.pruned_model is not None
    with pytest.warns(UserWarning, match="hidden"):
        bad.fit(*data, verbose=0, callbacks=[callback])
    assert callback.pruned_model is callback.plan is callback.scores is None
    good.fit(*data, verbose=0, callbacks=[callback])
    assert callback.pruned_model is not None
    assert callback.error is None
