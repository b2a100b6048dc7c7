"""Build small random functional models of every layer that units can pass."""

import keras

from keras_dfprune.graph.keras_private import take_up

layers, constraints = keras.layers, keras.constraints
ACTIVATIONS = ("relu", "tanh", "linear", "leaky_relu", "sigmoid", "elu", "gelu")


class Counting(layers.Layer):
    """Layer with a state: adds how often it was called. Its units can't be followed."""

    def build(self, shape):
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x):
        self.calls.assign_add(1.0)
        return x + self.calls


class Noisy(layers.Layer):
    """Layer that is random at inference."""

    def __init__(self, **options):
        super().__init__(**options)
        self.generator = keras.random.SeedGenerator(1)

    def call(self, x):
        return x + keras.random.normal(keras.ops.shape(x), seed=self.generator)


class Opaque(layers.Layer):
    """Layer that calls layers of its own, and has no rule."""

    def __init__(self, units, **options):
        super().__init__(**options)
        self.inner = layers.Dense(units, "relu")

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x):
        return self.inner(x)

    def get_config(self):
        return {**super().get_config(), "units": self.inner.units}


class Overriding(keras.Model):
    """Functional model with a step of its own."""

    def predict_step(self, data):
        return 2.0 * super().predict_step(data)


class Builder:
    """Builder of a random functional model; `flat` and `wide` hold tensors of rank 2 and 3."""

    def __init__(self, random):
        self.random = random
        self.inputs = [keras.Input((5,), name="flat"), keras.Input((6, 3), name="sequence")]
        self.inputs.append(keras.Input((6,), dtype="int32", name="tokens"))
        self.flat = [self.inputs[0]]
        self.wide = [self.inputs[1]]
        self.unused = []

    def pick(self, *options):
        return options[self.random.integers(len(options))]

    def recent(self, tensors):
        """Pick the last tensor most of the time, else any."""
        return tensors[-1] if self.random.random() < 0.7 else self.pick(*tensors)

    def build(self):
        self.dense()
        self.convolution()
        for _ in range(self.random.integers(6, 13)):
            getattr(self, self.pick(*STEPS))()
        self.flat.append(layers.Flatten()(self.wide[-1]))
        joined = layers.Concatenate()([self.flat[-1], self.flat[-2]])
        outputs = [layers.Dense(3)(joined), layers.Dense(2)(self.recent(self.flat))]
        kind = self.pick(*4 * [keras.Model], Overriding)
        for symbol in self.inputs:
            take_up(symbol)
        return kind(self.inputs, outputs)

    def units(self):
        return int(self.random.integers(3, 8))

    def dense(self):
        bias = bool(self.random.random() < 0.7)
        layer = layers.Dense(self.units(), self.pick(*ACTIVATIONS), use_bias=bias)
        target = self.pick(self.flat, self.wide)
        target.append(layer(self.recent(target)))

    def dense_then_normalization(self):
        target = self.pick(self.flat, self.wide)
        hidden = layers.Dense(self.units(), use_bias=False)(self.recent(target))
        hidden = layers.BatchNormalization(scale=bool(self.random.random() < 0.8))(hidden)
        target.append(layers.Activation(self.pick("relu", "tanh"))(hidden))

    def normalization(self):
        target = self.pick(self.flat, self.wide)
        target.append(
            layers.BatchNormalization(center=bool(self.random.random() < 0.8))(target[-1])
        )

    def activation(self):
        target = self.pick(self.flat, self.wide)
        layer = self.pick(
            layers.ReLU(), layers.ReLU(max_value=2.0), layers.LeakyReLU(0.1), layers.ELU(),
            layers.Activation("softplus"), layers.PReLU(), layers.PReLU(shared_axes=[1]),
            layers.PReLU("uniform"),
        )  # fmt: skip
        target.append(layer(self.recent(target)))

    def operation(self):
        target = self.pick(self.flat, self.wide)
        function = self.pick(keras.ops.relu, keras.ops.tanh, keras.ops.silu, keras.ops.abs)
        target.append(function(self.recent(target)))

    def arithmetic(self):
        target = self.pick(self.flat, self.wide)
        tensor = self.recent(target)
        vector = self.random.normal(1, 0.2, tensor.shape[-1]).astype("float32")
        vector[1] = vector[0]  # so that copies stay copies behind it
        target.append(self.pick(2.0 * tensor, tensor - 0.5, 1.0 - tensor, tensor * vector,
                                tensor + vector, tensor / vector))  # fmt: skip

    def passing(self):
        target = self.pick(self.flat, self.wide)
        layer = self.pick(layers.Dropout(0.3), layers.Identity(), layers.GaussianNoise(0.1))
        target.append(layer(self.recent(target)))

    def concatenate(self):
        target = self.flat
        if self.random.random() < 0.3:
            target.append(layers.Concatenate()([target[-1], target[-1]]))
        else:
            target.append(keras.ops.concatenate([self.recent(target), target[-1]], axis=-1))

    def convolution(self):
        padding = self.pick("same", "valid") if self.wide[-1].shape[1] > 3 else "same"
        bias = bool(self.random.random() < 0.6)
        activation = self.pick("relu", "linear", "tanh")
        options = {"padding": padding, "activation": activation, "use_bias": bias}
        kind = self.pick(layers.Conv1D, layers.SeparableConv1D)
        if kind is layers.SeparableConv1D:
            options["depth_multiplier"] = int(self.random.integers(1, 3))
        layer = kind(self.units(), 3, **options)
        hidden = layer(self.wide[-1])
        if self.random.random() < 0.4:
            hidden = layers.ReLU()(layers.BatchNormalization()(hidden))
        self.wide.append(hidden)

    def groups_of_channels(self):
        """Add a convolution in groups, perhaps behind one that isn't, or in other groups."""
        groups = self.pick(2, 3)
        hidden = self.recent(self.wide)
        if hidden.shape[-1] % (2 * groups) or self.random.random() < 0.6:
            units = 2 * groups * self.pick(1, 2)
            hidden = layers.Dense(units, self.pick("relu", "tanh"))(hidden)
        for times in self.pick((1,), (1, 2), (2, 1)):
            bias, filters = bool(self.random.random() < 0.6), 2 * groups * self.pick(1, 2)
            options = {"padding": "same", "use_bias": bias}
            hidden = layers.Conv1D(filters, 2, groups=groups * times, **options)(hidden)
            if self.random.random() < 0.4:
                hidden = layers.BatchNormalization()(hidden)
            hidden = layers.Activation(self.pick("relu", "tanh"))(hidden)
        self.wide.append(hidden)

    def transposed(self):
        padding, strides = self.pick("same", "valid"), int(self.random.integers(1, 3))
        layer = layers.Conv1DTranspose(
            self.units(), self.pick(1, 2, 3), strides=strides, padding=padding,
            output_padding=self.pick(None, 0), activation=self.pick("relu", "linear", "tanh"),
            use_bias=bool(self.random.random() < 0.6),
        )  # fmt: skip
        hidden = layer(self.recent(self.wide))
        if self.random.random() < 0.4:
            hidden = layers.ReLU()(layers.BatchNormalization()(hidden))
        self.wide.append(hidden)

    def depthwise(self):
        multiplier = int(self.random.integers(1, 3))
        layer = layers.DepthwiseConv1D(2, padding="same", depth_multiplier=multiplier)
        self.wide.append(layers.ReLU()(layer(self.wide[-1])))

    def positions(self):
        tensor = self.wide[-1]
        options = [layers.ZeroPadding1D(1), layers.UpSampling1D(2), layers.TimeDistributed(
            layers.Dense(self.units(), "relu"))]  # fmt: skip
        options += [lambda x: layers.Permute((2, 1))(layers.ReLU()(layers.Permute((2, 1))(x)))]
        options += [lambda x: keras.ops.transpose(keras.ops.transpose(x, (0, 2, 1)), (0, 2, 1))]
        options += [lambda x: keras.ops.pad(x, ((0, 0), (1, 0), (0, 0)))]
        if tensor.shape[1] > 4:
            options += [lambda x: keras.ops.pad(x, ((0, 0), (0, 1), (0, 0)), mode="reflect")]
            options += [layers.AveragePooling1D(2), layers.Cropping1D(1)]
            options += [layers.MaxPooling1D(2), layers.MaxPooling1D(2, padding="same")]
        self.wide.append(self.pick(*options)(tensor))

    def flatten(self):
        tensor = self.recent(self.wide)
        layer = self.pick(
            layers.Flatten(), layers.Flatten(data_format="channels_first"),
            layers.GlobalAveragePooling1D(), layers.GlobalMaxPooling1D(), layers.Reshape((-1,)),
            lambda x: keras.ops.reshape(x, (-1, x.shape[1] * x.shape[2])),
        )  # fmt: skip
        if self.random.random() < 0.5:
            layer = self.pick(
                lambda x: x[:, -1], lambda x: x[:, 0, :], lambda x: keras.ops.mean(x, axis=-2),
                lambda x: keras.ops.sum(x, axis=1), lambda x: keras.ops.max(x, axis=[1]),
                lambda x: keras.ops.squeeze(keras.ops.max(x, axis=1, keepdims=True), 1),
            )  # fmt: skip
        self.flat.append(layer(tensor))

    def repeat(self):
        tensor = self.recent(self.flat)
        wide = [layers.RepeatVector(5), layers.Reshape((1, tensor.shape[-1]))]
        wide.append(lambda x: keras.ops.expand_dims(x, -2))
        self.wide.append(self.pick(*wide)(tensor))

    def spread(self):
        """Add a Dense layer whose units are the positions and channels of a sequence."""
        positions, units = int(self.random.integers(2, 4)), self.units()
        hidden = layers.Dense(positions * units, self.pick(*ACTIVATIONS))(self.recent(self.flat))
        if self.random.random() < 0.5:
            hidden = layers.ReLU()(layers.BatchNormalization()(hidden))
        self.wide.append(layers.Reshape((positions, units))(hidden))

    def shared(self):
        layer = layers.Dense(self.units(), "relu")
        first = layers.Dense(4, "tanh")
        two = [first(self.inputs[0]), first(keras.ops.negative(self.inputs[0]))]
        self.flat.append(layers.Concatenate()([layer(two[0]), layer(two[1])]))

    def embedding(self):
        self.wide.append(layers.Embedding(7, self.units())(self.inputs[2]))

    def einsum(self):
        units, activation = self.units(), self.pick(*ACTIVATIONS)
        bias = self.pick("c", None)
        layer = layers.EinsumDense("...b,bc->...c", units, activation, bias_axes=bias)
        target = self.pick(self.flat, self.wide)
        target.append(layer(self.recent(target)))

    def recurrent(self):
        kind, units = self.pick(layers.LSTM, layers.GRU, layers.SimpleRNN), self.units()
        bias, sequences = bool(self.random.random() < 0.7), bool(self.random.random() < 0.5)
        options = {"reset_after": bool(units % 2)} if kind is layers.GRU else {}
        layer = kind(units, use_bias=bias, return_sequences=sequences, **options)
        if self.random.random() < 0.3:
            layer = layers.Bidirectional(layer, ("concat", "sum", "mul", "ave")[units % 4])
        (self.wide if sequences else self.flat).append(layer(self.recent(self.wide)))

    def attention(self):
        tensor = self.recent(self.wide)
        attended = tensor if self.random.random() < 0.7 else self.recent(self.wide)
        options = self.pick({}, {"value_dim": 4}, {"dropout": 0.1}, {"output_shape": 5})
        bias = bool(self.random.random() < 0.7)
        layer = layers.MultiHeadAttention(2, 3, use_bias=bias, **options)
        self.wide.append(layer(tensor, attended))

    def residual(self):
        target = self.pick(self.flat, self.wide)
        tensor = self.recent(target)
        if self.random.random() < 0.6:  # else the tensor may be an input or a concatenation
            tensor = layers.Dense(self.units(), self.pick("relu", "linear"))(tensor)
        branch = layers.Dense(tensor.shape[-1], self.pick("relu", "linear", "tanh"))(tensor)
        if self.random.random() < 0.4:
            branch = layers.BatchNormalization()(branch)
        joined = self.join(tensor, branch)
        target.append(layers.ReLU()(joined) if self.random.random() < 0.7 else joined)

    def gate(self):
        tensor, units = self.recent(self.flat), self.units()
        gate = layers.Dense(units, self.pick("sigmoid", "relu"))(tensor)
        self.flat.append(self.join(gate, layers.Dense(units)(self.recent(self.flat))))

    def squeeze(self):
        tensor = self.recent(self.wide)
        squeezed = layers.GlobalAveragePooling1D(keepdims=True)(tensor)
        hidden = layers.Dense(self.units(), "relu")(squeezed)
        gate = layers.Dense(tensor.shape[-1], self.pick("sigmoid", "hard_sigmoid"))(hidden)
        self.wide.append(self.pick(layers.Multiply()([tensor, gate]), gate * tensor))

    def projection(self, tensor, units, activation=None):
        bias = bool(self.random.random() < 0.7)
        if self.random.random() < 0.6:
            return layers.Dense(units, activation, use_bias=bias)(tensor)
        shape, axes = (tensor.shape[1], units), "d" if bias else None
        layer = layers.EinsumDense("abc,cd->abd", shape, activation, bias_axes=axes)
        return layer(tensor)

    def transformer(self):
        """Add attention and a feed-forward block, each with a residual connection."""
        tensor = self.recent(self.wide)
        if self.random.random() < 0.5:
            tensor = self.projection(tensor, tensor.shape[-1])
        if self.random.random() < 0.5:
            normal = layers.LayerNormalization()(tensor)
            tensor = tensor + layers.MultiHeadAttention(2, 3)(normal, normal)
        hidden = layers.LayerNormalization()(tensor) if self.random.random() < 0.6 else tensor
        units, activation = self.units(), self.pick("gelu", "silu", "relu")
        if self.random.random() < 0.5:
            hidden = self.projection(hidden, units, activation)
        else:
            up, gate = self.projection(hidden, units), self.projection(hidden, units)
            hidden = up * layers.Activation(activation)(gate)
        outputs = self.projection(layers.Dropout(0.1)(hidden), tensor.shape[-1])
        self.wide.append(layers.Add()([tensor, outputs]))

    def constrained(self):
        """Add a Dense layer, and one that takes its units, with constraints."""
        target = self.pick(self.flat, self.wide)
        for _ in range(2):
            layer = layers.Dense(
                self.units(),
                self.pick("relu", "tanh"),
                kernel_constraint=self.pick(
                    None, constraints.UnitNorm(), constraints.UnitNorm(axis=1),
                    constraints.MaxNorm(1.0), constraints.NonNeg(),
                    constraints.MinMaxNorm(0.5, 1.0),
                ),
                bias_constraint=self.pick(None, constraints.NonNeg()),
            )  # fmt: skip
            target.append(layer(self.recent(target)))

    def tied(self):
        """Use a layer's variable outside of the layer."""
        tensor = self.recent(self.flat)
        layer = layers.Dense(self.units(), "relu")
        hidden = layer(tensor)
        if self.random.random() < 0.5:
            self.flat.append(hidden + layer.bias)
        else:
            self.flat.append(keras.ops.matmul(hidden, keras.ops.transpose(layer.kernel)))

    def without_rule(self):
        """Add a layer with a state, a random one, or one with layers inside."""
        target = self.pick(self.flat, self.wide)
        layer = self.pick(Counting(), Noisy(), Opaque(self.units()))
        target.append(layer(self.recent(target)))

    def join(self, left, right):
        layer = self.pick(layers.Add(), layers.Multiply(), layers.Average(), layers.Maximum(),
                          layers.Subtract(), None)  # fmt: skip
        if layer is None:
            return self.pick(left + right, left * right, left - right)
        return layer([left, right])

    def nested(self):
        tensor = self.recent(self.flat)
        inner = keras.Sequential(
            [keras.Input(tensor.shape[1:]), layers.Dense(self.units(), "relu"),
             layers.BatchNormalization(), layers.Dense(self.units(), "tanh")]
        )  # fmt: skip
        self.flat.append(inner(tensor))


STEPS = ("dense", "dense", "dense_then_normalization", "normalization", "activation", "activation",
         "operation", "arithmetic", "passing", "concatenate", "convolution",
         "groups_of_channels", "groups_of_channels", "transposed", "depthwise",
         "depthwise", "positions", "positions", "positions", "positions", "positions", "flatten",
         "repeat", "repeat", "spread",
         "shared", "nested", "nested", "residual", "residual", "gate", "embedding", "einsum",
         "recurrent", "attention", "squeeze", "transformer", "transformer",
         "constrained", "tied", "without_rule")  # fmt: skip
