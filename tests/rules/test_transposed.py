"""Transposed convolutions: networks that upsample, edges, and what TensorFlow counts."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_dfprune as dfprune
from keras_dfprune.inputs.model_inputs import adapt_samples, run_model
from keras_dfprune.inputs.sample_inputs import draw_samples
from tests.support import random_graphs

layers = keras.layers


def normalized(layer, tensor):
    return layers.ReLU()(layers.BatchNormalization()(layer(tensor)))


def unet():
    """Build a U-Net that learns to upsample; each level gets the tensor of the way down too."""
    inputs = tensor = keras.Input((8, 12, 2))
    levels = []
    for filters in (5, 6):
        convolution = layers.Conv2D(filters, 3, padding="same", use_bias=False)
        levels.append(normalized(convolution, tensor))
        tensor = layers.MaxPooling2D()(levels[-1])
    tensor = layers.Conv2D(7, 3, padding="same", activation="relu")(tensor)
    for level, filters in zip(reversed(levels), (6, 5), strict=True):
        upsampled = layers.Conv2DTranspose(filters, 2, strides=2, padding="same")(tensor)
        tensor = layers.Concatenate()([upsampled, level])
        tensor = normalized(layers.Conv2D(filters, 3, padding="same"), tensor)
    return keras.Model(inputs, layers.Conv2D(2, 1, activation="softmax")(tensor))


def autoencoder():
    inputs = tensor = keras.Input((8, 8, 1))
    for filters in (6, 5):
        convolution = layers.Conv2D(filters, 3, strides=2, padding="same", activation="relu")
        tensor = convolution(tensor)
    for filters in (5, 6):
        convolution = layers.Conv2DTranspose(filters, 3, strides=2, padding="same")
        tensor = layers.LeakyReLU(0.2)(convolution(tensor))
    outputs = layers.Conv2D(1, 3, padding="same", activation="sigmoid")(tensor)
    return keras.Model(inputs, outputs)


def built(build):
    keras.utils.set_random_seed(0)
    model = build()
    random_graphs.randomize(model, np.random.default_rng(0))
    return model


def check_equal_outputs(pruned, model):
    samples = draw_samples(model)
    received = run_model(pruned, adapt_samples(samples, pruned))
    for name, expected in run_model(model, samples).items():
        assert np.abs(received[name] - expected).max() <= 1e-5 * np.abs(expected).max()


def check_planted_copies(build, whole):
    """Check that a copy goes from every layer but the last, exactly, and that merges agree."""
    model = built(build)
    dfprune.apply(model, method=random_graphs.Scatter(), sparsity=0.5)
    dfprune.apply(model, method="moments", sparsity=0.5)
    random_graphs.plant_copies(model)
    plan = dfprune.plan(model, tolerance=0)
    assert all(len(group.removed) == 1 for group in plan.groups)
    assert [refusal.layer for refusal in plan.refusals] == [whole(model)]
    check_equal_outputs(plan.apply(model), model)


@pytest.mark.parametrize("build", [unet, autoencoder])
def test_every_layer_of_a_network_that_upsamples_is_pruned(build):
    check_planted_copies(build, lambda model: model.layers[-1].name)


def between(layer, behind=()):
    """Build filters with a constant one in front of a transposed convolution."""
    inputs = keras.Input((5, 4, 2))
    hidden = layers.Conv2D(6, 2, activation="relu", name="producer")(inputs)
    hidden = layer(hidden)
    for step in behind:
        hidden = step(hidden)
    return keras.Model(inputs, layers.GlobalAveragePooling2D()(hidden))


@pytest.mark.parametrize(
    ("kernel", "strides", "goes"), [(1, 1, True), (3, 1, False), (2, 2, False), (1, 2, False)]
)
@pytest.mark.parametrize("is_normalized", [False, True])
def test_a_constant_filter_goes_only_where_it_stays_constant(kernel, strides, goes, is_normalized):
    layer = layers.Conv2DTranspose(3, kernel, strides=strides, use_bias=not is_normalized)
    behind = [layers.BatchNormalization(), layers.ReLU()] if is_normalized else []
    model = built(lambda: between(layer, behind))
    weights, bias = model.get_layer("producer").get_weights()
    weights[..., 1], bias[1] = 0.0, 2.0
    model.get_layer("producer").set_weights([weights, bias])
    plan = dfprune.plan(model, tolerance=0, layers=["producer"])
    assert len(plan.groups[0].removed) == int(goes)
    check_equal_outputs(plan.apply(model), model)
    # At the edges a BatchNormalization may be told an approximation, between zeros nothing.
    taken = goes or (is_normalized and strides == 1)
    seen = []

    class Watch(random_graphs.Scatter):
        def curve(self, group, context):
            seen.append(group.offset_allowed)
            return super().curve(group, context)

    dfprune.plan(model, method=Watch(), sparsity=0.5, layers=["producer"])
    assert set(seen) == {taken}


@pytest.fixture
def compiled_convolutions(monkeypatch):
    """Let XLA run transposed convolutions that TensorFlow has no CPU kernel for."""
    original, compiled = keras.src.backend.nn.conv_transpose, {}

    def conv_transpose(inputs, kernel, *options):
        key = repr(options)
        if key not in compiled:
            compiled[key] = tf.function(
                lambda x, k: original(x, k, *options), jit_compile=True, autograph=False
            )
        return compiled[key](inputs, kernel)

    monkeypatch.setattr(keras.src.backend.nn, "conv_transpose", conv_transpose)


@pytest.mark.parametrize(
    ("kind", "shape", "options"),
    [
        (layers.Conv1DTranspose, (2, 5), {"data_format": "channels_first", "strides": 2}),
        (layers.Conv2DTranspose, (5, 4, 2), {"dilation_rate": (2, 3), "use_bias": False}),
        (layers.Conv3DTranspose, (3, 2, 3, 2), {"strides": (1, 2, 3)}),
    ],
)
def test_other_ranks_and_settings(kind, shape, options, compiled_convolutions):
    def build():
        inputs = keras.Input(shape)
        hidden = kind(6, 2, activation="relu", **options)(inputs)
        return keras.Model(inputs, kind(3, 3, activation="tanh", **options)(hidden))

    check_planted_copies(build, lambda model: model.layers[-1].name)


def test_tensorflow_counts_the_same_products():
    model = keras.Sequential(
        [keras.Input((4, 4, 3)), layers.Conv2DTranspose(5, 3, strides=2, padding="same")]
    )
    function = tf.function(model).get_concrete_function(tf.TensorSpec((1, 4, 4, 3)))
    counting = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options = tf.compat.v1.profiler.ProfileOptionBuilder(counting).with_empty_output().build()
    root = tf.compat.v1.profiler.profile(function.graph, cmd="op", options=options)
    flops = {}
    while root.children:  # each is the child of the one before
        (root,) = root.children
        flops[root.name] = root.float_ops
    assert 2 * dfprune.profile(model).multiply_adds == flops["Conv2DBackpropInput"]
