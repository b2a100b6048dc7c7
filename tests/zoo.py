"""The kinds of models that users have: builders by name, for `test_zoo.py`."""

import keras
import numpy as np

layers = keras.layers
relu = "relu"


def sequential(*steps, shape=(6,)):
    return keras.Sequential([keras.Input(shape), *steps])


def deferred():
    model = keras.Sequential([layers.Dense(8, relu), layers.Dense(3)])
    model(np.ones((2, 6), "float32"))
    return model


def nested_twice():
    inner = sequential(layers.Dense(8, relu, name="fc"), layers.Dense(5, relu), shape=(7,))
    inputs = keras.Input((6,))
    middle = keras.Model(inputs, inner(layers.Dense(7, relu, name="fc")(inputs)), name="middle")
    outer = keras.Input((6,))
    return keras.Model(outer, layers.Dense(2)(middle(outer)))


def shared_layers():
    one, two = keras.Input((6,)), keras.Input((6,))
    first, second = layers.Dense(8, relu), layers.Dense(5, relu)
    joined = layers.Concatenate()([second(first(one)), second(first(two))])
    return keras.Model([one, two], layers.Dense(2)(joined))


def shared_model():
    inner = sequential(layers.Dense(8, relu), layers.Dense(5, relu))
    one, two = keras.Input((6,)), keras.Input((6,))
    return keras.Model([one, two], layers.Dense(2)(layers.Concatenate()([inner(one), inner(two)])))


def dicts():
    one, two = keras.Input((6,), name="one"), keras.Input((4,), name="two")
    hidden = layers.Dense(8, relu)(one)
    other = layers.Concatenate()([hidden, two, hidden])
    outputs = {"a": layers.Dense(2, name="a")(other), "b": layers.Dense(3, name="b")(hidden)}
    return keras.Model({"one": one, "two": two}, outputs)


def subclass():
    class Chain(keras.Model):
        def __init__(self):
            inputs = keras.Input((6,))
            hidden = layers.Dense(8, relu, kernel_regularizer="l2", kernel_constraint="non_neg",
                                  activity_regularizer="l1")(inputs)  # fmt: skip
            super().__init__(inputs=inputs, outputs=layers.Dense(2)(hidden))

    return Chain()


def lora():
    model = sequential(layers.Dense(8, relu), layers.Dense(7, relu), layers.Dense(2))
    for layer in model.layers[:2]:
        layer.enable_lora(2)
    return model


def words():
    lookup = layers.StringLookup()
    lookup.adapt(np.array([["a"], ["b"], ["c"]]))
    inputs = keras.Input((1,), dtype="string")
    hidden = layers.Flatten()(layers.Embedding(10, 4)(lookup(inputs)))
    return keras.Model(inputs, layers.Dense(2)(layers.Dense(8, relu)(hidden)))


def vocabulary():
    inputs = keras.Input((1,), dtype="string")
    found = layers.StringLookup(vocabulary=["a", "b"], output_mode="one_hot")(inputs)
    return keras.Model(inputs, layers.Dense(2)(layers.Dense(8, relu)(found)))


def normalized():
    layer = layers.Normalization()
    layer.adapt(np.random.default_rng(0).normal(3, 2, (50, 6)))
    return sequential(layer, layers.Dense(8, relu), layers.Dense(2))


def masked():
    inputs = keras.Input((5,), dtype="int32")
    hidden = layers.Embedding(7, 6, mask_zero=True)(inputs)
    hidden = layers.LSTM(5, return_sequences=True)(hidden)
    hidden = layers.TimeDistributed(layers.Dense(8, relu))(hidden)
    hidden = layers.Dense(6, relu)(layers.Dropout(0.1)(hidden))
    hidden = layers.GlobalAveragePooling1D()(hidden)
    return keras.Model(inputs, layers.Dense(2)(layers.Dense(7, relu)(hidden)))


def several_outputs_of_a_layer():
    inputs = keras.Input((5, 3))
    sequence, state, _ = layers.LSTM(4, return_sequences=True, return_state=True)(inputs)
    hidden = layers.Dense(8, relu)(layers.Concatenate()([layers.Flatten()(sequence), state]))
    return keras.Model(inputs, layers.Dense(2)(hidden))


def attention():
    inputs = keras.Input((4, 6))
    hidden = layers.MultiHeadAttention(2, 3)(query=inputs, value=inputs, key=inputs)
    hidden = layers.LayerNormalization()(layers.Add()([hidden, inputs]))
    feed = layers.Dense(6)(layers.Dense(12, "gelu")(hidden))
    return keras.Model(inputs, layers.Add()([hidden, feed]))


def from_intermediate():
    whole = sequential(layers.Dense(9, relu), layers.Dense(8, relu), layers.Dense(2))
    return keras.Model(whole.layers[0].output, whole.outputs[0])


def training_false():
    inputs = keras.Input((6,))
    hidden = layers.BatchNormalization()(layers.Dense(8)(inputs), training=False)
    return keras.Model(inputs, layers.Dense(2)(layers.ReLU()(hidden)))


