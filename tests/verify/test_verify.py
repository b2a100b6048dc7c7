"""Verification against the wide twin catches wrong results, and warns if it can't verify."""

import dataclasses
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_dfprune as dfprune
from keras_dfprune.inputs.sample_inputs import draw_samples
from keras_dfprune.methods import lossless
from keras_dfprune.methods.merge import LinearMerge, SurvivorMerge
from keras_dfprune.rules.base import Rule
from keras_dfprune.rules.dense import DenseRule
from tests.support.models import dense_chain, plant_copy

layers = keras.layers


def test_a_wrong_surgery_is_caught(monkeypatch):
    model, half = dense_chain([10, 8, 3]), {"sparsity": 0.5, "method": "saliency"}
    original = SurvivorMerge.taken_over
    monkeypatch.setattr(SurvivorMerge, "taken_over", lambda *args: 2 * original(*args))
    with pytest.raises(dfprune.VerificationError, match="of the largest output from the original"):
        dfprune.apply(model, **half)
    dfprune.apply(model, **half, verify=False)
    plan = dfprune.plan(model, **half, verify=False)
    plan.apply(model)
    with pytest.raises(dfprune.VerificationError):
        plan.apply(model, verify=True)


def test_a_forgotten_offset_is_caught(monkeypatch):
    monkeypatch.setattr(DenseRule, "with_offset", lambda self, state, offset: state)
    with pytest.raises(dfprune.VerificationError):
        dfprune.apply(dense_chain([10, 3], "sigmoid"), sparsity=0.5, method="moments")


@keras.saving.register_keras_serializable("tests")
class Forgetful(layers.Layer):
    """Layer whose config leaves out the factor."""

    def __init__(self, factor=1.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x):
        return self.factor * x

    def get_config(self):
        return {"name": self.name}


def test_a_layer_with_an_incomplete_config_is_caught():
    model = keras.Sequential(
        [keras.Input((4,)), Forgetful(3.0), layers.Dense(6, "relu"), layers.Dense(2)]
    )
    with pytest.raises(dfprune.VerificationError, match="plain copy.*`get_config"):
        dfprune.apply(model, sparsity=0.5)


def test_a_random_model_can_t_be_verified():
    inputs = keras.Input((4,))
    noisy = layers.Lambda(lambda x: x + tf.random.normal(tf.shape(x)))(inputs)
    hidden = layers.Dense(6, "relu")(noisy)
    model = keras.Model(inputs, layers.Dense(2)(hidden))
    with pytest.warns(UserWarning, match="answers differently each time") as seen:
        dfprune.apply(model, sparsity=0.5)
    assert len([w for w in seen if "could not be verified" in str(w.message)]) == 1


class Counter(keras.layers.Layer):
    def build(self, shape):
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x):
        self.calls.assign_add(1)
        return x + self.calls


def test_the_state_of_layers_is_not_changed():
    inputs = keras.Input(batch_shape=(2, 4, 3), name="x")
    hidden = keras.layers.LSTM(4, stateful=True)(Counter(name="counter")(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Dense(8, "relu")(hidden)))
    data = np.ones((2, 4, 3), "float32")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*could not be verified")
        dfprune.apply(model, sparsity=0.5)
        dfprune.apply(model, data=data, sparsity=0.5)
    assert model.get_layer("counter").calls.numpy() == 0
    assert [state.numpy().any() for state in model.layers[2].states] == [False, False]


def test_a_model_with_unknown_image_sizes_is_verified():
    inputs = keras.Input((None, None, 2))
    hidden = layers.Conv2D(5, 5, activation="relu")(inputs)
    hidden = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 5, activation="relu")(hidden))
    model = keras.Model(inputs, layers.Dense(2)(hidden))
    assert dfprune.apply(model, sparsity=0.5).count_params() < model.count_params()


def test_outputs_that_are_not_finite_are_compared_where_they_are(monkeypatch):
    inputs = keras.Input((6,))
    scores = layers.Dense(3)(layers.Dense(8, "sigmoid")(inputs))
    model = keras.Model(inputs, [scores, keras.ops.log(-keras.ops.abs(inputs))])  # the second: NaN
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*could not be verified")
        pruned = dfprune.apply(model, sparsity=0.5)
    assert pruned.count_params() < model.count_params()
    monkeypatch.setattr(DenseRule, "with_offset", lambda self, state, offset: state)
    with pytest.raises(dfprune.VerificationError):
        dfprune.apply(model, sparsity=0.5, method="moments")


