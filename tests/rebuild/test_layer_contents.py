"""State and code that are not all in configs and weights are kept in the result."""

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from tests.support import kinds
from tests.support.kinds_of_contents import ROWS, Registered, Unknown, bent, sequential
from tests.support.models import dense_chain

layers = keras.layers
Dense = layers.Dense


@pytest.mark.parametrize("name", ROWS)
def test_exactly_the_planted_units_are_removed(name):
    kinds.check_exact(ROWS[name].build, ROWS[name].bound)


@pytest.mark.parametrize("name", ROWS)
def test_half_of_the_units_are_removed(name, tmp_path):
    kinds.check_half(ROWS[name].build, tmp_path, ROWS[name].load, ROWS[name].bound)


def pruned_by_half(name):
    """Build a row's model; return it and the pruned model."""
    model = kinds.prepare(ROWS[name].build)
    return model, dfprune.apply(model, sparsity=0.5)


def test_inputs_keep_their_flags():
    _, pruned = pruned_by_half("optional_input")
    assert [layer.optional for layer in pruned.layers if isinstance(layer, layers.InputLayer)] == [
        False, True,
    ]  # fmt: skip
    x = np.ones((2, 6), "float32")
    assert np.isfinite(pruned([x, None]).numpy()).all()
    _, pruned = pruned_by_half("sparse_input")
    assert pruned.inputs[0].sparse


def test_layers_keep_their_settings():
    model, pruned = pruned_by_half("frozen_layers")
    assert [layer.trainable for layer in pruned.layers] == [False, True, True]
    _, pruned = pruned_by_half("regularizers_and_constraints")
    first, last = pruned.layers
    assert float(first.kernel_regularizer.l2) == pytest.approx(0.01)
    assert first.bias_constraint.max_value == 3.0
    assert float(first.activity_regularizer.l1) == pytest.approx(0.01)
    assert isinstance(first.kernel_constraint, keras.constraints.NonNeg)
    assert isinstance(last.kernel_regularizer, keras.regularizers.L1)
    _, pruned = pruned_by_half("mixed_float16_of_one_layer")
    policies = [layer.dtype_policy.name for layer in pruned.layers]
    assert policies == ["mixed_float16", "mixed_bfloat16", "float32"]
    assert [layer.kernel.dtype for layer in pruned.layers] == ["float32"] * 3


class ForgetsFlags(Registered):
    """Layer whose config leaves out the entries of its base class."""

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
    model, pruned = pruned_by_half("function_that_is_only_called_relu")
    assert pruned.layers[0].activation is model.layers[0].activation
    model, pruned = pruned_by_half("unregistered_activation")
    assert pruned.layers[0].activation is bent


def test_adapters_are_folded_and_the_plan_says_so():
    model = kinds.prepare(ROWS["adapters"].build)
    plan = dfprune.plan(model, sparsity=0.5)
    assert "the LoRA weights of scaled1 are folded into its kernel" in str(plan)
    assert not any(layer.lora_enabled for layer in plan.apply(model).layers)
    assert all(layer.lora_enabled for layer in model.layers[:2])


@pytest.mark.parametrize("adapted", ["fc1", "fc2", "fc4"])
@pytest.mark.parametrize("changes", [{"layers": ["fc2"]}, {"sparsity": {"fc2": 0.0}}], ids=str)
def test_adapters_of_groups_that_stay_whole_are_not_folded(adapted, changes):
    """`Moments` scores these groups too, because later groups need their moments."""
    model = dense_chain((9, 8, 7, 6, 3))
    model.get_layer(adapted).enable_lora(2)
    plan = dfprune.plan(model, method="moments", **{"sparsity": 0.5, **changes})
    pruned = plan.apply(model)
    assert plan.parameters == (model.count_params(), pruned.count_params())
    folded = adapted == "fc2" and "layers" in changes
    assert pruned.get_layer(adapted).lora_enabled != folded
    assert any("LoRA" in note for note in plan.notes) == folded


def test_the_plan_says_which_variables_are_shared():
    plan = dfprune.plan(kinds.prepare(ROWS["layer_without_config"].build), sparsity=0.5)
    assert any("both models share it and its variables" in note for note in plan.notes)
    plan = dfprune.plan(kinds.prepare(ROWS["unregistered_layer"].build), sparsity=0.5)
    assert plan.notes == ()


@pytest.mark.parametrize("name", ["unregistered_layer", "frozen_layers", "adapted_normalization",
                                  "functional_subclass", "adapters"])  # fmt: skip
def test_nothing_that_can_be_trained_is_shared(name):
    model, pruned = pruned_by_half(name)
    before = [variable.numpy() for variable in model.weights]
    for variable in pruned.weights:
        variable.assign(keras.ops.zeros_like(variable) + 7)
    for variable, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_unregistered_loss_metric_and_optimizer_are_carried_over():
    model, pruned = pruned_by_half("compiled_with_unregistered_objects")
    assert pruned.compiled and isinstance(pruned.loss, Unknown.Loss)
    x, y = np.ones((4, 6), "float32"), np.zeros((4, 3), "float32")
    first, second = (pruned.fit(x, y, verbose=0).history["loss"][0] for _ in range(2))
    assert second < first
    assert model.optimizer.iterations == 0


def test_result_can_be_pruned_again():
    _, pruned = pruned_by_half("masks_through_dense_layers")
    again = dfprune.apply(pruned, sparsity=0.5)
    assert again.count_params() < pruned.count_params()