def operations():
    inputs = keras.Input((6,))
    hidden = keras.ops.relu(layers.Dense(8)(inputs))
    hidden = 2.0 * hidden - 1 + np.arange(8, dtype="float32")
    other = layers.Dense(5, relu)(keras.ops.take(inputs, [0, 2, 3], axis=-1))
    joined = keras.ops.concatenate([hidden, other[:, :5]], -1)
    return keras.Model(inputs, layers.Dense(2)(joined))


def optional():
    class Either(layers.Layer):
        def call(self, one, two=None):
            return one if two is None else one + two

        def compute_output_shape(self, one_shape, two_shape=None):
            return one_shape

    one, two = keras.Input((6,), name="one"), keras.Input((6,), name="two", optional=True)
    hidden = layers.Dense(8, relu)(Either()(one, two))
    return keras.Model([one, two], layers.Dense(2)(hidden))


def sparse():
    inputs = keras.Input((6,), sparse=True)
    return keras.Model(inputs, layers.Dense(2)(layers.Dense(8, relu)(inputs)))


def own_activation():
    def relu(x):  # not what its name says
        return keras.ops.tanh(x)

    return sequential(layers.Dense(8, relu), layers.Dense(2, "softmax"))


@keras.saving.register_keras_serializable("tests")
class Registered(layers.Layer):
    def call(self, x):
        return x * 2


class Weighted(layers.Layer):
    """Not registered, with weights."""

    def build(self, shape):
        self.weight = self.add_weight(shape=(shape[-1],))

    def call(self, x):
        return x * self.weight


class WithoutConfig(Weighted):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def get_config(self):
        raise NotImplementedError


def own_compile():
    class Loss(keras.losses.Loss):
        def call(self, y, prediction):
            return keras.ops.mean(keras.ops.abs(y - prediction), -1)

    class Optimizer(keras.optimizers.SGD):
        pass

    model = sequential(layers.Dense(8, relu), layers.Dense(2))
    model.compile(Optimizer(0.1), Loss(), metrics=[lambda y, p: keras.ops.mean(y - p)])
    return model


def mixed_bfloat16():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        return sequential(layers.Dense(8, relu), layers.Dense(2))
    finally:
        keras.config.set_dtype_policy("float32")


def frozen():
    model = sequential(layers.Dense(8, relu), layers.Dense(7, relu), layers.Dense(2))
    model.trainable = False
    return model


def simple(*upstream, activation=relu, **arguments):
    return lambda: sequential(
        *[make() for make in upstream], layers.Dense(8, activation, **arguments), layers.Dense(2)
    )


def trunk():
    return sequential(layers.Conv2D(4, 3, activation=relu), layers.MaxPooling2D(), layers.Flatten(),
                      layers.Dense(8, relu), layers.Dense(2), shape=(8, 8, 1))  # fmt: skip


# name: (builder, number of groups that are pruned)
EXACT = {
    "sequential": (simple(), 1),
    "deferred": (deferred, 1),
    "nested twice, equal names": (nested_twice, 3),
    "shared layers": (shared_layers, 2),
    "shared model": (shared_model, 2),
    "dicts, two heads, the same tensor twice": (dicts, 1),
    "functional subclass with regularizers": (subclass, 1),
    "adapters": (lora, 2),
    "adapted lookup": (words, 1),
    "lookup with vocabulary": (vocabulary, 1),
    "adapted normalization": (normalized, 1),
    "masks": (masked, 3),
    "several outputs of a layer": (several_outputs_of_a_layer, 1),
    "attention upstream": (attention, 1),
    "from an intermediate tensor": (from_intermediate, 1),
    "training=False": (training_false, 1),
    "operations": (operations, 1),
    "optional input": (optional, 1),
    "sparse input": (sparse, 1),
    "unregistered activation": (own_activation, 1),
    "lambda activation": (
        simple(activation=lambda x: keras.activations.relu(x, 0.1, max_value=20)), 1),
    "python Lambda upstream": (simple(lambda: layers.Lambda(lambda x: x + 1)), 1),
    "registered custom layer": (simple(Registered), 1),
    "unregistered custom layer": (simple(Weighted), 1),
    "layer without config": (simple(lambda: WithoutConfig(2)), 1),
    "unregistered loss and optimizer": (own_compile, 1),
    "half precision by layer": (simple(dtype="mixed_float16"), 1),
    "mixed_bfloat16": (mixed_bfloat16, 1),
    "double precision": (simple(dtype="float64"), 1),
    "frozen": (frozen, 2),
    "convolutional trunk": (trunk, 2),
    "zero biases": (simple(lambda: layers.Dense(8, relu)), 2),
    "no biases": (simple(use_bias=False), 1),
    "layers with names of their own": (simple(name="my_layer"), 1),
}  # fmt: skip


class OwnDense(layers.Dense):
    """Could compute anything."""


class Opaque(keras.Model):
    def __init__(self):
        super().__init__()
        self.inner = layers.Dense(8)

    def call(self, x):
        return self.inner(x)


def quantized():
    model = sequential(layers.Dense(8, relu), layers.Dense(7, relu), layers.Dense(2))
    model.layers[1].quantize("int8")
    return model