class Mixture(dfprune.Method):
    """User's method that replaces random units by random mixtures of the others."""

    def curve(self, group, context):
        random = np.random.default_rng(context.seed)
        order = random.permutation(group.units)[:-1]

        def merge(count):
            kept = np.setdiff1d(np.arange(group.units), order[:count])
            coefficients = random.normal(size=(len(kept), count))
            offset = np.zeros(group.units)
            offset[order[:count]] = random.normal(size=count)
            return dfprune.LinearMerge(kept, order[:count], offset, coefficients)

        return dfprune.Curve(order=order, costs=np.ones(len(order)), merge=merge)


@pytest.mark.parametrize("use_bias", [True, False])
def test_a_user_s_own_mixtures_are_verified(use_bias, monkeypatch):
    model = dense_chain([10, 8, 3], use_bias=use_bias)
    plan = dfprune.plan(model, sparsity=0.5, method=Mixture(), seed=3)
    pruned = plan.apply(model)
    assert pruned.count_params() == plan.parameters[1]
    assert pruned.get_layer("fc3").use_bias and pruned.get_layer("fc1").use_bias == use_bias
    assert any(group.merge.offset.any() for group in plan.groups)
    original = LinearMerge.taken_over
    monkeypatch.setattr(LinearMerge, "taken_over", lambda self, k: original(self, k) * 1.01)
    with pytest.raises(dfprune.VerificationError):
        plan.apply(model)


def shared_padding():
    """Build a convolution with zero padding, which can't take an offset."""
    inputs = keras.Input((6, 6, 2))
    hidden = layers.Conv2D(6, 3, activation="relu", name="units")(inputs)
    hidden = layers.Conv2D(4, 3, padding="same")(hidden)
    return keras.Model(inputs, layers.GlobalAveragePooling2D()(hidden))


def silenced():
    """Build a BatchNormalization that multiplies half of the units by 0."""
    hidden = [layers.Dense(10, "relu"), layers.BatchNormalization(), layers.Dense(3)]
    model = keras.Sequential([keras.Input((5,)), *hidden])
    hidden[1].gamma.assign(np.arange(10) % 2)
    return model


class TooFew(dfprune.Method):
    def curve(self, group, context):
        curve = Mixture().curve(group, context)
        return dfprune.Curve(curve.order, curve.costs, lambda count: curve.merge(1))


@pytest.mark.parametrize(
    ("method", "model", "message"),
    [
        (TooFew(), lambda: dense_chain([10, 3]), "must remove 5 of the 10 units of layer 'fc1'"),
        (Mixture(), shared_padding, "offset for layer 'units', which can't take one"),
        (Mixture(), silenced, "multiplied by 0 can't take over for others"),
    ],
)
def test_a_wrong_merge_of_a_user_s_method_is_an_error(method, model, message):
    with pytest.raises(ValueError, match=message):
        dfprune.plan(model(), sparsity=0.5, method=method)


def test_survivors_must_be_kept_units():
    with pytest.raises(ValueError, match="`survivor` must hold positions in `kept`"):
        SurvivorMerge([0, 1], [2], np.zeros(3), [2], [1.0])
    with pytest.raises(ValueError, match=r"must have shape \(removed,\) = \(1,\)"):
        SurvivorMerge([0, 1], [2], np.zeros(3), [0, 1], [1.0])


def test_masks_rolled_by_one_are_caught(monkeypatch):
    original = Rule.narrow

    def rolled(self, state, cut):
        if cut.outputs is not None:
            cut = dataclasses.replace(cut, outputs=np.roll(cut.outputs, 1))
        return original(self, state, cut)

    model = dense_chain([10, 8, 3])
    monkeypatch.setattr(Rule, "narrow", rolled)
    with pytest.raises(dfprune.VerificationError):
        dfprune.apply(model, sparsity=0.5)
    assert dfprune.apply(model, sparsity=0.5, verify=False).get_layer("fc1").units == 5


def test_a_lossless_removal_of_units_that_are_no_copies_is_caught(monkeypatch):
    """The wide twin merges what the plan merges; only the original shows the difference."""
    model = dense_chain([10, 8, 3])

    def wrong(group, surgery=True):
        return [lossless.Removal(0, 1, 1.0, 0.0)]

    with monkeypatch.context() as patched:
        patched.setattr("keras_dfprune.methods.saliency.saliency.lossless_removals", wrong)
        plan = dfprune.plan(model, tolerance=0, method="saliency")
    assert [(len(group.removed), group.curve.lossless) for group in plan.groups] == [(1, 1), (1, 1)]
    with pytest.raises(dfprune.VerificationError, match="only removals that change nothing"):
        plan.apply(model)
    plan.apply(model, verify=False)


