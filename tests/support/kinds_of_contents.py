"""Kinds of models whose state or code is not all in configs and weights."""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np

layers = keras.layers
Dense = layers.Dense


@dataclasses.dataclass(frozen=True)
class Row:
    """Kind of model, and how the result is compared with it.

    Attributes:
        build: Builds the model, as in `kinds`.
        bound: Largest relative difference of the outputs.
        load: Arguments of `load_model`, or None if Keras can't read the file.
    """

    build: Callable
    bound: float
    load: dict | None


ROWS: dict[str, Row] = {}


def row(bound=1e-5, load=()):
    """Return a decorator that enters a row."""

    def register(build):
        ROWS[build.__name__] = Row(build, bound, None if load is None else dict(load))
        return build

    return register


def sequential(*parts, shape=(6,)):
    return keras.Sequential([keras.Input(shape), *parts])


@keras.saving.register_keras_serializable("kinds")
class Registered(layers.Layer):
    def __init__(self, factor=1.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def build(self, input_shape):
        self.gain = self.add_weight(shape=(input_shape[-1],), name="gain")

    def call(self, inputs):
        return inputs * self.gain * self.factor

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


class Unregistered(Registered):
    pass


class WithoutConfig(Registered):
    def get_config(self):
        raise NotImplementedError


class Chosen(layers.Layer):
    """Layer that adds its second input if there is one."""

    def call(self, first, second=None):
        return first if second is None else first + second

    def compute_output_shape(self, first_shape, second_shape=None):
        return first_shape


class FunctionalSubclass(keras.Model):
    def __init__(self):
        inputs = keras.Input((6,))
        hidden = Dense(8, "relu", name="scaled1")(inputs)
        super().__init__(inputs=inputs, outputs=Dense(3)(hidden))


def bent(x):
    return keras.ops.relu(x) - 0.1 * x


@row()
def masks_upstream():
    inputs = keras.Input((5,), dtype="int32")
    hidden = layers.Embedding(7, 6, mask_zero=True)(inputs)
    hidden = layers.LSTM(5)(hidden)
    return keras.Model(inputs, Dense(3)(Dense(8, "relu", name="scaled1")(hidden)))


@row()
def masks_through_dense_layers():
    """The mask reaches the average, so padding doesn't count."""
    inputs = keras.Input((5,), dtype="int32")
    hidden = layers.Embedding(7, 6, mask_zero=True)(inputs)
    hidden = layers.Dropout(0.1)(Dense(8, "relu", name="scaled1")(hidden))
    return keras.Model(inputs, Dense(3)(layers.GlobalAveragePooling1D()(hidden)))


@row()
def recurrent_with_several_outputs():
    inputs = keras.Input((4, 6))
    sequence, state, cell = layers.LSTM(5, return_sequences=True, return_state=True)(inputs)
    joined = layers.Concatenate()([layers.Flatten()(sequence), state, cell])
    return keras.Model(inputs, Dense(3)(Dense(8, "relu", name="scaled1")(joined)))


@row()
def attention_called_by_names():
    inputs = keras.Input((4, 6))
    hidden = layers.MultiHeadAttention(2, 3)(query=inputs, value=inputs, key=inputs)
    hidden = layers.LayerNormalization()(layers.Add()([hidden, inputs]))
    return keras.Model(inputs, Dense(3)(Dense(8, "gelu", name="copy1")(hidden)))


@row(bound=2e-2)
def mixed_float16_of_one_layer():
    # In float16, unit 3 is no exact multiple of unit 2, so there are only plain copies.
    return sequential(
        Dense(8, "relu", name="copy1", dtype="mixed_float16"),
        Dense(7, "tanh", name="copy2", dtype="mixed_bfloat16"), Dense(3),
    )  # fmt: skip


@row(bound=5e-2)
def mixed_bfloat16_of_all():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        return sequential(
            Dense(8, "relu", name="copy1"), Dense(7, "tanh", name="copy2"), Dense(3)
        )  # fmt: skip
    finally:
        keras.config.set_dtype_policy("float32")


@row()
def float64():
    return sequential(Dense(8, "relu", name="scaled1", dtype="float64"), Dense(3, dtype="float64"))


@row()
def frozen_layers():
    model = sequential(Dense(8, "relu", name="scaled1"), Dense(7, "tanh", name="copy2"), Dense(3))
    model.layers[0].trainable = False
    return model


@row()
def regularizers_and_constraints():
    return sequential(
        Dense(8, "relu", name="scaled1", kernel_regularizer=keras.regularizers.L2(0.01),
              bias_constraint=keras.constraints.MaxNorm(3.0), kernel_constraint="non_neg",
              activity_regularizer=keras.regularizers.L1(0.01)),
        Dense(3, kernel_regularizer="l1"),
    )  # fmt: skip


def text(lookup):
    inputs = keras.Input((2,), dtype="string")
    hidden = layers.Flatten()(layers.Embedding(6, 4)(lookup(inputs)))
    return keras.Model(inputs, Dense(3)(Dense(8, "relu", name="scaled1")(hidden)))


@row()
def lookup_of_a_vocabulary():
    return text(layers.StringLookup(vocabulary=["a", "b", "c"]))


@row()
def adapted_lookup():
    lookup = layers.StringLookup()
    lookup.adapt(np.array([["a"], ["b"], ["b"], ["c"]]))
    return text(lookup)


@row()
def adapted_normalization():
    norm = layers.Normalization()
    norm.adapt(np.random.default_rng(0).normal(3, 5, (50, 6)))
    return sequential(norm, Dense(8, "relu", name="scaled1"), Dense(3))


@row()
def registered_layer():
    return sequential(Registered(2.0), Dense(8, "relu", name="scaled1"), Dense(3))


@row(load={"custom_objects": {"Unregistered": Unregistered}})
def unregistered_layer():
    return sequential(Unregistered(2.0), Dense(8, "relu", name="scaled1"), Dense(3))


@row(load=None)
def layer_without_config():
    return sequential(WithoutConfig(2.0), Dense(8, "relu", name="scaled1"), Dense(3))


@row(load={"safe_mode": False})
def python_lambda():
    shift = 1.5
    return sequential(
        layers.Lambda(lambda x: 2 * x + shift), Dense(8, "relu", name="scaled1"), Dense(3)
    )


@row(load={"custom_objects": {"bent": bent}})
def unregistered_activation():
    return sequential(Dense(8, bent, name="scaled1"), Dense(3))


@row(load=None)
def function_that_is_only_called_relu():
    def relu(x):
        return keras.ops.tanh(x)

    return sequential(Dense(8, relu, name="copy1"), Dense(3))


@row()
def adapters():
    model = sequential(Dense(8, "relu", name="scaled1"), Dense(7, "tanh", name="copy2"), Dense(3))
    random = np.random.default_rng(5)

    def finish():
        # The planted units must be copies in the sum of kernel and adapter.
        for layer in model.layers[:2]:
            layer.enable_lora(2)
            right = random.normal(size=layer.lora_kernel_b.shape)
            right[:, 1] = right[:, 0]
            right[:, 3] = (3.0 if layer.name == "scaled1" else 1.0) * right[:, 2]
            layer.lora_kernel_b.assign(right)

    return model, finish


@row(load={"custom_objects": {"FunctionalSubclass": FunctionalSubclass}})
def functional_subclass():
    return FunctionalSubclass()


@row()
def sparse_input():
    inputs = keras.Input((6,), sparse=True)
    return keras.Model(inputs, Dense(3)(Dense(8, "relu", name="scaled1")(inputs)))


@row(load={"custom_objects": {"Chosen": Chosen}})
def optional_input():
    one, two = keras.Input((6,), name="one"), keras.Input((6,), name="two", optional=True)
    hidden = Dense(8, "relu", name="scaled1")(Chosen()(one, two))
    return keras.Model([one, two], Dense(3)(hidden))


class Unknown:
    """Loss, metric and optimizer that Keras can't load."""

    class Loss(keras.losses.Loss):
        def call(self, y_true, y_pred):
            return keras.ops.mean(keras.ops.abs(y_true - y_pred), axis=-1)

    class Metric(keras.metrics.MeanAbsoluteError):
        pass

    class Optimizer(keras.optimizers.SGD):
        pass


@row(load=None)
def compiled_with_unregistered_objects():
    model = sequential(Dense(8, "relu", name="scaled1"), Dense(3))
    model.compile(Unknown.Optimizer(0.1), Unknown.Loss(), metrics=[Unknown.Metric()])
    return model