def between(*steps, shape=(6,)):
    return lambda: sequential(layers.Dense(8, relu, name="fc"), *[make() for make in steps],
                              layers.Dense(2), shape=shape)  # fmt: skip


def residual():
    inputs = keras.Input((6,))
    hidden = layers.Dense(6, relu, name="fc")(inputs)
    return keras.Model(inputs, layers.Dense(2)(hidden + inputs))


def residual_layer():
    inputs = keras.Input((6,))
    hidden = layers.Dense(6, relu, name="fc")(inputs)
    return keras.Model(inputs, layers.Dense(2)(layers.Add()([hidden, inputs])))


def attended():
    inputs = keras.Input((4, 6))
    hidden = layers.Dense(8, relu, name="fc")(inputs)
    return keras.Model(inputs, layers.MultiHeadAttention(2, 3)(hidden, hidden))


def hidden_output():
    inputs = keras.Input((6,))
    hidden = layers.Dense(8, relu, name="fc")(inputs)
    return keras.Model(inputs, [hidden, layers.Dense(2)(hidden)])


def different_units():
    inputs = keras.Input((6,))
    consumer = layers.Dense(2, name="consumer")
    one, two = layers.Dense(8, relu, name="fc")(inputs), layers.Dense(8, relu)(inputs)
    return keras.Model(inputs, consumer(one) + consumer(two))


def tied():
    class Tied(layers.Layer):
        def __init__(self, other):
            super().__init__(name="tied")
            self.other = other

        def call(self, x):
            return keras.ops.matmul(x, keras.ops.transpose(self.other.kernel))

    inputs = keras.Input((6,))
    first = layers.Dense(8, relu, name="fc")
    return keras.Model(inputs, Tied(first)(layers.Dense(8)(first(inputs))))


def two_ways():
    inputs = keras.Input((6,))
    hidden = layers.Dense(8, name="fc")(inputs)
    return keras.Model(inputs, [layers.Dense(2)(hidden), layers.Dense(2)(layers.ReLU()(hidden))])


def stacked():
    inputs = keras.Input((3, 6))
    hidden = layers.Dense(6, relu, name="fc")(inputs)
    return keras.Model(inputs, layers.Dense(2)(layers.Concatenate(axis=1)([hidden, inputs])))


def sliced():
    inputs = keras.Input((6,))
    hidden = layers.Dense(8, relu, name="fc")(inputs)
    return keras.Model(inputs, layers.Dense(2)(hidden[:, :4]))


def random_at_inference(make):
    def build():
        inputs = keras.Input((6,))
        hidden = make()(layers.Dense(8, relu, name="fc")(inputs), training=True)
        return keras.Model(inputs, layers.Dense(2)(hidden))

    return build


def not_finite():
    model = sequential(layers.Dense(8, relu, name="fc"), layers.Dense(2))
    model.get_layer("fc").bias.assign(np.full(8, np.nan))
    return model


def one_unit():
    return sequential(layers.Dense(1, relu, name="fc"), layers.Dense(2))


def softmax():
    return sequential(layers.Dense(8, "softmax", name="fc"), layers.Dense(2))


# name: (builder, pattern of the reason why `fc` stays whole)
REFUSED = {
    "softmax": (softmax, "its activation can't be used: .*softmax"),
    "softmax layer": (between(layers.Softmax), r"feeds softmax\S* \(Softmax\), which .*softmax"),
    "layer normalization": (between(layers.LayerNormalization), "mixes all units"),
    "reshape": (between(lambda: layers.Reshape((2, 4)), layers.Flatten), "rearranges units"),
    "lambda": (between(lambda: layers.Lambda(lambda x: x)), "can't be seen through"),
    "recurrent": (
        between(lambda: layers.LSTM(3), shape=(5, 6)), r"\(LSTM\), which has weights of its own"),
    "attention": (attended, r"\(MultiHeadAttention\), which has weights of its own"),
    "custom layer": (between(Weighted), r"\(Weighted\), which is a custom layer"),
    "Dense subclass": (between(lambda: OwnDense(4)), r"\(OwnDense\), which is a custom layer"),
    "subclassed model": (between(Opaque), "is a subclassed model"),
    "residual": (residual, r"\(Add\), which combines the units with another tensor"),
    "residual layer": (residual_layer, r"\(Add\), which ties its inputs together"),
    "output": (hidden_output, "its units are an output of the model"),
    "different units": (different_units, "consumer, a shared consumer that is called on other"),
    "tied by reference": (tied, "it shares its weights with tied"),
    "different activations": (two_ways, "different activations on their ways to"),
    "another axis": (stacked, "concatenates along another axis"),
    "slice": (sliced, "takes only a part of the tensor"),
    "normalization in training": (
        random_at_inference(layers.BatchNormalization), "called with training=True"),
    "dropout in training": (
        random_at_inference(lambda: layers.Dropout(0.1)), "called with training=True"),
    "not finite": (not_finite, "weights that are not finite"),
    "one unit": (one_unit, "fewer than two units"),
}  # fmt: skip