def test_a_loaded_plan_still_knows_what_is_lossless(tmp_path):
    model = dense_chain([10, 8, 3])
    plant_copy(model.get_layer("fc1"), 2, 5)
    dfprune.plan(model, sparsity=0.5).save(tmp_path / "plan.npz")
    loaded = dfprune.PruningPlan.load(tmp_path / "plan.npz")
    assert [group.curve.lossless for group in loaded.groups] == [1, 0]


def test_an_output_of_strings_is_compared():
    """Strings can't be subtracted: they are equal or not."""
    inputs = keras.Input((6,))
    words = keras.layers.StringLookup(vocabulary=["a", "b", "c"], invert=True)
    hidden = keras.layers.Dense(8, "relu", name="units")(inputs)
    classes = keras.ops.cast(keras.ops.argmax(keras.layers.Dense(4)(inputs), axis=-1), "int64")
    model = keras.Model(inputs, [words(classes), keras.layers.Dense(2)(hidden)])
    pruned = dfprune.apply(model, sparsity=0.5)
    assert pruned.get_layer("units").units == 4
    x = np.random.default_rng(0).normal(size=(5, 6)).astype("float32")
    np.testing.assert_array_equal(pruned(x)[0], model(x)[0])


def saturated(last):
    """Build a model whose softmax is 1 for one class, whatever the input."""
    inputs = keras.Input((6,))
    hidden = layers.Dense(8, "relu", name="units")(inputs)
    model = keras.Model(inputs, last(hidden))
    model.weights[-1].assign([0.0, 500.0, 0.0])
    return model


@pytest.mark.parametrize(
    "last",
    [
        lambda x: layers.Dense(3, "softmax")(x),
        lambda x: layers.Softmax()(layers.Dense(3)(x)),
        lambda x: keras.ops.sigmoid(layers.Dense(3)(x) - 250.0),
    ],
    ids=["built in", "layer", "operation"],
)
def test_a_saturated_output_does_not_hide_a_wrong_model(last, monkeypatch):
    model = saturated(last)
    dfprune.apply(model, sparsity=0.5, method="saliency")
    original = SurvivorMerge.taken_over
    monkeypatch.setattr(SurvivorMerge, "taken_over", lambda *args: 9 * original(*args))
    with pytest.raises(dfprune.VerificationError):
        dfprune.apply(model, sparsity=0.5, method="saliency")


@pytest.mark.parametrize(
    "in_front",
    [
        lambda: layers.Cropping1D(10_000),
        lambda: lambda x: x[:, 500:],
        lambda: layers.Conv1D(2, 2, dilation_rate=600),
        lambda: layers.AveragePooling1D(300),
    ],
    ids=["crop", "slice", "dilation", "pooling"],
)
def test_samples_are_long_enough_for_the_model(in_front):
    inputs = keras.Input((None, 2))
    hidden = layers.Conv1D(4, 3, padding="same", activation="relu")(in_front()(inputs))
    model = keras.Model(inputs, layers.Conv1D(3, 1)(hidden))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*could not be verified")
        dfprune.apply(model, sparsity=0.5)


def test_a_model_that_fails_on_all_lengths_is_not_run_on_long_ones():
    lengths = []

    def fail(x):
        if x.shape[1] is not None and tf.executing_eagerly():
            lengths.append(x.shape[1])
            raise ValueError("wrong on purpose")
        return x

    inputs = keras.Input((None, 2))
    hidden = layers.Lambda(fail, output_shape=lambda shape: shape)(layers.Dense(4, "relu")(inputs))
    model = keras.Model(inputs, layers.Dense(3)(hidden))
    with pytest.raises(ValueError, match=r"said: .* Lambda.call\(\)\. wrong on purpose$"):
        draw_samples(model)
    assert max(lengths) == 256


def test_given_rows_take_the_place_of_random_ones():
    inputs = [keras.Input((3,), name="a"), keras.Input((2,), name="b")]
    model = keras.Model(inputs, layers.Dense(2)(layers.Concatenate()(inputs)))
    a, b = np.arange(9.0).reshape(3, 3), np.arange(6.0).reshape(3, 2)
    for rows in ([a, b], {"b": b, "a": a}):
        samples = draw_samples(model, rows)
        np.testing.assert_array_equal(samples["a"], a[:2])
        np.testing.assert_array_equal(samples["b"], b[:2])
