"""Kinds of models whose state or code is not all in configs and weights: nothing of it is lost."""

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from tests.support import kinds
from tests.support.models import dense_chain

layers = keras.layers
Dense = layers.Dense
ROWS = {}
BOUNDS = {}
LOAD = {}  # arguments of load_model; None where Keras itself can't read the file


def row(bound=1e-5, load=()):
    def register(function):
        ROWS[function.__name__] = function
        BOUNDS[function.__name__] = bound
        LOAD[function.__name__] = None if load is None else dict(load)
        return function

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
    """Adds its second input where there is one."""

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
    """The mask reaches the average, so only what isn't padding counts."""
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
    # unit 3 is no exact multiple of unit 2 in float16, so plain copies only
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
              bias_constraint=keras.constraints.MaxNorm(3.0),
              activity_regularizer=keras.regularizers.L1(0.01)),
        Dense(3, kernel_constraint="max_norm"),
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
        # what is planted has to be a copy in the sum of kernel and adapter
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
    """Losses, metrics and optimizers that Keras can't read back."""

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


@pytest.mark.parametrize("name", ROWS)
def test_exactly_the_planted_units_go(name):
    kinds.check_exact(ROWS[name], BOUNDS[name])


@pytest.mark.parametrize("name", ROWS)
def test_half_of_the_units_go(name, tmp_path):
    kinds.check_half(ROWS[name], tmp_path, LOAD[name], BOUNDS[name])


def made(name):
    model = kinds.prepare(ROWS[name])
    return model, dfprune.apply(model, sparsity=0.5)


def test_inputs_keep_their_flags():
    _, pruned = made("optional_input")
    assert [layer.optional for layer in pruned.layers if isinstance(layer, layers.InputLayer)] == [
        False, True,
    ]  # fmt: skip
    x = np.ones((2, 6), "float32")
    assert np.isfinite(pruned([x, None]).numpy()).all()
    _, pruned = made("sparse_input")
    assert pruned.inputs[0].sparse


def test_layers_keep_their_settings():
    model, pruned = made("frozen_layers")
    assert [layer.trainable for layer in pruned.layers] == [False, True, True]
    _, pruned = made("regularizers_and_constraints")
    first, last = pruned.layers
    assert float(first.kernel_regularizer.l2) == pytest.approx(0.01)
    assert first.bias_constraint.max_value == 3.0
    assert float(first.activity_regularizer.l1) == pytest.approx(0.01)
    assert isinstance(last.kernel_constraint, keras.constraints.MaxNorm)
    _, pruned = made("mixed_float16_of_one_layer")
    policies = [layer.dtype_policy.name for layer in pruned.layers]
    assert policies == ["mixed_float16", "mixed_bfloat16", "float32"]
    assert [layer.kernel.dtype for layer in pruned.layers] == ["float32"] * 3


class ForgetsFlags(Registered):
    """A config that leaves the base layer's entries out."""

    def get_config(self):
        return {"factor": self.factor}


def test_frozen_parts_stay_frozen():
    nested = sequential(Dense(7, "relu", name="inner"), layers.Dropout(0.1))
    wrapper = layers.TimeDistributed(Dense(6))
    model = sequential(ForgetsFlags(), nested, layers.RepeatVector(2), wrapper, Dense(3))
    model.layers[0].trainable = nested.trainable = wrapper.layer.trainable = False
    assert len(model.trainable_variables) == 2
    pruned = dfprune.apply(model, sparsity=0.5)
    assert [tuple(variable.shape) for variable in pruned.trainable_variables] == [(3, 3), (3,)]
    assert not pruned.layers[1].trainable and not pruned.layers[3].layer.trainable


def test_functions_stay_the_objects_that_they_were():
    model, pruned = made("function_that_is_only_called_relu")
    assert pruned.layers[0].activation is model.layers[0].activation
    model, pruned = made("unregistered_activation")
    assert pruned.layers[0].activation is bent


def test_adapters_are_folded_and_the_plan_says_so():
    model = kinds.prepare(ROWS["adapters"])
    plan = dfprune.plan(model, sparsity=0.5)
    assert "the LoRA weights of scaled1 are folded into its kernel" in plan.notes
    assert not any(layer.lora_enabled for layer in plan.apply(model).layers)
    assert all(layer.lora_enabled for layer in model.layers[:2])


@pytest.mark.parametrize("adapted", ["fc1", "fc2", "fc4"])
@pytest.mark.parametrize("changes", [{"layers": ["fc2"]}, {"sparsity": {"fc2": 0.0}}], ids=str)
def test_adapters_of_groups_that_stay_whole_are_not_folded(adapted, changes):
    """`Moments` sees those groups, too, for the moments of later ones."""
    model = dense_chain((9, 8, 7, 6, 3))
    model.get_layer(adapted).enable_lora(2)
    plan = dfprune.plan(model, method="moments", **{"sparsity": 0.5, **changes})
    pruned = plan.apply(model)
    assert plan.parameters == (model.count_params(), pruned.count_params())
    folded = not getattr(pruned.get_layer(adapted), "lora_enabled", False)
    assert folded == any("LoRA" in note for note in plan.notes)
    assert folded == (adapted == "fc2" and "layers" in changes)


def test_sharing_is_told():
    plan = dfprune.plan(kinds.prepare(ROWS["layer_without_config"]), sparsity=0.5)
    assert any("both models share it and its variables" in note for note in plan.notes)
    plan = dfprune.plan(kinds.prepare(ROWS["unregistered_layer"]), sparsity=0.5)
    assert plan.notes == ()


@pytest.mark.parametrize("name", ["unregistered_layer", "frozen_layers", "adapted_normalization",
                                  "functional_subclass", "adapters"])  # fmt: skip
def test_nothing_that_can_be_trained_is_shared(name):
    model, pruned = made(name)
    before = [variable.numpy() for variable in model.weights]
    for variable in pruned.weights:
        variable.assign(keras.ops.zeros_like(variable) + 7)
    for variable, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_unregistered_loss_metric_and_optimizer_go_on():
    model, pruned = made("compiled_with_unregistered_objects")
    assert pruned.compiled and isinstance(pruned.loss, Unknown.Loss)
    x, y = np.ones((4, 6), "float32"), np.zeros((4, 3), "float32")
    first, second = (pruned.fit(x, y, verbose=0).history["loss"][0] for _ in range(2))
    assert second < first
    assert model.optimizer.iterations == 0


def test_result_can_be_pruned_again():
    _, pruned = made("masks_through_dense_layers")
    again = dfprune.apply(pruned, sparsity=0.5)
    assert again.count_params() < pruned.count_params()
